"""The recipe `self_judge`: the model compares its own answers, and an observer tells how right that is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flywheel import Sample, store
from flywheel.loop import spin
from flywheel.recipe import apply_overrides, deep_merge, load_recipe, validate
from flywheel.run import Run
from flywheel.types import Example, Verdict
from tests.verifiers.judge_server import Asked, Server


def arithmetic(asked: Asked) -> str:
    """Prefers the answer that ends with the sum's value; without one, the position decides."""
    value = str(eval(re.findall(r"\d+(?: [-+] \d+)+", asked.sections["TASK"])[0]))
    right = [asked.sections[name].endswith(f" {value}") for name in ("ANSWER A", "ANSWER B")]
    return "A" if right[0] else "B" if right[1] else "A"


def test_a_run_learns_from_what_its_judge_prefers_and_the_observer_sees_how_good_that_is(
    server: Server, tmp_path: Path
) -> None:
    server.model = arithmetic
    shipped = load_recipe("self_judge")
    options = {**shipped.verify.options, "endpoint": server.url, "model": "judge-1"}
    raw = {**shipped.verify.model_dump(mode="json"), "options": options, "workers": 1}
    small = ["problems.count=24", "problems.dev=6", "problems.test=0", "stop.max_rounds=1", "policy.toy.skill=0.5"]
    small += ["evaluate.samples=2", "evaluate.resamples=100", "sampling.problems=10", "train.min_examples=1"]
    toy = {"model": {"base": "toy"}, "policy": {"name": "toy"}, "train": {"backend": "toy"}}
    recipe = validate(deep_merge(apply_overrides(shipped.model_dump(mode="json"), small), {**toy, "verify": raw}))
    with Run.open(recipe, tmp_path / "run") as run:
        spin(run)
        folder = run.round(0).folder
        samples = {s.id: s for s in store.read_rows(folder / "samples.parquet", Sample)}
        verdicts = store.read_rows(folder / "verdicts.parquet", Verdict)
        taught = store.read_rows(folder / "examples.parquet", Example)
        observed = store.read_json(folder / "metrics.json")["round"]["observed"]
        answers = {p.id: p.answer for p in run.problems}
    assert {v.outcome for v in verdicts} <= {"correct", "wrong", "no_answer"} and taught
    kept = {v.sample_id for v in verdicts if v.outcome == "correct"}
    assert {e.sample_id for e in taught} <= kept
    right = [samples[i].completion.endswith(f" {answers[samples[i].problem_id]}") for i in kept]
    assert observed["verifier"] == "math" and observed["kept_right"] == pytest.approx(sum(right) / len(right))
    assert observed["kept_right"] > observed["all_right"], "an able judge keeps more right ones than chance would"
    assert not any("REFERENCE" in body["messages"][-1]["content"] for body in server.bodies)
