"""Lessons: whose samples, behind which two prompts, and why others give none."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.errors import RecipeError
from flywheel.lessons import lessons_of
from flywheel.measures.contamination import HeldOut
from flywheel.recipe import PrivilegedOptions, load_recipe
from flywheel.run import Run
from flywheel.types import Outcome, Problem, Sample, Split, Verdict

PROBLEMS = {
    "p": Problem("p", "2 + 3 = ?", "5", solution="Two and three are five."),
    "q": Problem("q", "1 + 1 = ?", "2"),
}


def a_sample(index, problem="p", outcome=Outcome.WRONG, text="It is 6", finish="stop", origin="policy"):
    sample = Sample(f"r0/{problem}/{index}", problem, 0, 0, index, text, finish, 5, 1.0, "", origin)
    return sample, Verdict(sample.id, problem, outcome, 0.0, None, "", "v", "1", "none")


def lessons(*rows, held_out=None, **options):
    verdicts = {v.sample_id: v for _, v in rows}
    return lessons_of(
        [s for s, _ in rows], verdicts, PROBLEMS, PrivilegedOptions(**options), system="Be brief.", held_out=held_out
    )


def test_the_teacher_is_told_and_the_student_is_asked_plainly():
    (lesson,), without = lessons(a_sample(0), template="{prompt} ({solution})")
    assert lesson.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3 = ?"}]
    assert lesson.told[-1]["content"] == "2 + 3 = ? (Two and three are five.)" and lesson.told[0] == lesson.messages[0]
    assert lesson.completion == "It is 6" and without == {}


def test_only_the_policys_own_finished_samples_are_lessons():
    rows = [a_sample(0), a_sample(1, finish="length"), a_sample(2, origin="hinted"), a_sample(3, origin="teacher")]
    found, without = lessons(*rows)
    assert [x.sample_id for x in found] == ["r0/p/0"] and without == {"cut_off": 1, "not_own": 2}


@pytest.mark.parametrize(("which", "expected"), [("all", [0, 1, 2]), ("right", [0]), ("wrong", [1])])
def test_which_samples_are_lessons(which, expected):
    rows = [a_sample(i, outcome=o) for i, o in enumerate((Outcome.CORRECT, Outcome.WRONG, Outcome.ERROR))]
    found, without = lessons(*rows, samples=which)
    assert [int(x.sample_id[-1]) for x in found] == expected
    assert sum(without.values()) == 3 - len(expected), "what could not be judged is neither right nor wrong"


def test_a_problem_has_so_many_lessons_and_none_without_a_solution_to_tell():
    rows = [a_sample(i) for i in range(4)] + [a_sample(0, "q")]
    found, without = lessons(*rows, cap=3, template="{prompt} {solution}")
    assert len(found) == 3 and without == {"no_solution": 1, "over_cap": 1}


def test_what_carries_held_out_text_is_no_lesson():
    asked = "How many apples does Mary have when she buys nine of them and then gives four away to Tom"
    dev = Problem("d", asked, "5", split=Split.DEV)
    held_out = HeldOut([*PROBLEMS.values(), dev], share=0.7, template_share=0.05)
    found, without = lessons(a_sample(0, text=asked), a_sample(1), held_out=held_out)
    assert len(found) == 1 and without == {"contaminated": 1}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.privileged.template='{prompt}'"], "tells nothing"),
        (["train.privileged.template='{answer}'"], "has no {prompt}"),
        (["train.processes=2"], "set processes = 1"),
        (["train.fsdp=true"], "set processes = 1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(overrides, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe("privileged", overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match="on real weights"):
        load_recipe("toy", ["train.objective=privileged"])


def test_solutions_that_nobody_has_are_refused_at_the_start(tmp_path: Path):
    recipe = load_recipe("privileged", ["train.privileged.template='{prompt} {solution}'", "problems.count=300"])
    with pytest.raises(RecipeError, match=r"train\.privileged\.template shows \{solution\}"):
        Run.open(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
