"""`math` on text that means harm: each costs its own sample, runs nothing, and the next check is right."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel import Outcome, Problem, Sample
from flywheel.recipe import VerifySection
from flywheel.verifiers.math import Math
from flywheel.verify import VerifierPool

MARKER = Path("/tmp/flywheel-math-was-executed")

HOSTILE = [
    "\\boxed{" * 100_000,
    "\\boxed{" + "{" * 5000 + "1" + "}" * 5000 + "}",
    "\\boxed{" + "9" * 100_000 + "}",
    "$" * 100_000,
    "the answer is " * 50_000,
    "\\boxed{(x+y+z+w)^{400}}",
    "\\boxed{9^{9^{9}}}",
    "\\boxed{2^{99999}}",
    "\\boxed{((((10!)!)!)!)}",
    "\\boxed{" + "\\frac{1}{" * 60 + "2" + "}" * 60 + "}",
    "\\boxed{\\sum_{k=1}^{10^9} k!}",
    "\\boxed{\\int_0^1 e^{e^{e^{e^x}}} dx}",
    f"\\boxed{{__import__('pathlib').Path('{MARKER}').touch()}}",
    f"\\boxed{{\\text{{open('{MARKER}','w')}}}}",
    f"the answer is open('{MARKER}','w')",
    "\\boxed{\x00\ud800}",
    "1" * 1_000_000,
    "1," * 500_000,
    "1/" * 300_000,
    "- " * 300_000 + "5",
    "**" * 100_000,
    "#### " * 100_000,
    "\n" * 500_000,
    "x" * 1_000_000,
    "\\boxed{" + "9^{" * 30 + "9" + "}" * 30 + "}",
    "\\boxed{(10^9)!}",
    "\\boxed{\\binom{10^9}{10^8}}",
    "\\boxed{" + "x^" * 300 + "x}",
    "\\boxed{" + "\\sin " * 150 + "x}",
    "\\boxed{" + "x/x*" * 200 + "x}",
    "\\boxed{" + "x!" * 300 + "}",
    "\\boxed{" + "(" * 400 + ")" * 400 + "}",
    "\\boxed{(a" + "_aa" * 300 + "!}",
    "\\boxed{" + "1x" * 450 + " }",
    "\\boxed{" + "1," * 450 + "2}",
    "\\boxed{" + "{1,2}," * 160 + "2}",
    "\\boxed{0." + "12" * 400 + "...}",
    "\\boxed{\\sum_{i=1}^{2000} \\sum_{j=1}^{2000} \\sum_{k=1}^{2000} ijk}",
    "\\boxed{\\begin{pmatrix}" + "1&" * 200 + "1\\end{pmatrix}^{64}}",
    "\\boxed{e^{10^{60}}}",
    "\\boxed{\\sin 10^{10000}}",
    "\\boxed{2^{10^{15}}}",
    "\\boxed{1e9999}",
    "\\boxed{1.5e99999999}",
    "\\boxed{\\lfloor 10^{10^{10}} \\rfloor}",
    f"\\boxed{{__import__('os').system('touch {MARKER}')}}",
    f"\\boxed{{\\int \\text{{__import__('os').system('touch {MARKER}')}} dx}}",
]


def test_hostile_text_is_judged_within_bounds_without_an_algebra_system() -> None:
    MARKER.unlink(missing_ok=True)
    verifier = Math(algebra=False, last_number=True, last_maths=True)
    for gold in ("x^2+1", "7", "(1,\\infty)"):
        for text in HOSTILE:
            # `- - … 5` is five by an even number of signs; nothing else means any of these references.
            outcome = verifier.verify(Problem("p", "", gold), text).outcome
            assert outcome in (Outcome.WRONG, Outcome.NO_ANSWER), (gold, text[:60], outcome)
    assert not MARKER.exists()


@pytest.mark.slow
def test_hostile_text_costs_its_own_sample_and_is_never_right() -> None:
    MARKER.unlink(missing_ok=True)
    problem = Problem(id="p", prompt="", answer="x^2+1")
    number = Problem(id="q", prompt="", answer="5")
    right = {"p": "\\boxed{1+x^2}", "q": "\\boxed{5}"}
    samples = [
        Sample(f"{p.id}{i}/{j}", p.id, 0, 0, i, text, "stop", 1, 1.0, "", "policy")
        for p in (problem, number)
        for i, hostile in enumerate(HOSTILE)
        for j, text in enumerate((hostile, right[p.id]))
    ]
    options = {"last_number": True, "last_maths": True}
    section = VerifySection(verifier="math", options=options, deadline_seconds=3.0, memory_gib=0.5)
    with VerifierPool(section) as pool:
        verdicts = pool.submit([problem, number], samples).result(180)
    after = [v.outcome for v in verdicts[1::2]]
    assert after == ["correct"] * len(after)
    # `- - … 5` is five by an even number of signs; no other text means either reference.
    wrongly = [s.completion[:40] for s, v in zip(samples, verdicts, strict=True) if v.outcome == "correct"]
    hostile_right = [text for text in wrongly if text not in right.values() and not text.startswith("- - ")]
    assert hostile_right == []
    assert [v.detail for v in verdicts if v.outcome == "error"] == []
    assert not MARKER.exists()


# -- any text ---------------------------------------------------------------------------------------

COMMANDS = r"""\frac \sqrt \boxed{ \le \pi \infty \pm \cup \in \text{ \begin{pmatrix} \end{pmatrix} \\ \sin \log_
\sum_{k=1}^ \lfloor \rfloor \{ \} \overline{3} \pmod"""
SIGNS = "}{()[]|^_!%°+-*/=<,;:.012xyei&$"
PIECES = st.sampled_from([*SIGNS, "10", "1e5", "and", "or", "cm", "mod", *COMMANDS.split()])
FORMULAS = st.lists(PIECES, max_size=25).map(" ".join)
TEXTS = st.one_of(FORMULAS, st.text(max_size=200), FORMULAS.map(lambda f: f"\\boxed{{{f}}}"))
GOLDS = st.sampled_from(
    ["5", "x^2+1", "(1,2)", "\\{1,2\\}", "x>3", "y=2x+1", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "3:4", "yes"]
)
ANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
BOUNDED = Math(algebra=False, last_number=True, last_maths=True)


@given(TEXTS, GOLDS)
@ANY
def test_any_text_is_judged_and_twice_the_same(text: str, gold: str) -> None:
    problem = Problem("p", "", gold)
    judgement = BOUNDED.verify(problem, text)
    assert judgement.outcome in (Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER)
    assert BOUNDED.verify(problem, text) == judgement
    assert BOUNDED.verify(problem, f"\\boxed{{{gold}}}").outcome == Outcome.CORRECT


@given(TEXTS)
@ANY
def test_any_reference_is_judged_or_an_error(text: str) -> None:
    assert BOUNDED.verify(Problem("p", "", text), "\\boxed{123456789}").outcome in (
        Outcome.WRONG,
        Outcome.ERROR,
        Outcome.CORRECT,
    )


NUMBERS = st.one_of(st.integers(-(10**30), 10**30).map(str), st.fractions(max_denominator=10**9).map(str))


@given(NUMBERS, NUMBERS)
@ANY
def test_numbers_are_equal_when_their_fractions_are(gold: str, answer: str) -> None:
    judgement = BOUNDED.verify(Problem("p", "", gold), f"\\boxed{{{answer}}}")
    assert (judgement.outcome == Outcome.CORRECT) == (Fraction(gold) == Fraction(answer))


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=5), st.integers(1, 9))
@ANY
def test_a_polynomial_equals_itself_rearranged_and_not_itself_plus_one(coefficients: list[int], factor: int) -> None:
    terms = [f"({c})x^{{{n}}}" for n, c in enumerate(coefficients)]
    gold = "+".join(terms)
    again = f"\\frac{{{factor}({'+'.join(reversed(terms))})}}{{{factor}}}"
    problem = Problem("p", "", gold)
    assert BOUNDED.verify(problem, f"\\boxed{{{again}}}").outcome == Outcome.CORRECT
    assert BOUNDED.verify(problem, f"\\boxed{{{again}+1}}").outcome == Outcome.WRONG
