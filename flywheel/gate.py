"""Gate: whether a candidate may replace the champion, from what was measured of candidate, champion and base.

Seven lines, each switched by `gate.lines`, each a comparison with an interval (docs/collapse.md says why these):

    pass_1       dev pass@1 against the champion's
    pass_k       dev pass@k against the base's, k being the samples that were evaluated
    paths        how varied the right paths to a dev problem are, as a ratio to the base
    markers      epistemic markers a token on dev, as a ratio to the base, where the base has them
    ood          pass@1 of each out-of-distribution set against the base's
    cut_off      share of dev completions that ran into the token limit
    missing_end  share of dev completions without an end
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.intervals import rate_ratio, ratio_of_means, share_interval
from flywheel.measures.passk import counts_in, paired_difference
from flywheel.recipe import EvaluateSection, GateSection

Metrics = Mapping[str, Any]
"""What stands in a generation's `metrics.json`."""

MIN_PROBLEMS = 8
"""Problems with enough right answers that the line `paths` asks of both sides: a bootstrap over fewer tells little."""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. It fails when the whole interval of `value` lies beyond `limit`.

    `kind` says what `value` is: a `difference` of rates (candidate minus reference), a `ratio` (candidate over
    reference), both of which fail below the limit, or a `share`, which fails above it. `passed` is None,
    and `note` says why, where nothing could be judged.
    """

    line: str
    what: str
    against: str
    kind: str
    limit: float
    candidate: float | None = None
    reference: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    passed: bool | None = None
    note: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Accept or reject, with every check behind it; `gate.json` is this."""

    accepted: bool
    reasons: list[str]
    checks: list[Check]

    def as_json(self) -> dict[str, Any]:
        """The decision as JSON-shaped data."""
        return asdict(self)


def decide(
    candidate: Metrics,
    champion: Metrics,
    base: Metrics,
    *,
    gate: GateSection,
    evaluate: EvaluateSection,
    seed: int,
) -> Decision:
    """Accept a candidate that is not worse than the champion and not narrower than the base.

    Each argument is the content of a `metrics.json`; the same problems were asked of all three. Reasons
    are the failed checks of a rejected candidate, and all checks of an accepted one. What could not be
    judged rejects nobody, but for dev pass@1: without it there is nothing to accept.
    """
    measured = _Measured(candidate, champion, base, gate, evaluate, seed)
    checks = [check for line, judge in _LINES.items() if line in gate.lines for check in judge(measured)]
    failed = [c.words for c in checks if c.passed is False or (c.passed is None and c.line == "pass_1")]
    if not gate.enabled:
        missed = (
            f"it would have rejected this one: {'; '.join(failed)}" if failed else "it would have accepted this one"
        )
        return Decision(True, [f"the gate is off, so every candidate is accepted; {missed}"], checks)
    return Decision(not failed, failed or [check.words for check in checks], checks)


@dataclass(frozen=True, slots=True)
class _Measured:
    candidate: Metrics
    champion: Metrics
    base: Metrics
    gate: GateSection
    evaluate: EvaluateSection
    seed: int


# ---- the lines -----------------------------------------------------------------------------------


def _pass_1(m: _Measured) -> Iterator[Check]:
    yield _difference(m, "pass_1", "dev", 1, m.champion, "champion", m.gate.pass_1_margin)


def _pass_k(m: _Measured) -> Iterator[Check]:
    if m.evaluate.samples > 1:
        yield _difference(m, "pass_k", "dev", m.evaluate.samples, m.base, "base", m.gate.pass_k_margin)


def _ood(m: _Measured) -> Iterator[Check]:
    for label in m.candidate.get("ood", {}):
        yield _difference(m, "ood", label, 1, m.base, "base", m.gate.ood_margin)


def _paths(m: _Measured) -> Iterator[Check]:
    line = _Line("paths", "variety of right paths on dev", "base", "ratio", m.gate.paths_ratio)
    ours, theirs = path_variety(m.candidate["dev"]), path_variety(m.base["dev"])
    if ours is None or theirs is None:
        yield line.not_judged("their paths were not measured")
    elif min(len(ours), len(theirs)) < MIN_PROBLEMS:
        yield line.not_judged(
            f"{len(ours)} problems have enough right answers of the candidate and {len(theirs)} of the base, and "
            f"{MIN_PROBLEMS} are needed"
        )
    elif not any(theirs.values()):
        yield line.not_judged("all right answers of the base to a problem take one path")
    else:
        problems = sorted(m.candidate["dev"]["counts"].keys() | m.base["dev"]["counts"].keys())
        ratio, interval = ratio_of_means(ours, theirs, problems, m.evaluate, seed=m.seed)
        yield line.judged(_mean(ours), _mean(theirs), ratio, interval)


def path_variety(metrics_of_set: Metrics) -> dict[str, float] | None:
    """By problem, from 0 to 1: of the paths that m right answers could take beyond the first, the share they do take.

    From the rarefied number of paths r among m right answers (Hurlbert 1971): (r - 1) / (m - 1). For m = 2 it
    is the chance that two right answers take different paths (Simpson 1949). Unlike a count of paths it
    does not rise only because more answers are right. None where the paths were not measured.
    """
    rarefied, m = metrics_of_set.get("rarefied"), metrics_of_set.get("rarefied_at")
    if rarefied is None or m is None or m < 2:
        return None
    return {problem: max(0.0, r - 1.0) / (m - 1) for problem, r in rarefied.items()}


def _markers(m: _Measured) -> Iterator[Check]:
    line = _Line("markers", "epistemic markers per 1,000 dev tokens", "base", "ratio", m.gate.markers_ratio)
    ours, theirs = m.candidate["dev"], m.base["dev"]
    density, before = ((side.get("markers") or {}).get("density") for side in (ours, theirs))
    if density is None or before is None or not ours["tokens"] or not theirs["tokens"]:
        yield line.not_judged("they were not measured")
        return
    found, found_before = density * ours["tokens"] / 1000, before * theirs["tokens"] / 1000
    if (each := found_before / theirs["n_samples"]) < m.gate.markers_from:
        yield line.not_judged(f"the base has {each:.2f} a completion, and {m.gate.markers_from:g} are needed")
        return
    ratio, interval = rate_ratio(found, ours["tokens"], found_before, theirs["tokens"], m.evaluate.confidence)
    yield line.judged(density, before, ratio, interval)


def _cut_off(m: _Measured) -> Iterator[Check]:
    yield _share(m, "cut_off", "dev completions cut off:", "cut_off_share")


def _missing_end(m: _Measured) -> Iterator[Check]:
    yield _share(m, "missing_end", "dev completions without an end:", "missing_end_share")


_LINES: dict[str, Callable[[_Measured], Iterator[Check]]] = {
    "pass_1": _pass_1,
    "pass_k": _pass_k,
    "paths": _paths,
    "markers": _markers,
    "ood": _ood,
    "cut_off": _cut_off,
    "missing_end": _missing_end,
}


# ---- comparisons ---------------------------------------------------------------------------------


def _difference(m: _Measured, name: str, label: str, k: int, other: Metrics, against: str, margin: float) -> Check:
    ours, theirs = (side["dev"] if label == "dev" else side["ood"][label] for side in (m.candidate, other))
    line = _Line(name, f"{label} pass@{k}", against, "difference", -margin)
    try:
        d = paired_difference(counts_in(ours), counts_in(theirs), k, m.evaluate, seed=m.seed)
    except ValueError as error:  # verifier errors left no problem with k judged completions on both sides
        return line.not_judged(str(error))
    return line.judged(ours["pass_at"][str(k)], theirs["pass_at"][str(k)], d["value"], (d["low"], d["high"]))


def _share(m: _Measured, name: str, what: str, key: str) -> Check:
    ours: float | None = m.candidate["dev"].get(key)
    theirs: float | None = m.base["dev"].get(key)
    if ours is None or not m.candidate["dev"]["n_samples"]:
        return _Line(name, what, "limit", "share", m.gate.max_cut_off).not_judged("they were not measured")
    against, limit = "limit", m.gate.max_cut_off
    if theirs is not None and theirs > limit:  # a token limit that is short for the base is no fault of the candidate
        against, limit = "base", share_interval(theirs, m.base["dev"]["n_samples"], m.evaluate.confidence)[1]
    interval = share_interval(ours, m.candidate["dev"]["n_samples"], m.evaluate.confidence)
    return _Line(name, what, against, "share", limit).judged(ours, theirs, ours, interval)


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


@dataclass(frozen=True, slots=True)
class _Line:
    """A check before its figures are known."""

    line: str
    what: str
    against: str
    kind: str
    limit: float

    def judged(self, ours: float, theirs: float | None, value: float, interval: tuple[float, float]) -> Check:
        """The check with its figures, its verdict and its sentence."""
        low, high = interval
        passed = low <= self.limit if self.kind == "share" else high >= self.limit
        span, both = f"[{low:.3f}, {high:.3f}]", f"({theirs:.3f} → {ours:.3f})" if theirs is not None else ""
        match self.kind:
            case "difference":
                span = f"[{low:+.3f}, {high:+.3f}]"
                said = f"against the {self.against}: {value:+.3f} {span} {both}, allowed to fall by {-self.limit:.3f}"
            case "ratio":
                said = f"against the {self.against}: {value:.3f} times {span} {both}, at least {self.limit:g} times"
            case _:
                allowed = "at most" if self.against == "limit" else "the base's own at most"
                said = f"{value:.3f} {span}, {allowed} {self.limit:.3f}"
        words = f"{self.what} {said}: {'ok' if passed else 'worse beyond the interval'}"
        return Check(
            self.line, self.what, self.against, self.kind, self.limit, ours, theirs, value, low, high, passed, "", words
        )

    def not_judged(self, why: str) -> Check:
        """The check that nobody could make, and why."""
        words = f"{self.what.rstrip(':')}: not judged, {why}"
        return Check(self.line, self.what, self.against, self.kind, self.limit, note=why, words=words)
