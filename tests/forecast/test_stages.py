"""The arithmetic of stages beside what does the work: the mix, the trainers' order, a run of the toy."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, reject
from hypothesis import strategies as st

from flywheel.errors import RecipeError
from flywheel.forecast import Amount, Assumptions, Problems, forecast
from flywheel.forecast.stages import Found, rows_seen, steps_of, training_set
from flywheel.loop import spin
from flywheel.mix import training_set as mix
from flywheel.recipe import load_recipe, validate
from flywheel.run import Run
from flywheel.training.order import plan_steps
from flywheel.types import Example, Problem

SOURCE = {"source": "generator", "name": "sums"}
NONE = Amount(0, 0)


def examples(round_index: int, count: int, origin: str = "policy") -> list[Example]:
    return [
        Example(f"{origin}{round_index}/{i}", f"p{i}", round_index, [], f"{i} + {round_index} = 9", origin)
        for i in range(count)
    ]


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=3),
    st.sampled_from(["replace", "accumulate", "window"]),
    st.tuples(st.sampled_from([0.0, 0.2]), st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, 0.25])),
    st.integers(0, 12),
    st.integers(1, 40),
)
def test_a_training_set_has_as_many_rows_as_the_mix_gives_it(counts, keep, shares, least, solutions):
    human, base, general = shares
    section = {"human": human, "base": base, "floor": (human + base) / 2, "repeats": 1000}
    if general:
        section |= {"general": general, "general_least": least, "general_source": {**SOURCE, "count": 20}}
    recipe = validate({"mix": section, "data": {"keep": keep}})
    last = len(counts) - 1
    by_round = {i: examples(i, n) for i, n in enumerate(counts)}
    problems = [Problem(f"q{i}", "q", "9", solution=f"it is {i}") for i in range(solutions)]
    try:
        rows = mix(recipe, last, by_round, problems, general=examples(9, 20, "general"))
    except RecipeError:  # no human and base rows at all: a floor of them cannot be held, and such a round is refused
        assert not (human and solutions)
        reject()
    found = [Found(Amount(n, n), Amount(n, n), NONE, NONE, solutions) for n in counts]
    assert training_set(recipe, found) == Amount(len(rows), len(rows))


@given(st.integers(0, 60), st.sampled_from([0.3, 0.5, 1.0, 1.5, 2.0, 2.6]), st.integers(1, 20))
def test_steps_and_rows_are_those_of_the_trainers_order(rows, epochs, batch_size):
    section = validate({"train": {"epochs": epochs, "batch_size": batch_size}}).train
    plan = plan_steps([f"p{i // 3}" for i in range(rows)], epochs=epochs, batch_size=batch_size, slots=1, seed=0)
    assert steps_of(rows, section) == len(plan)
    assert rows_seen(rows, section) == sum(len(members) for step in plan for members in step)


def test_a_run_of_the_toy_stays_within_what_is_foreseen_at_most(tmp_path: Path) -> None:
    recipe = load_recipe(
        "toy",
        [
            *["problems.count=40", "problems.dev=8", "problems.test=0", "verify.workers=1", "evaluate.samples=1"],
            *["policy.toy.skill=0.5", "stop.max_rounds=2", "gate.enabled=false", "evaluate.resamples=100"],
            *["train.objective=sft_then_dpo", "filter.cap=2", "hints.k=2", "sampling.problems=20"],
            *["mix.general=0.25", "mix.general_source.source=generator", "mix.general_source.name=sums"],
            *["mix.general_source.count=30", "mix.general_least=12"],
        ],
    )
    with Run.open(recipe, tmp_path / "run") as run:
        spin(run)
        train = sum(p.split == "train" for p in run.problems)
        infos = [{name: run.round(i).manifest.entries()[name].info for name in ("sample", "train")} for i in (0, 1)]
    found = forecast(recipe, Problems(train, dev=8, test=0), Assumptions())
    assert len(found.rounds) == 2
    for foreseen, info in zip(found.rounds, infos, strict=True):
        sft, dpo = foreseen.stages
        assert 0 < info["sample"]["samples"] <= (foreseen.completions + foreseen.hinted).most
        assert 0 < info["sample"]["tokens"] <= foreseen.tokens.most
        assert 12 < info["train"]["rows"] <= sft.rows.most
        assert 0 < info["train"]["pairs"]["pairs"] <= dpo.rows.most
        assert 0 < info["train"]["steps"] <= foreseen.steps.most
        assert 0 < info["train"]["completion_tokens"] <= foreseen.trained.most
    assert infos[1]["train"]["rows"] > infos[0]["train"]["rows"], "rounds accumulate"
