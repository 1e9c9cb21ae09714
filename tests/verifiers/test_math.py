"""`math` against a table of cases, with its options, and against text that means harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flywheel import Judgement, Outcome, Problem, Sample
from flywheel.recipe import VerifySection
from flywheel.verifiers.math import Math
from flywheel.verify import VerifierPool

CASES = json.loads((Path(__file__).parent / "math_cases.json").read_text())
MARKER = Path("/tmp/flywheel-math-was-executed")


def judged(answer: str, completion: str, **options: Any) -> Judgement:
    return Math(**options).verify(Problem(id="p", prompt="", answer=answer), completion)


@pytest.mark.parametrize(("answer", "completion", "outcome"), CASES)
def test_cases(answer: str, completion: str, outcome: str) -> None:
    judgement = judged(answer, completion)
    assert judgement.outcome == outcome, judgement


@pytest.mark.parametrize(
    ("completion", "answer", "outcome"),
    [
        ("First 4 + 5 = 9, and then 9 + 3 = 12.", "12", Outcome.CORRECT),
        ("4 + 5 = 9 so the sum is 12", "12", Outcome.CORRECT),
        ("Adding them up, Jane has 1,200 apples in the end.", "1200", Outcome.CORRECT),
        ("The total comes to $7.50, since 3 x 2.50 is that.", "7.50", Outcome.WRONG),
        ("The result is -7.", "-7", Outcome.CORRECT),
        ("It went from 5-7 to 8", "7", Outcome.WRONG),
        ("It is AZYUK2A", "2", Outcome.NO_ANSWER),
        ("The answer is that Jane has 12 apples.", "12", Outcome.CORRECT),
        ("\\boxed{11}, though others say 12", "12", Outcome.WRONG),
        ("no number here at all", "12", Outcome.NO_ANSWER),
    ],
)
def test_the_last_number_counts_only_where_it_is_asked_for(completion: str, answer: str, outcome: Outcome) -> None:
    assert judged(answer, completion, last_number=True).outcome == outcome
    if "box" not in completion and "answer" not in completion:
        assert judged(answer, completion).outcome == Outcome.NO_ANSWER


def test_the_last_maths_counts_only_where_it_is_asked_for() -> None:
    completion = "We find that $x = 3$, from which we get that it must be $\\frac{1}{2}$ of all."
    assert judged("0.5", completion).outcome == Outcome.NO_ANSWER
    assert judged("0.5", completion, last_maths=True).outcome == Outcome.CORRECT


def test_tolerance_is_a_share_of_the_reference() -> None:
    assert judged("1/3", "0.333", tolerance=0.01).outcome == Outcome.CORRECT
    assert judged("1/3", "0.3", tolerance=0.01).outcome == Outcome.WRONG
    assert judged("\\pi", "\\boxed{3.1416}", tolerance=0.001).outcome == Outcome.CORRECT


def test_verdicts_name_what_was_extracted() -> None:
    assert judged("42", "So it is \\boxed{ 6 \\cdot 7 }.").answer == "6 \\cdot 7"


def test_plain_numbers_need_no_algebra_system() -> None:
    code = (
        "import sys; from flywheel.verifiers.math import Math; from flywheel import Problem;"
        "print(Math(last_number=True).verify(Problem(id='p', prompt='', answer='12'), 'It makes 12.').outcome,"
        "[m for m in ('sympy', 'math_verify', 'torch') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "correct []"


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
]


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
