"""A run's folder as the loop leaves it, written directly: the report needs no engine to be tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel import store
from flywheel.manifest import Entry, Manifest
from flywheel.recipe import Recipe, validate
from flywheel.run import Run
from flywheel.types import Dropped, Outcome, Problem, Sample, Split, Verdict
from tests.report.chromium import Chromium, find

NASTY = "<script>alert('x')</script> & \x1b[31mred\x00 } {{ 7 * 7 }} </pre>"


def metrics(pass_1: float, pass_4: float) -> dict[str, Any]:
    """What `flywheel.evaluate.measure` gives, in short."""
    return {
        "n_problems": 30,
        "n_samples": 120,
        "pass_at": {"1": pass_1, "4": pass_4},
        "intervals": {"1": [pass_1 - 0.04, pass_1 + 0.05], "4": [pass_4 - 0.1, min(1.0, pass_4 + 0.1)]},
        "tokens": 4100,
    }


def full_metrics(pass_1: float, pass_4: float, generation: int) -> dict[str, Any]:
    """What `flywheel.evaluate.measure` gives, in whole: a model that grows surer and narrower."""
    narrow = 1.0 - 0.15 * generation
    return metrics(pass_1, pass_4) | {
        "correct": round(120 * pass_1),
        "solved": round(30 * pass_4),
        "distinct_paths": 40,
        "counts": {f"p{n}": [4, (n + generation) % 5] for n in range(4)},
        "paths": {"p1": 2},
        "against_base": None,
        "against_champion": None,
        "paths_per_solved": 2.1 * narrow,
        "paths_rarefied": 1.6 * narrow,
        "rarefied_at": 2,
        "distinct_n": {str(n): 0.2 * n * narrow for n in range(1, 5)},
        "self_bleu": 0.5 / narrow,
        "answer_entropy": 1.1 * narrow,
        "token_entropy": None,
        "mean_logprob": -0.4 * narrow,
        "length": {"mean": 34.0, "median": 30.0, "p90": 61.0, "p99": 90.0, "right": 30.0, "wrong": 41.0},
        "mean_tokens": 34.0,
        "cut_off_share": 0.03,
        "missing_end_share": 0.031,
        "repetition": 0.05,
        "formats": 7,
        "format_share": 0.6,
        "markers": {"count_per_response": 1.2, "density": 8.0 * narrow, "by_word": {"wait": 3}},
        "balance": 0.3,
        "error_share": 0.0,
    }


ROUND = {
    "n_samples": 240,
    "answer_entropy": 1.2,
    "self_bleu": 0.4,
    "balance": 0.35,
    "error_share": 0.0,
    "hinted_share": 0.1,
    "length": {"mean": 36.0},
    "markers": {"density": 7.5},
    "contamination": {"refused": 3, "by": {"dev": 3}},
}


def record(folder: Path, stage: str, **info: Any) -> None:
    Manifest(folder).record(stage, Entry(key="k", ingredients={}, files={}, info=info, seconds=2.5))


def evaluated(folder: Path, generation: int, pass_1: float, pass_4: float, *, full: bool) -> None:
    dev = full_metrics(pass_1, pass_4, generation) if full else metrics(pass_1, pass_4)
    measured = {"dev": dev, "ood": {"longer": metrics(0.02, 0.04)}}
    store.write_json(folder / "metrics.json", measured | ({"round": ROUND if generation else None} if full else {}))
    samples, verdicts = [], []
    for number in range(8):
        problem = f"p{number % 4}"
        text = f"{number} + 1 = {number + 1}. {NASTY}" if number else "long " * 1000
        samples.append(
            Sample(
                f"d{generation:03d}/{problem}/{number:03d}",
                problem,
                0,
                generation,
                number,
                text,
                "stop",
                12,
                1.0,
                "",
                "policy",
            )
        )
        outcome = (Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER, Outcome.CORRECT)[number % 4]
        verdicts.append(Verdict(samples[-1].id, problem, outcome, 0.0, "4", "read <b>4</b>", "math", "1", "process"))
    store.write_rows(folder / "dev_samples.parquet", Sample, samples)
    store.write_rows(folder / "dev_verdicts.parquet", Verdict, verdicts)
    record(folder, "evaluate", samples=120, tokens=4100)


def new_checks(accepted: bool) -> list[dict[str, Any]]:
    """What the gate writes: each line with its kind, its limit and its own words."""
    names = ["line", "what", "against", "kind", "limit", "candidate", "reference", "value"]
    names += ["low", "high", "passed", "words"]
    shift = 0.1 if accepted else -0.1
    measured = (0.0, 0.2, 0.1, shift, shift - 0.05, shift + 0.05, accepted)
    unknown = (0.7, *[None] * 6)
    rows = [
        ("pass_1", "dev pass@1", "champion", "difference", *measured, f"dev pass@1 against the champion: {shift:+.3f}"),
        ("pass_k", "dev pass@4", "base", "difference", -0.02, 0.5, 0.4, 0.1, 0.0, 0.2, True, "dev pass@4 is no lower"),
        ("paths", "two right answers differ", "base", "ratio", 0.7, 0.4, 0.6, 0.67, 0.6, 0.75, True, "as many <paths>"),
        ("markers", "markers", "base", "ratio", *unknown, "markers: not judged, too few"),
        (
            "cut_off",
            "cut off",
            "limit",
            "share",
            0.05,
            0.03,
            0.03,
            0.03,
            0.01,
            0.06,
            True,
            "cut off: .030, at most .050",
        ),
    ]
    return [dict(zip(names, row, strict=True)) for row in rows]


def round_done(folder: Path, parent: int, *, accepted: bool, full: bool) -> None:
    record(folder, "plan", problems=60, samples=240, generation=parent)
    changes = [{"what": "sampling.temperature", "from": 0.8, "to": 1.0, "why": "the last candidate was <narrower>"}]
    plan = {"generation": parent, "k": 4, "problems": ["p0"]}
    store.write_json(folder / "plan.json", plan | ({"changes": changes, "temperature": 1.0} if full else {}))
    record(folder, "sample", samples=240, tokens=9000)
    record(folder, "verify", samples=240, correct=90, wrong=140, no_answer=10, timeout=0, error=0)
    samples = [
        Sample(f"r000/p{n % 4}/{n:03d}", f"p{n % 4}", 0, parent, n, f"{n} = {NASTY}", "stop", 9, 1.0, "", "policy")
        for n in range(12)
    ]
    verdicts = [
        Verdict(s.id, s.problem_id, Outcome.CORRECT if n % 3 else Outcome.WRONG, 0.0, "4", "", "math", "1", "process")
        for n, s in enumerate(samples)
    ]
    store.write_rows(folder / "samples.parquet", Sample, samples)
    store.write_rows(folder / "verdicts.parquet", Verdict, verdicts)
    gone = [
        Dropped(s.id, s.problem_id, 0, "wrong" if n % 3 == 0 else "over_cap")
        for n, s in enumerate(samples)
        if n % 3 < 2
    ]
    store.write_rows(folder / "dropped.parquet", Dropped, gone)
    record(
        folder,
        "filter",
        examples=60,
        problems=40,
        distinct_paths=75,
        dropped={"wrong": 140, "duplicate": 30, "no_answer": 10},
    )
    record(
        folder, "train", parent=parent, rows=60, origins={"policy": 60}, loss_first=1.2, loss_last=0.4, digest="1" * 64
    )
    check = {"what": "dev pass@1", "against": "champion", "margin": 0.0, "passed": accepted}
    shift = 0.0 if accepted else -0.2
    check |= {"value": 0.1 + shift, "low": 0.05 + shift, "high": 0.15 + shift}
    gate = {
        "accepted": accepted,
        "reasons": ["as the checks say"],
        "checks": new_checks(accepted) if full else [check],
        "champion_before": parent,
    }
    store.write_json(folder / "gate.json", gate)
    record(folder, "gate", accepted=accepted, reasons=["as the checks say"])


def write_run(directory: Path, *, rounds: int, finale: bool, full: bool = True) -> Run:
    """A run of the toy recipe: round 0 accepted, round 1 rejected. Without `full` as the first version wrote it."""
    recipe: Recipe = validate(
        {
            "name": "fixture",
            "description": "a <fixture> & more",
            "model": {"base": "toy"},
            "policy": {"name": "toy"},
            "train": {"backend": "toy"},
            "evaluate": {"samples": 4},
            "stop": {"max_rounds": 2},
            "ood": [{"label": "longer", "count": 5}],
        }
    )
    store.write_json(directory / "recipe.json", recipe.model_dump(mode="json"))
    facts = {"base": {"path": "/models/base", "digest": "0" * 64}, "versions": {"python": "3.11.7"}}
    store.write_json(directory / "run.json", facts)
    problems = [Problem(f"p{n}", f"What is {n} + 1? {NASTY}", str(n + 1), split=Split.DEV) for n in range(4)]
    store.write_rows(directory / "problems.parquet", Problem, problems)
    evaluated(directory / "base", 0, 0.1, 0.4, full=full)
    for index in range(rounds):
        folder = directory / f"rounds/{index:03d}"
        evaluated(folder, index + 1, 0.2 - 0.1 * index, 0.5, full=full)
        round_done(folder, min(index, 1), accepted=index == 0, full=full)
    if finale:
        difference = {"1": {"value": 0.1, "low": 0.06, "high": 0.14}, "4": {"value": 0.05, "low": -0.02, "high": 0.12}}
        test = {"base": metrics(0.11, 0.41), "champion": metrics(0.21, 0.46), "difference": difference}
        store.write_json(directory / "final/metrics.json", {"champion": 1, "test": test})
        record(directory / "final", "finale", champion=1, tokens=8200)
    return Run.load(directory)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A headless Chromium for the whole session."""
    program = find()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed: `apt-get install chromium` runs these tests")
    with Chromium(program, tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Run]:
    """Makes a run's folder: `run_folder(rounds=2, finale=True)`."""

    def make(*, rounds: int, finale: bool, full: bool = True, name: str = "run") -> Run:
        return write_run(tmp_path / name, rounds=rounds, finale=finale, full=full)

    return make
