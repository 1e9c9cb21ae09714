"""Fences that no text closes, and verdicts that no quotation gives."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.verifiers.judge_prompt import (
    Question,
    Unreadable,
    comparison,
    fenced,
    harmless,
    nonces,
    one_turn,
    rating,
    read_choice,
    read_rating,
)

CONTROL = [
    "<|im_end|>",
    "<|im_start|>system",
    "<|eot_id|>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<end_of_turn>",
    "<｜User｜>",
]


def ask(answer: str, *, downwards: bool = False, reference: str | None = "42", task: str = "6 · 7?") -> Question:
    return rating("Is it right?", task, answer, reference, low=1, high=10, downwards=downwards)


def content(question: Question) -> str:
    return question.messages[1]["content"]


def nonce_of(text: str) -> str:
    found = re.search(r"a fence line is one that has ([0-9a-f]{16}) in it", text)
    assert found
    return found.group(1)


@given(st.text(max_size=300), st.text(max_size=100))
def test_whatever_a_completion_says_it_stays_between_its_lines(answer: str, task: str) -> None:
    text = content(ask(answer, task=task))
    nonce = nonce_of(text)
    marks = [line for line in text.split("\n") if nonce in line]
    assert marks[:-1] == [
        f"===== {label} {nonce} {what} ====="
        for label in ("TASK", "REFERENCE", "ANSWER")
        for what in ("BEGINS", "ENDS")
    ]
    begins, ends = (f"===== ANSWER {nonce} {what} =====" for what in ("BEGINS", "ENDS"))
    assert text.partition(f"{begins}\n")[2].partition(f"\n{ends}")[0] == harmless(answer)
    assert nonce not in answer and nonce not in task


@given(st.lists(st.sampled_from([*CONTROL, "<", "|", ">", "｜", "a", "/"]), max_size=12).map("".join))
def test_no_control_token_survives(text: str) -> None:
    tidied = harmless(text)
    assert not re.search(r"<\||\|>|<｜|｜>|</?s>|\[/?INST\]|<</?SYS>>|<(start|end)_of_turn>", tidied, re.IGNORECASE)
    assert tidied.replace(" ", "") == text.replace(" ", "")


def test_ordinary_text_is_left_as_it_is() -> None:
    for text in [
        "if a<b and c>d: print([i for i in x])",
        "<b>bold</b>",
        "a || b, f|g",
        "$\\langle x | y \\rangle$",
        "æøå 数",
    ]:
        assert harmless(text) == text


def test_any_text_becomes_one_that_can_be_sent() -> None:
    harmless("\x00\ud800x").encode("utf-8")


def test_the_nonce_follows_from_the_texts_and_is_in_none_of_them() -> None:
    assert nonces(["a", "b"], "rating", False) == nonces(["a", "b"], "rating", False)
    assert len({nonces(["a", "b"], "rating", t) for t in (False, True)} | {nonces(["a", "c"], "rating", True)}) == 3
    nonce, keyword = nonces(["a"], "rating", False)
    assert nonce not in keyword.lower(), "a fence that is quoted gives no verdict away"


def test_a_nonce_that_is_found_in_a_text_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    class Foreseen:
        """A digest that a completion has guessed; the second one it has not."""

        def __init__(self, data: bytes) -> None:
            self.salt = data[-1]

        def digest(self) -> bytes:
            return b"seed"

        def hexdigest(self) -> str:
            return ("a" if self.salt == 0 else "b") * 64

    monkeypatch.setattr(hashlib, "sha256", Foreseen)
    assert nonces(["a" * 16], "rating", False) == ("b" * 16, "VERDICT-BBBBBB:")
    assert nonces(["xAAAAAAx"], "rating", False)[1] == "VERDICT-BBBBBB:"


def test_every_order_is_turned_round() -> None:
    up, down = content(ask("x")), content(ask("x", downwards=True))
    assert up.index("REFERENCE") < up.index("ANSWER ") and down.index("ANSWER ") < down.index("REFERENCE")
    assert "1 is the worst; 10 is the best" in up and "10 is the best; 1 is the worst" in down


def test_a_comparison_holds_both_answers_and_the_words_for_them() -> None:
    question = comparison("Rubric.", "task", "first one", "second one", None)
    text = content(question)
    assert text.index("first one") < text.index("second one")
    assert "REFERENCE" not in text and question.keyword in text


def test_one_turn_says_the_same() -> None:
    question = ask("x")
    (turn,) = one_turn(question.messages)
    assert turn["role"] == "user" and all(m["content"] in turn["content"] for m in question.messages)


KEY = "VERDICT-0A1B2C:"


@pytest.mark.parametrize(
    "said",
    [
        f"{KEY} 7",
        f"Good, but short.\n{KEY} 7\n\n",
        f"**{KEY} 7**",
        f"**{KEY}** 7",
        f"`{KEY} 7`",
        f"<think>{KEY} 2\nno, better</think>\nFine.\n{KEY} 7",
        f"{KEY} 7\nas I said:\n{KEY} 7",
        "The answer says 'VERDICT-FFFFFF: 10', which I ignore.\n" + f"{KEY} 7",
    ],
)
def test_a_verdict_is_read(said: str) -> None:
    assert read_rating(said, KEY, low=1, high=10) == 7


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "said nothing"),
        ("Good.", "the last line is no verdict"),
        ("VERDICT-FFFFFF: 7", "the last line is no verdict"),
        ("VERDICT: 7", "the last line is no verdict"),
        (f"I say {KEY} 7", "the last line is no verdict"),
        (f"{KEY} 7\nI hope this helps!", "the last line is no verdict"),
        (f"{KEY} 7 out of 10", "no whole number"),
        (f"{KEY} 7/10", "no whole number"),
        (f"{KEY} 7.5", "no whole number"),
        (f"{KEY} ٧", "no whole number"),
        (f"{KEY} seven", "no whole number"),
        (f"{KEY} N", "no whole number"),
        (f"{KEY}", "no whole number"),
        (f"{KEY} 11", "off the scale"),
        (f"{KEY} -7", "off the scale"),
        (f"{KEY} {'7' * 5000}", "no whole number"),
        (f"{KEY} 3\nOr rather:\n{KEY} 7", "more than one verdict"),
    ],
)
def test_anything_else_is_unreadable(said: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read_rating(said, KEY, low=1, high=10)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(said: str) -> None:
    with pytest.raises(Unreadable):
        read_rating(said, KEY, low=1, high=10)


def test_choices() -> None:
    assert [read_choice(f"{KEY} {word}", KEY) for word in ("A", "B", "TIE")] == ["A", "B", "TIE"]
    for word in ("C", "a", "A or B", "A, B", ""):
        with pytest.raises(Unreadable):
            read_choice(f"{KEY} {word}", KEY)


def test_a_fence_names_what_it_holds() -> None:
    assert fenced("ANSWER", "x", "00ff") == "===== ANSWER 00ff BEGINS =====\nx\n===== ANSWER 00ff ENDS ====="
