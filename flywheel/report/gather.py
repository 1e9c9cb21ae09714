"""What the report says, as plain data read from a run's files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from flywheel import store
from flywheel.errors import RunError
from flywheel.filter import REASONS
from flywheel.recipe import Recipe, differing_fields
from flywheel.report.charts import Series, by_generation
from flywheel.types import Outcome, Problem, Sample, Verdict
from flywheel.view import RunView, Scope

ORDER = ("plan", "sample", "verify", "filter", "train", "evaluate", "gate")
"""The stages of a round as they run; a manifest is sorted by name."""

SHOWN_SAMPLES = 3
"""Right and wrong samples shown, each of another problem."""

SHOWN_CHARACTERS = 2000
"""Longer texts are cut, and say so."""


def view(run: RunView) -> dict[str, Any]:
    """Everything that the template shows."""
    rows = run.generation_rows()
    champion = run.champion()
    return {
        "name": run.recipe.name,
        "description": run.recipe.description,
        "directory": str(run.directory),
        "champion": champion.index,
        "model": str(run.directory / champion.path),
        "ended": run.ended(),
        "max_rounds": run.recipe.stop.max_rounds,
        "rounds_done": sum(record.accepted is not None for record in run.history()),
        "k": run.recipe.evaluate.samples,
        "confidence": run.recipe.evaluate.confidence,
        "test": test_result(run),
        "rows": rows,
        "chart": chart(rows),
        "rounds": [round_view(scope) for scope in run.rounds()],
        "ood": ood_rows(run),
        "samples": shown_samples(run),
        "changed": differing_fields(Recipe().model_dump(mode="json"), run.recipe.model_dump(mode="json")),
        "recipe": run.recipe.model_dump(mode="json"),
        "facts": run.facts,
    }


def test_result(run: RunView) -> dict[str, Any] | None:
    """Base and champion on the untouched test split, for pass@1 and the largest k; None before the finale."""
    if "finale" not in run.finale().manifest.entries():
        return None
    metrics = store.read_json(run.finale().folder / "metrics.json")
    test = metrics["test"]
    ks = sorted(test["difference"], key=int)
    return {
        "champion": metrics["champion"],
        "n_problems": test["base"]["n_problems"],
        "n_samples": test["base"]["n_samples"],
        "lines": [
            {
                "k": k,
                "base": test["base"]["pass_at"][k],
                "champion": test["champion"]["pass_at"][k],
                **{name: test["difference"][k][name] for name in ("value", "low", "high")},
            }
            for k in ks
        ],
    }


def chart(rows: list[dict[str, Any]]) -> Markup | None:
    """dev pass@1 and pass@k by generation; None before anything was measured."""
    measured = [row for row in rows if row["pass_1"] is not None]
    if not measured:
        return None
    accepted = [row["status"] != "rejected" for row in measured]
    generations = [row["generation"] for row in measured]
    series = [
        Series(
            "pass@1",
            [row["pass_1"] for row in measured],
            [(row["pass_1_low"], row["pass_1_high"]) for row in measured],
        )
    ]
    if measured[0]["k"] > 1 and all(row["pass_k"] is not None for row in measured):
        series.append(Series(f"pass@{measured[0]['k']}", [row["pass_k"] for row in measured], None))
    return by_generation(generations, series, accepted)


def round_view(scope: Scope) -> dict[str, Any]:
    """One round: its funnel from samples to examples, why samples were dropped, what it trained on, its gate."""
    entries = scope.manifest.entries()
    infos = {name: entry.info for name, entry in entries.items()}
    plan = store.read_json(scope.folder / "plan.json") if "plan" in entries else {}
    gate = store.read_json(scope.folder / "gate.json") if "gate" in entries else None
    return {
        "index": scope.round,
        "generation": scope.generation,
        "plan": plan,
        "funnel": funnel(infos),
        "dropped": [
            {"reason": reason, "count": count, "meaning": REASONS.get(reason, "")}
            for reason, count in sorted(infos.get("filter", {}).get("dropped", {}).items(), key=lambda item: -item[1])
        ],
        "train": infos.get("train"),
        "gate": gate,
        "checks": [check_in_words(check) for check in gate["checks"]] if gate else [],
        "seconds": {name: entries[name].seconds for name in ORDER if name in entries},
        "unfinished": gate is None,
    }


def funnel(infos: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps from samples to examples with their counts and their share of the samples."""
    steps: list[tuple[str, int | None]] = [
        ("sampled", infos.get("verify", infos.get("sample", {})).get("samples")),
        ("correct", infos.get("verify", {}).get(Outcome.CORRECT)),
        ("distinct paths", infos.get("filter", {}).get("distinct_paths")),
        ("kept as examples", infos.get("filter", {}).get("examples")),
    ]
    sampled = steps[0][1] or 0
    known = [(name, count) for name, count in steps if count is not None]
    return [{"name": n, "count": c, "share": c / sampled if sampled else 0.0} for n, c in known]


def check_in_words(check: dict[str, Any]) -> str:
    """One comparison of the gate as a sentence; runs from before it kept them have their figures only."""
    if "words" in check:
        return str(check["words"])
    points = f"{check['value'] * 100:+.1f} points [{check['low'] * 100:+.1f}, {check['high'] * 100:+.1f}]"
    allowed = "no fall" if not check["margin"] else f"a fall of {check['margin'] * 100:g} points"
    verdict = "passed" if check["passed"] else "failed, worse beyond its interval"
    return f"{check['what']} against the {check['against']}: {points}, where {allowed} is allowed: {verdict}"


def ood_rows(run: RunView) -> list[dict[str, Any]]:
    """pass@1 on each out-of-distribution set, one entry a generation that has been evaluated."""
    return [
        {
            "generation": generation.index,
            "status": generation.status,
            "sets": {
                label: (metrics["pass_at"].get("1"), metrics["intervals"].get("1"))
                for label, metrics in generation.metrics["ood"].items()
            },
        }
        for generation in run.generations()
        if generation.metrics.get("ood")
    ]


def shown_samples(run: RunView) -> dict[str, Any] | None:
    """A few right and wrong completions of the champion on dev problems, the first ones by position."""
    champion = run.champion()
    scope = run.evaluation_of(champion)
    if "evaluate" not in scope.manifest.entries():
        return None
    samples = store.read_rows(scope.folder / "dev_samples.parquet", Sample)
    verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "dev_verdicts.parquet", Verdict)}
    right = (s for s in samples if verdicts[s.id].outcome == Outcome.CORRECT)
    wrong = (s for s in samples if verdicts[s.id].outcome != Outcome.CORRECT)
    return {
        "generation": champion.index,
        "groups": [
            {"title": title, "rows": [sample_view(run, s, verdicts[s.id]) for s in one_a_problem(group)]}
            for title, group in (("right", right), ("not right", wrong))
        ],
    }


def one_a_problem(samples: Iterable[Sample]) -> list[Sample]:
    """The first samples, each of another problem."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(sample.problem_id, sample)
        if len(first) == SHOWN_SAMPLES:
            break
    return list(first.values())


def sample_view(run: RunView, sample: Sample, verdict: Verdict) -> dict[str, Any]:
    """A sample with its problem and its verdict. Raises RunError where the run does not know the problem."""
    problem: Problem | None = run.problem_by_id.get(sample.problem_id)
    if problem is None:
        raise RunError(
            f"{run.directory}: sample {sample.id} answers problem {sample.problem_id!r}, which the run has not"
        )
    prompt = problem.messages[-1]["content"] if problem.messages else problem.prompt
    return {
        "id": sample.id,
        "prompt": prompt,
        "reference": problem.answer,
        "completion": sample.completion,
        "outcome": verdict.outcome.replace("_", " "),
        "answer": verdict.answer,
        "detail": verdict.detail,
        "tokens": sample.tokens,
        "cut_off": sample.finish_reason == "length",
    }


def visible(text: str | None) -> str:
    """Text fit to be read: control characters get their pictures (␀, ␛), and what is too long is cut."""
    if text is None:
        return "–"
    shown = "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\n\t" else c for c in text[:SHOWN_CHARACTERS])
    rest = len(text) - SHOWN_CHARACTERS
    return f"{shown} … ({rest:,} more characters)" if rest > 0 else shown
