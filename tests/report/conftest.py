"""A run's folder as the loop leaves it, written directly: the report needs no engine to be tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel import store
from flywheel.recipe import Recipe, validate
from flywheel.run import Run
from flywheel.types import Outcome, Problem, Sample, Split, Verdict

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


def record(folder: Path, stage: str, **info: Any) -> None:
    store.Manifest(folder).record(stage, store.Entry(key="k", ingredients={}, files={}, info=info, seconds=2.5))


def evaluated(folder: Path, generation: int, pass_1: float, pass_4: float) -> None:
    store.write_json(folder / "metrics.json", {"dev": metrics(pass_1, pass_4), "ood": {"longer": metrics(0.02, 0.04)}})
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


def round_done(folder: Path, parent: int, *, accepted: bool) -> None:
    record(folder, "plan", problems=60, samples=240, generation=parent)
    store.write_json(folder / "plan.json", {"generation": parent, "k": 4, "problems": ["p0"]})
    record(folder, "sample", samples=240, tokens=9000)
    record(folder, "verify", samples=240, correct=90, wrong=140, no_answer=10, timeout=0, error=0)
    record(
        folder,
        "filter",
        examples=60,
        problems=40,
        distinct_paths=75,
        dropped={"wrong": 140, "duplicate": 30, "no_answer": 10},
    )
    record(folder, "train", parent=parent, rows=60, origins={"policy": 60}, loss_first=1.2, loss_last=0.4)
    check = {"what": "dev pass@1", "against": "champion", "margin": 0.0, "passed": accepted}
    shift = 0.0 if accepted else -0.2
    check |= {"value": 0.1 + shift, "low": 0.05 + shift, "high": 0.15 + shift}
    gate = {"accepted": accepted, "reasons": ["as the checks say"], "checks": [check], "champion_before": parent}
    store.write_json(folder / "gate.json", gate)
    record(folder, "gate", accepted=accepted, reasons=["as the checks say"])


def write_run(directory: Path, *, rounds: int, finale: bool) -> Run:
    """A run of the toy recipe: round 0 accepted, round 1 rejected."""
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
    evaluated(directory / "base", 0, 0.1, 0.4)
    for index in range(rounds):
        folder = directory / f"rounds/{index:03d}"
        evaluated(folder, index + 1, 0.2 - 0.1 * index, 0.5)
        round_done(folder, min(index, 1), accepted=index == 0)
    if finale:
        difference = {"1": {"value": 0.1, "low": 0.06, "high": 0.14}, "4": {"value": 0.05, "low": -0.02, "high": 0.12}}
        test = {"base": metrics(0.11, 0.41), "champion": metrics(0.21, 0.46), "difference": difference}
        store.write_json(directory / "final/metrics.json", {"champion": 1, "test": test})
        record(directory / "final", "finale", champion=1, tokens=8200)
    return Run.load(directory)


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Run]:
    """Makes a run's folder: `run_folder(rounds=2, finale=True)`."""

    def make(*, rounds: int, finale: bool) -> Run:
        return write_run(tmp_path / "run", rounds=rounds, finale=finale)

    return make
