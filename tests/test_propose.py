"""Problems that come up as a run goes on: each round's own, what rises, and that no round sees a later one's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flywheel import store
from flywheel.errors import ProblemError, RecipeError, StageError
from flywheel.forecast import Assumptions, Problems, forecast
from flywheel.lineage import redo
from flywheel.propose import accuracy_by_value, scheduled_problems, scheduled_value
from flywheel.recipe import ProposeSection, load_recipe
from flywheel.run import Run
from flywheel.stages.sweep import sweep_settings
from flywheel.types import Example, Problem, Sample, Split, Verdict
from tests.proposing import SCHEDULE, a_recipe, contents, kill_a_run, proposed, spun


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return spun(a_recipe(), tmp_path_factory.mktemp("finished") / "run")


# -- in a run --------------------------------------------------------------------------------------


def test_each_round_has_problems_of_its_own_that_are_harder(finished):
    for index, digits in ((0, 3), (1, 4)):
        problems = proposed(finished, index)
        assert len(problems) == 10
        assert [p.id for p in problems] == [f"proposed-{index:03d}-{i:05d}" for i in range(10)]
        assert {(p.split, p.verifier, p.meta["max_digits"], p.meta["proposed"]) for p in problems} == {
            ("train", "", digits, index)
        }
        told = store.read_json(finished.round(index).folder / "propose.json")
        assert (told["value"], told["proposed"]) == (digits, 10)
    longest = [max(len(n) for p in proposed(finished, i) for n in p.prompt.split() if n.isdigit()) for i in (0, 1)]
    assert longest == [3, 4]


def test_the_run_asks_judges_and_learns_from_them(finished):
    for index, known in ((0, 18 + 10), (1, 18 + 20)):
        folder = finished.round(index).folder
        asked = {s.problem_id for s in store.read_rows(folder / "samples.parquet", Sample)}
        assert len(asked) == known and {p.id for p in proposed(finished, index)} <= asked
        taught = {e.problem_id for e in store.read_rows(folder / "training_set.parquet", Example)}
        assert taught & {p.id for p in proposed(finished, index)}
    assert finished.champion().index == 2
    assert set(finished.problem_by_id) == {p.id for p in finished.frozen_problems} | {
        p.id for index in (0, 1) for p in proposed(finished, index)
    }


def test_a_round_can_ask_its_own_problems_alone(tmp_path):
    run = spun(a_recipe("propose.ask=new", "stop.max_rounds=1"), tmp_path / "run")
    asked = [s.problem_id for s in store.read_rows(run.round(0).folder / "samples.parquet", Sample)]
    assert set(asked) == {p.id for p in proposed(run, 0)}


def test_no_round_sees_what_was_proposed_for_a_later_one(finished):
    later = {p.id for p in proposed(finished, 1)}
    first, second = finished.round(0), finished.round(1)
    assert not later & {p.id for p in first.train_problems} and not later & {p.id for p in first.pool}
    assert later <= {p.id for p in second.train_problems}
    assert [p.id for p in finished.baseline().train_problems] == [p.id for p in finished.split(Split.TRAIN)][:18]


def test_a_plan_that_is_made_anew_is_the_plan_it_was(finished, tmp_path):
    run = spun(a_recipe(), tmp_path / "run")
    with run.locked():
        forgotten = redo(run, "plan", 0, run.recipe)
    assert forgotten[0] == "plan of round 0" and "propose of round 1" in forgotten
    assert (run.round(0).folder / "problems.parquet").exists() and not (
        run.round(1).folder / "problems.parquet"
    ).exists()
    assert contents(spun(a_recipe(), tmp_path / "run").directory) == contents(finished.directory)


def test_a_sweep_over_the_rounds_own_problems_has_that_in_its_key():
    def key(*overrides):
        scope = SimpleNamespace(run=SimpleNamespace(recipe=a_recipe("sampling.sweep.temperatures=[1.0]", *overrides)))
        return sweep_settings(scope)

    assert key("sampling.sweep.split=train", "propose.ask=new") != key("sampling.sweep.split=train")
    assert key("propose.ask=new") == key(), "dev problems are the same either way"


def test_what_is_proposed_is_in_the_key_of_what_is_planned(finished):
    entries = finished.round(1).manifest.entries()
    assert entries["plan"].ingredients["inputs"]["proposed"] == entries["propose"].key
    before = entries["propose"].ingredients["inputs"]["before"]
    assert before["evaluate"] == finished.round(0).manifest.entries()["evaluate"].key and before["accepted"]


@pytest.mark.parametrize("file", ["001/propose.json", "samples.parts/000002.parquet"])
def test_a_run_that_is_killed_in_a_round_ends_as_the_other(finished, tmp_path, file):
    recipe = a_recipe()
    kill_a_run(recipe, tmp_path / "run", file)
    assert contents(spun(recipe, tmp_path / "run").directory) == contents(finished.directory)


def test_where_nothing_new_is_on_offer_the_round_says_so(tmp_path):
    few = ["problems.parameters.max_terms=2", "propose.parameters={max_digits=1}", "propose.parameter=min_digits"]
    few += ["propose.start=1", "problems.parameters.max_digits=1", "problems.count=200", "propose.step=0"]
    few += ["problems.dev=20", "problems.test=60", "propose.count=300", "propose.ask=new"]
    with pytest.raises(StageError, match=r"round 0: no problem.* min_digits = 1 .*near-copy of a dev.*asked before"):
        spun(a_recipe(*few), tmp_path / "run")


# -- the schedule ----------------------------------------------------------------------------------


def test_a_step_a_round_or_on_to_what_is_mastered():
    step = ProposeSection(kind="schedule", parameter="digits", start=7, step=2)
    assert [scheduled_value(step, r) for r in range(3)] == [7, 9, 11]
    mastered = step.model_copy(update={"advance": "mastered", "step": 1})
    for accuracy, value in (
        ({}, 7),
        ({5: 1.0, 6: 1.0, 7: 0.98}, 7),
        ({6: 1.0, 7: 0.99, 8: 0.5}, 8),
        ({6: 1.0, 7: 1.0, 8: 0.5, 9: 1.0}, 8),  # a gap: 9 was luck
        ({6: 0.5, 7: 1.0, 8: 1.0}, 7),
        ({9: 1.0, 10: 1.0, 11: 0.0}, 11),
    ):
        assert scheduled_value(mastered, 3, accuracy) == value, accuracy


def test_accuracy_is_that_of_dev_problems_with_the_value():
    problems = {
        "a": Problem("a", "?", "1", split="dev", meta={"digits": 2}),
        "b": Problem("b", "?", "1", split="dev", meta={"digits": 3}),
        "c": Problem("c", "?", "1", split="dev"),
        "d": Problem("d", "?", "1", split="dev", ood="far", meta={"digits": 3}),
    }
    said = [("a", "correct"), ("a", "wrong"), ("a", "error"), ("b", "no_answer"), ("c", "correct"), ("d", "correct")]
    verdicts = [Verdict(f"{p}{i}", p, o, 0.0, None, "", "math", "1", "") for i, (p, o) in enumerate(said)]
    assert accuracy_by_value("digits", problems, verdicts) == {2: 0.5, 3: 0.0}


def test_a_mastered_schedule_goes_by_the_dev_accuracy_of_the_policy(tmp_path):
    run = spun(a_recipe("stop.max_rounds=1"), tmp_path / "run")
    with pytest.raises(RecipeError, match="'max_digits' in meta as an integer, and none does"):
        Run.open(a_recipe("propose.advance=mastered"), tmp_path / "other")
    verdicts = store.read_rows(run.round(0).folder / "dev_verdicts.parquet", Verdict)
    dev = {p.id: replace(p, meta={"max_digits": 2}) for p in run.split(Split.DEV)}
    (share,) = accuracy_by_value("max_digits", dev, verdicts).values()
    assert share == pytest.approx(store.read_json(run.round(0).folder / "metrics.json")["dev"]["pass_at"]["1"])


def test_what_is_on_offer_depends_on_seed_and_round_alone():
    recipe = a_recipe()
    one, again = scheduled_problems(recipe, 0, 3), scheduled_problems(recipe, 0, 3)
    assert one == again and len(one) == 2 * 10 + 50
    assert {p.prompt for p in one} != {p.prompt for p in scheduled_problems(recipe, 1, 3)}
    assert {p.prompt for p in one} != {p.prompt for p in scheduled_problems(a_recipe("seed=1"), 0, 3)}


# -- what cannot work ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["propose.count=3"], ["propose.count", "without propose.kind"]),
        ([*SCHEDULE, "problems.source=file", "problems.path=x.jsonl"], ["'schedule'", "problems.source = 'file'"]),
        (["propose.kind=schedule"], ["without propose.parameter", "'chain_sum'"]),
        ([*SCHEDULE, "propose.parameters={max_digits=2}"], ["propose.parameters", "'max_digits'"]),
        (["propose.kind=model", "hints.k=1"], ["hints.k = 1", "propose.kind = 'model'"]),
        (["verify.observer=math"], ["verify.observer = 'math'", "agrees with itself"]),
        (["verify.observer_options={last_number=true}"], ["verify.observer_options without verify.observer"]),
        (["propose.writer.instruction=' '"], ["instruction is empty"]),
    ],
)
def test_a_schedule_that_could_not_work_is_refused(overrides, words):
    with pytest.raises(RecipeError) as refusal:
        load_recipe("toy", overrides)
    for word in words:
        assert word in str(refusal.value)


def test_a_parameter_that_the_generator_does_not_have_is_told_at_the_start(tmp_path):
    with pytest.raises(ProblemError, match="chain_sum.*does not take the parameters.*'digits': 3"):
        Run.open(a_recipe("propose.parameter=digits"), tmp_path / "run")
    assert not (tmp_path / "run/run.json").exists()


def test_the_forecast_counts_what_will_be_asked():
    sizes, given = Problems(train=50, dev=8, test=4), Assumptions()
    assert [r.problems for r in forecast(a_recipe(), sizes, given).rounds] == [60, 70]
    assert [r.problems for r in forecast(a_recipe("propose.ask=new"), sizes, given).rounds] == [10, 10]
