"""The recipe `addition`: labels come from the model and never from a reference, and problems get longer by round."""

from __future__ import annotations

import re

import pytest

from flywheel import store
from flywheel.errors import RecipeError
from flywheel.filter import filter_samples
from flywheel.loop import spin
from flywheel.plugins import make_verifier
from flywheel.problems import load_general, load_problems
from flywheel.propose import scheduled_problems, scheduled_value
from flywheel.recipe import Recipe, load_recipe
from flywheel.run import Run
from flywheel.types import Example, Origin, Problem, Sample, Split, Verdict

TOY = [
    *["policy.name=toy", "train.backend=toy", "model.base=toy", "policy.toy.skill=0.6", "verify.workers=1"],
    *["problems.count=60", "problems.dev=24", "problems.test=0", "propose.count=12", "mix.general_source.count=60"],
    *["problems.parameters.digits=[1, 9]", "problems.parameters.layout=rows", "problems.parameters.hints=0"],
    *[
        "propose.start=8",
        "propose.step=2",
        "evaluate.resamples=100",
        "stop.max_rounds=2",
        "sampling.k=1",
        "sampling.temperatures=[0.0]",
    ],
    *["mix.general_source.parameters.layout=rows", "mix.general_source.parameters.hints=0"],
    # The toy writes a solution out and reads sums in the usual order: nearly all that it says here is wrong.
    *["verify.options.pattern='answer is \\d+$'", "verify.options.field=''"],
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    directory = tmp_path_factory.mktemp("addition") / "run"
    with Run.open(load_recipe("addition", TOY), directory) as run:
        spin(run)
    return Run.load(directory)


def test_a_round_asks_only_longer_problems_than_the_one_before(finished: Run) -> None:
    for index, digits in ((0, 8), (1, 10)):
        samples = store.read_rows(finished.round(index).folder / "samples.parquet", Sample)
        assert {finished.problem_by_id[s.problem_id].meta["digits"] for s in samples} == {digits}


def test_what_is_learnt_of_longer_sums_is_what_the_model_said_right_or_wrong(finished: Run) -> None:
    wrong = 0
    for index in (0, 1):
        folder = finished.round(index).folder
        said = {s.id: s.completion for s in store.read_rows(folder / "samples.parquet", Sample)}
        taught = store.read_rows(folder / "training_set.parquet", Example)
        own = [e for e in taught if e.origin == Origin.POLICY]
        assert len(own) == 12 * (index + 1)  # all rounds so far
        for example in own:
            if example.round == index:
                assert example.completion == said[example.sample_id]
            wrong += finished.problem_by_id[example.problem_id].answer not in example.completion
        for example in taught:
            if example.origin == Origin.GENERAL:  # the base's own sums, the only ones with a label
                assert len(re.sub(r"\D", "", example.messages[-1]["content"])) <= 2 * 6
    assert wrong > 12


def test_accuracy_is_told_by_length_and_by_a_verifier_that_knows_the_answers(finished: Run) -> None:
    dev = finished.evaluation_of(finished.generation(2)).folder
    told = store.read_json(dev / "metrics.json")["dev"]["by"]
    assert told["field"] == "digits"
    assert {row["value"] for row in told["values"]} == {
        p.meta["digits"] for p in finished.problems if p.split == Split.DEV
    }
    assert {v.verifier for v in store.read_rows(dev / "dev_verdicts.parquet", Verdict)} == {"exact"}


def test_a_wrong_answer_of_the_right_length_becomes_an_example_and_one_too_short_does_not() -> None:
    recipe = load_recipe("addition")
    verifier = make_verifier(recipe.verify.verifier, recipe.verify.options)
    problems = {name: Problem(name, "51a32b=a", "6b5", meta={"digits": 2}) for name in ("right", "wrong", "short")}
    said = {"right": "6b5", "wrong": "7b5", "short": "6"}
    samples, verdicts = [], {}
    for name, text in said.items():
        judged = verifier.verify(problems[name], text)
        samples.append(Sample(name, name, 0, 0, 0, text, "stop", 5, 0.0, "{prompt}", "policy"))
        verdicts[name] = Verdict(name, name, judged.outcome, judged.score, text, "", "self_label", "1", "worker")  # type: ignore[union-attr]
    examples, dropped = filter_samples(samples, verdicts, problems, recipe.filter, system=None)
    assert [e.completion for e in examples] == ["6b5", "7b5"]
    assert [(d.sample_id, d.reason) for d in dropped] == [("short", "wrong")]


@pytest.mark.parametrize("name", ["addition", "addition_gpu"])
def test_nothing_that_training_reads_has_a_label_beyond_the_base(name: str) -> None:
    small = ["problems.count=60", "problems.dev=20", "problems.test=20", "mix.general_source.count=200"]
    small += ["propose.count=5"]
    recipe = load_recipe(name, small)
    base = recipe.model.characters.digits
    assert not [p for p in load_problems(recipe).problems if p.solution]
    for index in (0, recipe.stop.max_rounds - 1):
        digits = scheduled_value(recipe.propose, index)
        assert digits > base
        assert not [p for p in scheduled_problems(recipe, index, digits) if p.solution]
    known = load_general(recipe)
    assert {p.meta["digits"] for p in known} == set(range(1, base + 1))
    assert all(p.solution == p.answer for p in known)
    assert not recipe.gate.enabled  # it would choose by dev's answers
    assert recipe.filter.by == "verdict" and recipe.verify.verifier == "self_label"


REFUSED = {
    "another writing": (["problems.parameters.hints=0"], "problems.parameters.hints = 0 and model.characters.hints"),
    "another writing of the base's sums": (["mix.general_source.parameters.layout=rows"], "mix.general_source"),
    "words": (["problems.source=reasoning_gym", "problems.name=chain_sum"], "it can read sums and nothing else"),
    "16 bits": (["model.dtype=bfloat16"], "model.dtype = 'float32'"),
    "a system turn": (["model.system=Add."], "it knows sums and no words"),
}


@pytest.mark.parametrize(("overrides", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_model_of_characters_cannot_read_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("addition", overrides)
    assert words in str(caught.value)


def test_the_two_arms_without_schedule_and_without_filter_are_recipes() -> None:
    recipe: Recipe = load_recipe("addition", ["propose.start=30", "propose.step=0"])
    assert {scheduled_value(recipe.propose, index) for index in range(5)} == {30}
    assert load_recipe("addition", ['filter.by="none"']).filter.by == "none"
