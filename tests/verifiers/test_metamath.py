"""The Metamath kernel takes proofs, and only proofs: what is drawn from three axioms must be true."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.verifiers.metamath import LARGEST_EXPRESSION, NotProved, TooMuchWork, _numbers, check
from flywheel.verifiers.metamath_database import Goal, MetamathError, read, read_goal
from flywheel.verifiers.metamath_problems import DATABASE, make_problems
from flywheel.verifiers.proof_text import HOLE

PROPOSITIONAL = read(DATABASE)

# Quantifiers with a distinct variable condition, and a statement that a block's own hypothesis proves.
PREDICATE = """
$c wff setvar |- A. ( ) -> = $.
$v ph ps x y z $.
wph $f wff ph $. wps $f wff ps $.
vx $f setvar x $. vy $f setvar y $. vz $f setvar z $.
wi $a wff ( ph -> ps ) $.
wal $a wff A. x ph $.
weq $a wff x = y $.
${ $d x ph $. ax-5 $a |- ( ph -> A. x ph ) $. $}
${ other.1 $e |- ph $. other $a |- A. x ph $. $}
"""


def goal(statement: str, database: str = DATABASE, before: str = "", after: str = "") -> Goal:
    return read_goal(f"{before} theorem $p {statement} $= {HOLE} $. {after}", HOLE, read(database))


def proves(statement: str, proof: str, database: str = DATABASE, before: str = "", after: str = "") -> bool:
    try:
        check(goal(statement, database, before, after), proof.split())
    except NotProved:
        return False
    return True


IDENTITY = "|- ( ph -> ph )"
IDENTITY_PROOF = """wph wph wph wi wi wph wph wi wph wph ax-1 wph wph wph wi wph wi wi wph wph wph wi wi wph wph wi wi
    wph wph wph wi ax-1 wph wph wph wi wph ax-2 ax-mp ax-mp"""
ASSUMED = "a.1 $e |- ph $."
WEAKENED = "|- ( ps -> ph )"
WEAKENED_PROOF = "wph wps wph wi a.1 wph wps ax-1 ax-mp"


def test_a_proof_is_taken() -> None:
    assert proves(IDENTITY, IDENTITY_PROOF)
    assert proves(WEAKENED, WEAKENED_PROOF, before=ASSUMED)


@pytest.mark.parametrize(
    "proof",
    [
        WEAKENED_PROOF.replace("wph wps ax-1", "wps wph ax-1"),  # a wrong substitution
        WEAKENED_PROOF + " wph",  # something left on the stack
        "a.1 " + WEAKENED_PROOF,
        "wph wps wph wi a.1 wph wps ax-1",  # not at its end
        "wph wps a.1 wph wps ax-1 ax-mp",  # a hypothesis of the rule is missing
        "ax-mp",
        "a.1",  # proves something else
        "wph wps a.1 theorem",  # itself
        "?",
        "wph wps wph wi ? wph wps ax-1 ax-mp",
        "",
        "nonsense",
        "wph wps wph wi a.1 wph wps ax-1 ax-mp $.",
        "a.1 $. bad $a |- ps $.",
    ],
)
def test_what_is_no_proof_is_refused(proof: str) -> None:
    assert not proves(WEAKENED, proof, before=ASSUMED)


def test_hypotheses_of_other_blocks_and_later_statements_cannot_be_used() -> None:
    before = "${ gone $e |- ps $. lemma $a |- ch $. $}"
    after = "later $a |- ph $."
    assert not proves("|- ps", "gone", before=before)
    assert not proves("|- ph", "wph later", before=before, after=after)
    assert not proves("|- ch", "wch lemma", before=before)  # its own hypothesis is wanted
    assert proves("|- ch", "given wps wch lemma", before=before + " given $e |- ps $.") is False  # not in order
    assert proves("|- ch", "wps wch given lemma", before=before + " given $e |- ps $.")


@pytest.mark.parametrize(
    ("statement", "before", "proof", "right"),
    [
        ("|- ( ph -> A. x ph )", "$d x ph $.", "wph vx ax-5", True),
        ("|- ( ph -> A. x ph )", "", "wph vx ax-5", False),
        ("|- ( y = z -> A. x y = z )", "$d x y $. $d x z $.", "vy vz weq vx ax-5", True),
        ("|- ( y = z -> A. x y = z )", "$d x y $.", "vy vz weq vx ax-5", False),
        ("|- ( x = y -> A. x x = y )", "$d x y $.", "vx vy weq vx ax-5", False),  # the same variable in both
    ],
)
def test_disjoint_variables_stay_apart(statement: str, before: str, proof: str, right: bool) -> None:
    assert proves(statement, proof, PREDICATE, before) is right


def test_a_block_forgets_its_disjoint_pairs() -> None:
    assert not proves("|- ( ph -> A. x ph )", "wph vx ax-5", PREDICATE, "${ $d x ph $. dummy $a |- ph $. $}")


@pytest.mark.parametrize(
    ("proof", "right"),
    [
        ("( wi ax-1 ax-mp ) ABADCABEF", True),
        ("( wi ax-1 ax-mp ) ABADC ABEF", True),  # letters may be spread over lines
        ("( wi ax-1 ax-mp ) ABADZCABEF", True),  # a mark that nobody uses
        ("( wi ax-1 ax-mp ) ABADCABE", False),
        ("( wi ax-1 ax-mp ) ABADCABEFZ", True),
        ("( wi ax-1 ax-mp ) ZABADCABEF", False),
        ("( wi ax-1 ax-mp ) ABADZZCABEF", False),
        ("( wi ax-1 ax-mp ) ABADCABEFU", False),
        ("( wi ax-1 ax-mp ) ABADCABEG", False),  # points to a mark that is not there
        ("( wi ax-1 ax-mp ) ABADCABE?", False),
        ("( wi ax-1 ax-mp ) abad", False),
        ("( wi ax-1 ax-mp ABADCABEF", False),
        ("( wi ax-1 wph ax-mp ) ABADCABEG", False),  # a mandatory hypothesis among the labels
        ("( wi ax-1 theorem ) F", False),
        ("( ) ", False),
        ("( wi ax-1 ax-mp ) " + "Y" * 100_000, False),
    ],
)
def test_compressed_proofs(proof: str, right: bool) -> None:
    assert proves(WEAKENED, proof, before=ASSUMED) is right


def test_a_mark_is_what_stood_on_top_then() -> None:
    assert proves(IDENTITY, "( wi ax-1 ax-2 ax-mp ) AAABZBZFAACAFABBGFBAFCAFADEE")
    assert not proves(IDENTITY, "( wi ax-1 ax-2 ax-mp ) AAABZBZGAACAFABBGFBAFCAFADEE")


def test_a_proof_that_doubles_at_each_step_is_cut_off() -> None:
    marks = "AABZ" + "".join(spelled(3 + i) + spelled(3 + i) + "BZ" for i in range(60))
    with pytest.raises(TooMuchWork, match=str(LARGEST_EXPRESSION)):
        check(goal(IDENTITY), ["(", "wi", ")", marks])


def spelled(number: int) -> str:
    """A number from 1 as a compressed proof writes it."""
    number -= 1
    text, rest = chr(ord("A") + number % 20), number // 20
    while rest:
        rest -= 1
        text, rest = chr(ord("U") + rest % 5) + text, rest // 5
    return text


@pytest.mark.parametrize("number", [1, 20, 21, 40, 120, 121, 620, 621, 123_456])
def test_numbers_are_spelled_as_the_language_says(number: int) -> None:
    assert list(_numbers(spelled(number))) == [number - 1]


def test_the_stack_is_bounded() -> None:
    with pytest.raises(TooMuchWork):
        check(goal(IDENTITY), ["wph"] * 50_000)


@pytest.mark.parametrize(
    "text",
    [
        "$[ other.mm $]",
        "$c a $. $c a $.",
        "$v a a $.",
        "$c wff $. $v a $. $f wff a $.",
        "$c wff $. x $f wff a $.",
        "$c wff $. $v a $. x $f wff a $. y $f wff a $.",
        "$c wff $. x $a wff $. x $a wff $.",
        "$c wff $. wff $a wff $.",
        "$c wff $. x $a $.",
        "$c wff $. $v a $. x $a wff a $.",
        "$c wff $. x $a wff unknown $.",
        "${ $c a $. $}",
        "${",
        "$}",
        "$( open",
        "$( a $( b $) $)",
        "$v x $. $d x $.",
        "$v x $. $d x x $.",
        "$c wff $. x $a wff",
        "$c wff $. x! $a wff $.",
        "$c wff $. x $p wff $= y",
        "$c \u00e9 $.",
        "$c \x00 $.",
        "x",
        "x y",
    ],
)
def test_a_broken_database_is_said_to_be_broken(text: str) -> None:
    with pytest.raises(MetamathError):
        read(text)


def test_a_goal_needs_its_hole_as_the_proof_of_a_statement() -> None:
    for template in ("x $a wff ph $.", f"$( {HOLE} $)", f"x $a {HOLE} $."):
        with pytest.raises(MetamathError):
            read_goal(template, HOLE, PROPOSITIONAL)


def test_a_database_can_be_checked_as_a_whole() -> None:
    statements = [p.answer.replace(HOLE, str(p.solution)).replace("theorem", f"t{i}") for i, p in enumerate(PROBLEMS)]
    counted = []
    read(DATABASE + "\n".join(statements), lambda goal, proof: counted.append(check(goal, proof)))
    assert len(counted) == len(PROBLEMS)
    with pytest.raises(NotProved):
        read(DATABASE + "\n".join([*statements, "last $p |- ph $= wph $."]), check)


# -- what the kernel takes is true ------------------------------------------------------------------

PROBLEMS = make_problems(30, seed=7)


def symbols_of(problem_answer: str) -> list[str]:
    return problem_answer.partition("|-")[2].partition("$=")[0].split()


def is_true(symbols: list[str]) -> bool:
    """Whether a formula holds under all values of its variables, worked out without the kernel."""
    names = sorted({s for s in symbols if s not in ("(", ")", "->", "-.")})
    return all(
        value_of(list(symbols), dict(zip(names, row, strict=True))) for row in product([0, 1], repeat=len(names))
    )


def value_of(rest: list[str], row: dict[str, int]) -> bool:
    first = rest.pop(0)
    if first == "-.":
        return not value_of(rest, row)
    if first != "(":
        return bool(row[first])
    left = value_of(rest, row)
    assert rest.pop(0) == "->"
    right = value_of(rest, row)
    assert rest.pop(0) == ")"
    return not left or right


def test_made_problems_are_true_and_proved() -> None:
    assert len({p.answer for p in PROBLEMS}) == len(PROBLEMS)
    for problem in PROBLEMS:
        assert is_true(symbols_of(problem.answer))
        check(read_goal(problem.answer, HOLE, PROPOSITIONAL), str(problem.solution).split())
    assert make_problems(30, seed=7) == PROBLEMS != make_problems(30, seed=8)
    with pytest.raises(ValueError, match="theorems were found"):
        make_problems(50, seed=1, longest_statement=12)


LABELS = ["wph", "wps", "wn", "wi", "ax-1", "ax-2", "ax-3", "ax-mp"]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PROBLEMS), st.data())
def test_a_proof_with_a_fault_proves_nothing_false(problem, data) -> None:
    proof = str(problem.solution).split()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(proof) - 1))
        proof[place : place + data.draw(st.integers(0, 2))] = data.draw(st.lists(st.sampled_from(LABELS), max_size=2))
    symbols = symbols_of(problem.answer)
    if data.draw(st.booleans()):
        symbols[data.draw(st.integers(0, len(symbols) - 1))] = data.draw(st.sampled_from(["ph", "ps", "ch"]))
    try:
        check(goal("|- " + " ".join(symbols)), proof)
    except NotProved:
        return
    assert is_true(symbols)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*LABELS, "(", ")", "?", "ABC", "Z", "$.", "theorem"]), max_size=30))
def test_nothing_proves_what_is_not_true(proof) -> None:
    with pytest.raises((NotProved, TooMuchWork)):
        check(goal("|- ph"), proof)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("${}()cvdfeap.= \nx", max_size=60))
def test_any_text_is_read_or_said_to_be_broken(text) -> None:
    try:
        read(text)
    except MetamathError:
        return
