"""From a completion to its proof: which part is put forward, and what comments can and cannot hide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.verifiers.proof_text import (
    HOLE,
    LONGEST_TAIL,
    Refused,
    TemplateError,
    find_proof,
    restated_until,
    split,
    without_comments,
)

COQ = ("(*", "*)")
LEAN = ("/-", "-/", "--")


@pytest.mark.parametrize("template", ["", "no hole", f"{HOLE} {HOLE}", "{{ proof }}", "{proof}"])
def test_a_template_has_exactly_one_hole(template: str) -> None:
    with pytest.raises(TemplateError, match="must have one"):
        split(template)


def test_a_template_is_split_at_its_hole() -> None:
    parts = split(f"a\n{HOLE} b")
    assert (parts.before, parts.after) == ("a\n", " b")


@pytest.mark.parametrize(
    ("completion", "proof"),
    [
        ("auto.", "auto."),
        ("  \n", None),
        ("", None),
        ("<think>auto.", None),
        ("<think>```coq\nlia.\n```</think> auto.", " auto."),
        ("I try\n```coq\nlia.\n```\nNo:\n```coq\nauto.\n```\nDone.", "auto."),
        ("```coq\nauto.\n```\nIt prints\n```\n42\n```", "auto."),  # the right language before the last block
        ("```text\nlia.\n```\n~~~\nauto.\n~~~", "auto."),
        ("```Coq\nauto.\n", "auto.\n"),  # not closed
        ("````coq\nauto.\n```\n````", "auto.\n```"),
        ("```coq\n\n```", None),
        ("auto.<|im_end|>```coq\nlia.\n```", "auto."),
    ],
)
def test_which_part_is_the_proof(completion: str, proof: str | None) -> None:
    assert find_proof(completion, ("coq",)) == proof


@given(st.text("`~\n coq<>|think/ab", max_size=200))
def test_any_text_has_a_proof_or_none(text: str) -> None:
    found = find_proof(text, ("coq",))
    assert found is None or (found.strip() and found.replace("\n", "") in text.replace("\n", ""))


def test_the_end_of_a_long_completion_is_searched() -> None:
    assert find_proof("```coq\nlia.\n```\n" + "x" * LONGEST_TAIL + "\n```coq\nauto.\n```", ("coq",)) == "auto."
    assert find_proof("```\n" * 300_000, ("coq",)) is None


def test_a_restated_theorem_is_found_whatever_the_space_between() -> None:
    proof = "Lemma a : True. auto. Qed. Theorem  t :\n True. auto."
    assert proof[restated_until(proof, "Theorem t : True.") :] == " auto."
    assert restated_until("Theorem u : True.", "Theorem t : True.") is None


@pytest.mark.parametrize(
    ("text", "markers", "left"),
    [
        ("a (* b *) c", COQ, "a   c"),
        ("a (* (* b *) *) c", COQ, "a   c"),
        ("a *) c", COQ, "a *) c"),
        ("a (*) b *) c", COQ, "a   c"),
        ('a "(*" b *) c', COQ, 'a "  c'),
        ("a -- b\nc", LEAN, "a  \nc"),
        ("a -- /-\nc", LEAN, "a  \nc"),
        ("a /- -- -/ c", LEAN, "a   c"),
        ("a --", LEAN, "a  "),
    ],
)
def test_comments_are_replaced(text: str, markers: tuple[str, ...], left: str) -> None:
    assert without_comments(text, *markers) == left


@pytest.mark.parametrize(("text", "markers"), [("(*", COQ), ("a (* (* *)", COQ), ("/- ", LEAN), ("x -/- y", LEAN)])
def test_a_comment_that_could_go_on_is_refused(text: str, markers: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        without_comments(text, *markers)


@given(st.text("(*)/-\n a", max_size=40), st.sampled_from([COQ, LEAN]))
def test_no_comment_is_left_that_could_hide_our_text(text: str, markers: tuple[str, ...]) -> None:
    try:
        left = without_comments(text, *markers)
    except Refused:
        return
    assert markers[0] not in left and (len(markers) < 3 or markers[2] not in left)
