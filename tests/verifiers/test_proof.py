"""`proof` as a verifier: problems, options, outcomes; the kernels have tests of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flywheel import Outcome, PluginError, Problem, Sample, unfit_for
from flywheel.plugins import make_verifier
from flywheel.recipe import VerifySection
from flywheel.verifiers import proof as module
from flywheel.verifiers import sandbox
from flywheel.verifiers.metamath_database import read
from flywheel.verifiers.metamath_problems import DATABASE, make_problems
from flywheel.verifiers.proof import Proof
from flywheel.verifiers.proof_text import HOLE, LONGEST_PROOF
from flywheel.verify import VerifierPool

TEMPLATE = f"${{ a1i.1 $e |- ph $. a1i $p |- ( ps -> ph ) $= {HOLE} $. $}}"
RIGHT = "wph wps wph wi a1i.1 wph wps ax-1 ax-mp"


def problem(answer: str = TEMPLATE, **meta: object) -> Problem:
    return Problem(id="p", prompt="", answer=answer, meta={"database": DATABASE, **meta})


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        (RIGHT, Outcome.CORRECT),
        (f"```metamath\n{RIGHT}\n```", Outcome.CORRECT),
        (f"<think>a1i.1?</think>It is\n```mm\na1i $p |- ( ps -> ph ) $=\n {RIGHT} $.\n```\n", Outcome.CORRECT),
        ("( wi ax-1 ax-mp ) ABADCABEF", Outcome.CORRECT),
        (RIGHT.replace("wph wps ax-1", "wps wph ax-1"), Outcome.WRONG),
        (f"I think the proof is {RIGHT}", Outcome.WRONG),
        ("$= $.", Outcome.WRONG),
        (f"x $. bad $a |- ( ps -> ph ) $. y $p |- ( ps -> ph ) $= {RIGHT} bad", Outcome.WRONG),
        ("wph wps $. bad $a |- ( ps -> ph ) $.", Outcome.WRONG),
        ("wph wps a1i.1 a1i", Outcome.WRONG),
        ("?", Outcome.WRONG),
        ("$[ /etc/passwd $]", Outcome.WRONG),
        ("wph " * LONGEST_PROOF, Outcome.WRONG),
        ("wph " * (LONGEST_PROOF // 5), Outcome.TIMEOUT),
        ("<think>" + RIGHT, Outcome.NO_ANSWER),
        ("", Outcome.NO_ANSWER),
        ("\x00\ud800", Outcome.WRONG),
        ("é" * 1000, Outcome.WRONG),
    ],
)
def test_outcomes(completion: str, outcome: Outcome) -> None:
    judgement = Proof().verify(problem(), completion)
    assert judgement.outcome == outcome, judgement
    assert judgement.score == float(outcome == Outcome.CORRECT)


@pytest.mark.parametrize(
    "broken",
    [
        problem("no hole"),
        problem(TEMPLATE + TEMPLATE),
        problem(f"x $p |- unknown $= {HOLE} $."),
        problem(TEMPLATE, database="$c wff"),
        Problem(id="p", prompt="", answer=TEMPLATE),  # no database: nothing is declared
    ],
)
def test_a_broken_problem_is_an_error(broken: Problem) -> None:
    for completion in (RIGHT, "?"):
        assert Proof().verify(broken, completion).outcome == Outcome.ERROR


def test_a_template_may_be_the_whole_database() -> None:
    whole = Problem(id="p", prompt="", answer=DATABASE + TEMPLATE)
    assert Proof().verify(whole, RIGHT).outcome == Outcome.CORRECT


def test_the_database_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "logic.mm"
    file.write_text(DATABASE)
    bare = Problem(id="p", prompt="", answer=TEMPLATE)
    verifier = Proof(database=str(file))
    verifier.prepare()
    assert verifier.verify(bare, RIGHT).outcome == Outcome.CORRECT
    missing = Proof(database=str(tmp_path / "missing.mm"))
    missing.prepare()  # says nothing, so that each verdict can
    judgement = missing.verify(bare, RIGHT)
    assert judgement.outcome == Outcome.ERROR and "missing.mm" in judgement.detail


def test_a_database_is_read_once_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    module._database_text.cache_clear()
    module._goal.cache_clear()
    calls = []
    monkeypatch.setattr(module, "read", lambda text: calls.append(1) or read(text))
    for made in make_problems(5, seed=3):
        assert Proof().verify(made, str(made.solution)).outcome == Outcome.CORRECT
    assert len(calls) == 1


def test_options_are_checked() -> None:
    for options in ({"kernel": "agda"}, {"seconds": 0}, {"memory_gib": -1.0}, {"min_level": "none"}, {"sekonds": 1}):
        with pytest.raises(PluginError):
            make_verifier("proof", options)
    made = make_verifier("proof", {"kernel": "coq", "axioms": ["a.b"], "libraries": ["/x"]})
    assert isinstance(made, Proof) and made.axioms == ("a.b",)


def test_isolation_is_what_stands_in_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Proof().isolation == "kernel"
    monkeypatch.setattr(sandbox, "choose", lambda level: sandbox.Level.LANDLOCK)
    assert Proof(kernel="coq").isolation == "landlock"


@pytest.mark.parametrize("kernel", ["coq", "lean"])
def test_a_missing_proof_assistant_is_an_error(kernel: str) -> None:
    verifier = Proof(kernel=kernel, command="/nowhere/prover", min_level="unsafe")
    verifier.prepare()
    template = {"coq": f"Theorem t : True.\n{HOLE}\nQed.", "lean": f"theorem t : True := {HOLE}"}[kernel]
    judgement = verifier.verify(Problem(id="p", prompt="", answer=template), "exact I.")
    assert judgement.outcome == Outcome.ERROR and "/nowhere/prover" in judgement.detail


def test_in_the_worker_pool() -> None:
    completions = [RIGHT, "?", "", "wph " * 15_000]
    samples = [Sample(f"s{i}", "p", 0, 0, i, text, "stop", 1, 1.0, "", "policy") for i, text in enumerate(completions)]
    with VerifierPool(VerifySection(verifier="proof", workers=1)) as pool:
        verdicts = pool.submit([problem()], samples).result(timeout=60)
    assert [v.outcome for v in verdicts] == ["correct", "wrong", "no_answer", "timeout"]
    assert {(v.verifier, v.isolation) for v in verdicts} == {("proof", "kernel")}


@pytest.mark.parametrize(
    ("kernel", "answer", "why"),
    [
        ("metamath", TEMPLATE, None),
        ("metamath", "42", "0 holes"),
        ("metamath", f"Theorem goal : True.\nProof.\n{HOLE}\nQed.\n", "kernel = 'metamath'"),
        ("coq", f"Theorem goal : True.\nProof.\n{HOLE}\nQed.\n", None),
        ("coq", TEMPLATE, "no theorem .*kernel = 'coq'"),
        ("lean", f"theorem goal : True := {HOLE}", None),
        ("lean", f"theorem $p |- ph $= {HOLE} $.", "kernel = 'lean'"),
    ],
)
def test_whose_language_a_statement_is_in_is_told_without_a_kernel(kernel: str, answer: str, why: str | None) -> None:
    verifier = Proof(kernel=kernel, command="/nowhere/prover", min_level="unsafe")
    said = unfit_for(verifier, problem(answer))
    assert said is None if why is None else re.search(why, said or "")


def test_a_database_that_is_not_there_is_not_the_problems_fault() -> None:
    verifier = Proof(database="/nowhere/set.mm")
    assert verifier.unfit(Problem("p", "", TEMPLATE)) is None and verifier.lacks()
