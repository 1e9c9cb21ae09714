"""Contamination: held-out texts are found wherever they stand, templates and turns of phrase are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.contamination import LONG, SHORT, HeldOut
from flywheel.types import Problem, Split

from .conftest import CALM

STORY = (
    "A farmer near the old mill keeps seventeen brown goats and sells four of them at the spring market "
    "before two kids are born in June"
)
OTHER = "Each morning the baker on Linden street fills nine trays with twelve rolls and burns one tray while he reads"
PLAIN = Problem("train", "How much is 2 + 3?", "5")


def held_out(*problems, share=0.7, template_share=0.05):
    return HeldOut([PLAIN, *problems], share=share, template_share=template_share)


def a_problem(text, split=Split.DEV, **fields):
    return Problem(f"p{abs(hash((text, split))) % 10**6}", text, "15", split=split, **fields)


def first_words(text, n):
    return " ".join(text.split()[:n])


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (a_problem(STORY), "dev"),
        (a_problem(STORY, Split.TEST), "test"),
        (a_problem(STORY, ood="svamp"), "svamp"),
        (a_problem("", messages=[{"role": "system", "content": "x"}, {"role": "user", "content": STORY}]), "dev"),
    ],
)
def test_a_held_out_text_is_found_in_prompt_and_completion(problem, name):
    index = held_out(problem)
    assert index.carried(PLAIN, f"Let me think. {STORY.upper()}!! The answer is 15.") == name
    assert index.carried(Problem("t", f"Solve this: {STORY}", "15"), "15") == name
    assert index.carried(PLAIN, OTHER) is None


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not():
    index = held_out(a_problem(STORY))
    assert index.carried(PLAIN, first_words(STORY, LONG)) == "dev"
    assert index.carried(PLAIN, first_words(STORY, LONG - 1)) is None


def test_most_of_the_short_ngrams_of_a_short_problem_are_enough():
    short = first_words(STORY, 12)  # five 8-grams, no 13-gram
    index = held_out(a_problem(short))
    assert index.carried(PLAIN, first_words(STORY, 11)) == "dev"  # four of five
    assert index.carried(PLAIN, first_words(STORY, 9)) is None  # two of five


def test_prompt_and_completion_count_together():
    words = STORY.split()[:20]  # thirteen 8-grams
    index = held_out(a_problem(" ".join(words)))
    asked = Problem("t", " ".join(words[:12]), "1")
    assert index.carried(asked, " ".join(words[8:])) == "dev"
    assert index.carried(asked, "nothing of the kind") is None


def test_an_ngram_that_stands_twice_counts_once():
    words = STORY.split()[:20]  # thirteen 8-grams
    index = held_out(a_problem(" ".join(words)))
    shared = " ".join(words[:12])  # five of them
    asked = Problem("t", shared, "1")
    assert index.carried(asked, f"The problem says: {shared}. So the answer is 15.") is None
    assert index.carried(PLAIN, f"{shared} -- again -- {shared}") is None


def test_a_problem_of_the_training_split_may_be_repeated():
    assert held_out(a_problem(STORY, Split.TRAIN)).carried(PLAIN, STORY) is None


def test_a_template_is_no_contamination():
    template = "Read the following story with care and then answer with one whole number at the very end of it: {}"
    problems = [a_problem(template.format(f"{n} + {n + 1}"), Split.TRAIN if n % 2 else Split.DEV) for n in range(20)]
    index = held_out(*problems)
    assert all(index.carried(p, f"{n} + {n + 1} = {2 * n + 1}") is None for n, p in enumerate(problems))


def test_what_is_said_in_a_template_still_counts():
    template = "Read the following story with care and then answer with one whole number at the very end of it: {}"
    problems = [a_problem(template.format(n), Split.TRAIN) for n in range(20)]
    assert held_out(*problems, a_problem(template.format(STORY))).carried(PLAIN, STORY) == "dev"


def test_without_held_out_problems_nothing_is_refused():
    assert held_out().carried(PLAIN, STORY) is None


@CALM
@given(st.lists(st.sampled_from("abcdefg"), max_size=40), st.lists(st.sampled_from("abcdefg"), max_size=40))
def test_a_common_thirteen_gram_is_always_found_and_an_example_without_common_eight_grams_never(asked, said):
    def grams(text, n):
        return {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}

    index = held_out(a_problem(" ".join(asked)))
    found = index.carried(PLAIN, " ".join(said))
    if grams(asked, LONG) & grams(said, LONG):
        assert found == "dev"
    if not grams(asked, SHORT) & grams(said, SHORT):
        assert found is None


@CALM
@given(st.text(max_size=300))
def test_any_text_can_be_looked_at(text):
    assert held_out(a_problem(STORY)).carried(PLAIN, text) in (None, "dev")
