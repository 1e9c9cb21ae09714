"""Problems that come up as a run goes on: what rises, what is refused, and that no round sees a later one's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel import plugins, store
from flywheel.errors import ProblemError, RecipeError, StageError
from flywheel.fingerprint import file_digest
from flywheel.forecast import Assumptions, Problems, forecast
from flywheel.lineage import redo
from flywheel.loop import spin
from flywheel.near_copies import near_copies_of, near_copy_groups
from flywheel.propose import accuracy_by_value, scheduled_problems, scheduled_value, select
from flywheel.recipe import ProposeSection, load_recipe
from flywheel.run import Run
from flywheel.stages.keys import sweep_settings
from flywheel.types import Example, Problem, Sample, Split, Verdict

SMALL = ["problems.count=30", "problems.dev=8", "problems.test=4", "verify.workers=1", "evaluate.samples=2"]
SMALL += ["evaluate.resamples=100", "sampling.k=2", "policy.toy.skill=0.6"]
SCHEDULE = ["propose.kind=schedule", "propose.parameter=max_digits", "propose.start=3", "propose.count=10"]


def a_recipe(*overrides):
    return load_recipe("toy", [*SMALL, *SCHEDULE, *overrides])


def spun(recipe, directory: Path) -> Run:
    with Run.open(recipe, directory) as run:
        spin(run)
    return Run.load(directory)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return spun(a_recipe(), tmp_path_factory.mktemp("finished") / "run")


def contents(directory: Path) -> dict[str, str]:
    """Digest of every file of a run that has no clock in it."""
    clocks = ("manifest.json", "run.json", "lock")
    files = (p for p in directory.rglob("*") if p.is_file() and p.name not in clocks and "logs" not in p.parts)
    return {p.relative_to(directory).as_posix(): file_digest(p) for p in files if "champion" not in p.parts}


def proposed(run: Run, index: int) -> list[Problem]:
    return store.read_rows(run.round(index).folder / "problems.parquet", Problem)


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


KILLED = """
import os, signal, sys
from flywheel import plugins, store
from flywheel.loop import spin
from flywheel.recipe import validate
from flywheel.run import Run

file, directory, recipe = sys.argv[1:]
write = store.replacing

def killed(path):
    if f"{path.parent.parent.name}/{path.parent.name}/{path.name}".endswith(file):
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path)

store.replacing = killed
with Run.open(validate(store.json.loads(recipe), where="test"), directory) as run:
    spin(run)
"""


@pytest.mark.parametrize("file", ["001/propose.json", "samples.parts/000002.parquet"])
def test_a_run_that_is_killed_in_a_round_ends_as_the_other(finished, tmp_path, file):
    recipe = a_recipe()
    command = [sys.executable, "-c", KILLED, file, str(tmp_path / "run"), recipe.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
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


# -- what is refused -------------------------------------------------------------------------------

STORY = (
    "Tom has {} apples and buys {} more at the market before he goes home, where he eats {} of them: how many are left?"
)


def problem(id: str, prompt: str, split: str = "train", **more: str) -> Problem:
    return Problem(id, prompt, "5", split=split, **more)


@pytest.mark.parametrize("split", [{"split": "dev"}, {"split": "test"}, {"split": "dev", "ood": "far"}])
def test_copies_of_held_out_problems_and_what_was_asked_are_refused_and_counted(split):
    frozen = [problem("h", STORY.format(3, 4, 2), **split), problem("t", "What is 2 + 3?")]
    frozen += [problem("s", "What is 9 - 4?", "test")]
    offered = [
        problem("1", "what is 9 - 4 ?"),
        problem("2", "What is 2 + 3?"),
        problem("3", STORY.format(3, 4, 2).replace("Tom", "Tim")),
        problem("4", "A tale. " + STORY.format(3, 4, 2) + " Say why, and then show all of your working."),
        problem("5", "What is 4 + 4?"),
        problem("6", "What is 4 + 4 ?"),
        problem("7", "What is 7 + 7?"),
        problem("8", "never looked at: there are enough"),
    ]
    selection = select(offered, a_recipe("propose.count=2"), 4, frozen=frozen, asked=frozen[1:2])
    assert [(p.id, p.prompt) for p in selection.problems] == [
        ("proposed-004-00000", "What is 4 + 4?"),
        ("proposed-004-00001", "What is 7 + 7?"),
    ]
    assert [(reason, p.id) for reason, p in selection.refused] == [
        ("held_out", "1"), ("known", "2"), ("held_out", "3"), ("held_out", "4"), ("known", "6"),
    ]  # fmt: skip
    assert selection.as_json()["refused"] == {"held_out": 3, "known": 2}


def test_a_verifier_of_its_own_is_no_proposed_problems():
    selection = select([problem("1", "What?", verifier="exact")], a_recipe(), 0, frozen=[], asked=[])
    assert selection.problems[0].verifier == ""


texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "1", "2", "+"]), max_size=14).map(" ".join)


@given(st.lists(texts, max_size=5), st.lists(texts, min_size=1, max_size=5), st.sampled_from([0.5, 0.8, 1.0]))
def test_a_near_copy_of_a_reference_is_in_its_group(offered, references, share):
    """What is near a reference stands in its group; the group's chains reach further, never less far."""
    rule = {"share": share, "n": 2, "template_share": 1.0}
    groups = near_copy_groups([*references, *offered], **rule)
    reached = {i for group in groups if group[0] < len(references) for i in group}
    for index, near in enumerate(near_copies_of(offered, references, **rule), len(references)):
        assert not near or index in reached
    assert all(near_copies_of(references, references, **rule))


# -- problems that the policy writes ---------------------------------------------------------------

WRITTEN = ["propose.kind=model", "propose.ask=new", "propose.count=8", "propose.writer.completions=40"]
WRITTEN += ["verify.verifier=majority", "verify.options={last_number=true, min_share=0.25, max_share=0.75}"]
WRITTEN += ["verify.held_out=math", "verify.observer=math", "sampling.k=4", "stop.max_rounds=1"]


def a_writer(*overrides):
    return load_recipe("toy", [*SMALL, *WRITTEN, *overrides])


@pytest.fixture(scope="module")
def self_taught(tmp_path_factory):
    return spun(a_writer(), tmp_path_factory.mktemp("written") / "run")


def test_what_the_policy_wrote_is_asked_and_labelled_by_its_own_votes(self_taught):
    problems = proposed(self_taught, 0)
    assert 0 < len(problems) <= 8 and {p.answer for p in problems} == {""}
    folder = self_taught.round(0).folder
    assert {s.problem_id for s in store.read_rows(folder / "samples.parquet", Sample)} == {p.id for p in problems}
    verdicts = store.read_rows(folder / "verdicts.parquet", Verdict)
    assert {v.verifier for v in verdicts} == {"majority"}
    measured = store.read_json(folder / "metrics.json")["round"]
    right = {v.problem_id for v in verdicts if v.outcome == "correct"}
    assert measured["proposed"]["in_band"] == len(right)
    taught = store.read_rows(folder / "examples.parquet", Example)
    assert {e.problem_id for e in taught} == right, "what is kept is what votes within the band chose"
    # The toy errs by numbers drawn at random, so where two of four agree they are nearly always right.
    assert measured["proposed"]["labels"] == len(right) and measured["proposed"]["label_right"] > 0.6
    assert measured["observed"]["verifier"] == "math" and measured["observed"]["unobserved"] == 0
    assert measured["observed"]["kept_right"] > measured["observed"]["all_right"]


def test_the_benchmark_finds_on_disk_what_the_observer_found(self_taught):
    script = Path(__file__).parents[1] / "benchmarks/agreement.py"
    command = [sys.executable, str(script), str(self_taught.directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured = store.read_json(self_taught.round(0).folder / "metrics.json")["round"]
    assert found["proposed"] == measured["proposed"]
    assert {"verifier": "math", **found["observed"]} == measured["observed"]


def test_all_that_was_written_is_there_with_what_became_of_it(self_taught):
    folder = self_taught.round(0).folder
    rows = store.read_rows(folder / "proposals.parquet", Sample)
    told = store.read_json(folder / "propose.json")
    assert [r.id for r in rows] == [f"w000/{i:05d}" for i in range(40)]
    assert (told["written"], told["tokens"]) == (40, sum(r.tokens for r in rows))
    entry = self_taught.round(0).manifest.entries()["propose"]
    assert entry.ingredients["inputs"]["model"] == self_taught.model_digest(self_taught.generation(0))
    assert entry.info["proposed"] == len(proposed(self_taught, 0))


@pytest.mark.parametrize("file", ["proposals.parts/000001.parquet", "000/problems.parquet"])
def test_a_writer_that_is_killed_goes_on_where_it_was(self_taught, tmp_path, file):
    recipe = a_writer("sampling.chunk_problems=8")
    command = [sys.executable, "-c", KILLED, file, str(tmp_path / "run"), recipe.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    one, two = contents(spun(recipe, tmp_path / "run").directory), contents(self_taught.directory)
    assert {name for name in one | two if one.get(name) != two.get(name)} == {"recipe.json"}  # the size of chunks


def test_the_same_sum_in_other_words_is_known_or_held_out():
    recipe = load_recipe("self_play")
    frozen = [problem("h", "State the result of: 12 + 34 =", "test"), problem("t", "What is 5 + 6?")]
    said = [
        "Add them up: 12+34",
        "How much is 5 + 6?",
        "How much is 5 + 7 then?",
        "Well, how much is 5 + 7 then?",
        "8 - 1",
    ]
    offered = [problem(str(i), text) for i, text in enumerate(said)]
    selection = select(offered, recipe, 0, frozen=frozen, asked=frozen[1:])
    assert [p.prompt for p in selection.problems] == ["How much is 5 + 7 then?", "8 - 1"]
    assert [reason for reason, _ in selection.refused] == ["held_out", "known", "known"]


def test_a_held_out_problem_that_is_written_often_is_no_template():
    held = "Tom has three red apples and buys four more of them at the market, then gives Ann two. How many remain?"
    short = "Tom has three red apples and buys four more of them"
    frozen = [problem("dev", held, split=Split.DEV)] + [problem(f"t{i}", f"What is {i} + {i}?") for i in range(5)]
    recipe = load_recipe("toy", [*SMALL, "propose.kind=model"])
    for times in (1, 6):
        offered = [problem(str(i), f"{short} {name}?") for i, name in enumerate(["now", "today", "", "so", "here"])]
        found = select((offered * 2)[:times], recipe, 0, frozen=frozen, asked=frozen[1:])
        assert {reason for reason, _ in found.refused} == {"held_out"} and not found.problems


def test_what_is_too_alike_is_refused():
    recipe = load_recipe("self_play")
    story = "Ann has {} red marbles and finds {} more in a drawer at home"
    said = [story.format(3, 4), story.format(3, 5), "A train leaves the town of Ulm at noon"]
    selection = select([problem(str(i), text) for i, text in enumerate(said)], recipe, 0, frozen=[], asked=[])
    assert [(reason, p.id) for reason, p in selection.refused] == [("similar", "1")]


def test_a_verifier_that_needs_a_reference_cannot_judge_what_the_policy_writes(tmp_path):
    with pytest.raises(RecipeError, match=r"'model' with verify\.verifier = 'math'.*take 'majority'"):
        Run.open(load_recipe("toy", [*SMALL, "propose.kind=model"]), tmp_path / "run")
    with pytest.raises(RecipeError, match="observer = 'majority' needs all completions"):
        Run.open(a_recipe("verify.observer=majority"), tmp_path / "other")


def test_the_recipe_asks_for_what_defines_the_method():
    recipe = load_recipe("self_play")
    assert (recipe.propose.kind, recipe.propose.ask) == ("model", "new")
    majority = plugins.make_verifier(recipe.verify.verifier, recipe.verify.options)
    asked = Problem("p", "?", "")

    def outcomes(*answers: int) -> set[str]:
        return {str(j.outcome) for j in majority.verify_group(asked, [f"It is {a}." for a in answers])}

    assert recipe.sampling.k == 8
    assert outcomes(1, 2, 3, 4, 5, 6, 7, 8) == {"no_answer"}, "one vote is none"
    assert outcomes(1, 1, 3, 4, 5, 6, 7, 8) == {"correct", "wrong"}, "two of eight are the least"
    assert outcomes(1, 1, 1, 1, 1, 1, 1, 8) == {"correct", "wrong"}, "seven of eight are the most"
    assert outcomes(1, 1, 1, 1, 1, 1, 1, 1) == {"no_answer"}, "all teach nothing"
    assert outcomes(1, 1, 2, 2, 5, 6, 7, 8) == {"no_answer"}, "a tie has no winner"


def test_writing_counts_in_the_forecast():
    sizes, given = Problems(train=50, dev=8, test=4), Assumptions()
    with_, without = a_writer(), a_writer("propose.writer.completions=1")
    tokens = [forecast(recipe, sizes, given).total("tokens").most for recipe in (with_, without)]
    assert tokens[0] - tokens[1] == 39 * with_.propose.writer.max_tokens


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
