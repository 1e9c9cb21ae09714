"""Coq decides about proofs of our statement; a completion can neither change the question nor forge the answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flywheel import Judgement, Outcome, Problem, Sample
from flywheel.recipe import VerifySection
from flywheel.verifiers import coq, sandbox
from flywheel.verifiers.proof import Proof
from flywheel.verifiers.proof_assistant import is_allowed
from flywheel.verifiers.proof_text import HOLE
from flywheel.verify import VerifierPool

pytestmark = pytest.mark.skipif(shutil.which("coqc") is None, reason="Coq (coqc) is not installed")

EASY = f"Theorem goal : forall n : nat, n + 0 = n.\nProof.\n{HOLE}\nQed.\n"
EASY_PROOF = "induction n as [|n IH].\n- reflexivity.\n- simpl. rewrite IH. reflexivity."
FALSE = f"Theorem goal : 1 + 1 = 3.\nProof.\n{HOLE}\nQed.\n"
TREES = """Inductive tree := leaf | node (l r : tree).
Fixpoint size t := match t with leaf => 1 | node l r => size l + size r end."""
RESTATED = f"""```coq
Require Import Lia.

Theorem goal :
  forall n : nat, n + 0 = n.
Proof. (* hm *)
{EASY_PROOF}
Qed.

Check goal.
```"""


@pytest.fixture(scope="module")
def verifier() -> Proof:
    return Proof(kernel="coq", min_level=str(sandbox.choose(sandbox.Level.UNSAFE)), seconds=60.0)


def judge(verifier: Proof, completion: str, answer: str = EASY, **meta: object) -> Judgement:
    return verifier.verify(Problem(id="p", prompt="", answer=answer, meta=meta), completion)


@pytest.mark.parametrize(
    "completion",
    [
        EASY_PROOF,
        f"By induction.\n```coq\nProof.\n{EASY_PROOF}\nQed.\n```\nThat is all.",
        RESTATED,
        "intros n. symmetry. apply plus_n_O.",
    ],
)
def test_a_proof_is_correct(verifier: Proof, completion: str) -> None:
    judgement = judge(verifier, completion)
    assert judgement.outcome == Outcome.CORRECT, judgement


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("reflexivity.", Outcome.WRONG),
        ("induction n.", Outcome.WRONG),
        ("It is obvious.", Outcome.WRONG),
        ("", Outcome.NO_ANSWER),
        ("\x00\ud800 intros.", Outcome.WRONG),
        ("intros. " * 20_000, Outcome.WRONG),
        ("(" * 50_000, Outcome.WRONG),
    ],
)
def test_what_is_no_proof_is_not(verifier: Proof, completion: str, outcome: Outcome) -> None:
    assert judge(verifier, completion).outcome == outcome


@pytest.mark.parametrize("level", list(sandbox.Level))
def test_at_each_level_that_works_here(level: sandbox.Level, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := sandbox.self_test()[level]:
        pytest.skip(missing)
    monkeypatch.setattr(sandbox, "choose", lambda least: level)
    verifier = Proof(kernel="coq", min_level="unsafe", seconds=60.0)
    assert verifier.isolation == level
    assert judge(verifier, EASY_PROOF).outcome == Outcome.CORRECT
    assert judge(verifier, "reflexivity.").outcome == Outcome.WRONG


def test_in_the_worker_pool(verifier: Proof) -> None:
    """Below a worker's own memory limit, which is smaller than what Coq may have."""
    problem = Problem(id="p", prompt="", answer=EASY)
    texts = [EASY_PROOF, "reflexivity.", ""]
    samples = [Sample(f"s{i}", "p", 0, 0, i, text, "stop", 1, 1.0, "", "policy") for i, text in enumerate(texts)]
    options = {"kernel": "coq", "min_level": verifier.min_level, "seconds": 30.0}
    section = VerifySection(verifier="proof", options=options, workers=1, deadline_seconds=100.0, memory_gib=0.5)
    with VerifierPool(section) as pool:
        verdicts = pool.submit([problem], samples).result(timeout=200)
    assert [v.outcome for v in verdicts] == ["correct", "wrong", "no_answer"]
    assert {v.isolation for v in verdicts} == {verifier.isolation}


def test_definitions_are_shared(verifier: Proof) -> None:
    template = f"Theorem goal : size (node leaf leaf) = 2.\nProof.\n{HOLE}\nQed."
    assert judge(verifier, "reflexivity.", template, definitions=TREES).outcome == Outcome.CORRECT
    wrong = template.replace("= 2", "= 3")
    assert judge(verifier, "reflexivity.", wrong, definitions=TREES).outcome == Outcome.WRONG


@pytest.mark.parametrize(
    ("answer", "meta", "says"),
    [
        ("Theorem goal : True.", {}, "hole"),
        (f"{HOLE}", {}, "no theorem"),
        (f"Theorem goal : unknown.\n{HOLE}\nQed.", {}, "does not compile"),
        (f"Inductive t := a.\nTheorem goal : a = a.\n{HOLE}\nQed.", {}, "Inductive stands before"),
        (f"Section S. Variable n : nat. Theorem goal : n = n.\n{HOLE}\nQed. End S.", {}, "stands before"),
        (f"Theorem goal : True.\n{HOLE}\nQed.", {"definitions": "Inductive"}, "does not compile"),
        (f"Theorem goal : True.\n{HOLE}\nQed.", {"axioms": "all"}, "list of names"),
    ],
)
def test_a_broken_problem_is_an_error(verifier: Proof, answer: str, meta: dict[str, object], says: str) -> None:
    judgement = judge(verifier, "exact I.", answer, **meta)
    assert judgement.outcome == Outcome.ERROR and says in judgement.detail, judgement


def test_axioms_count_only_where_they_are_allowed(verifier: Proof) -> None:
    extensionality = "Coq.Logic.FunctionalExtensionality.functional_extensionality_dep"
    template = (
        "Require Import FunctionalExtensionality.\n"
        f"Theorem goal : (fun n => n + 0) = (fun n => n).\nProof.\n{HOLE}\nQed."
    )
    proof = "apply functional_extensionality. intros n. symmetry. apply plus_n_O."
    judgement = judge(verifier, proof, template)
    assert judgement.outcome == Outcome.WRONG and "functional_extensionality_dep" in judgement.detail
    judgement = judge(verifier, proof, template, axioms=[extensionality])
    assert judgement.outcome == Outcome.CORRECT and "functional_extensionality_dep" in judgement.detail
    assert judge(verifier, proof, template, axioms=["Other.functional_extensionality"]).outcome == Outcome.WRONG


def test_an_axiom_of_the_candidates_own_is_not_one_that_is_allowed() -> None:
    allowed = ["Coq.Logic.ClassicalFacts.excluded_middle"]
    assert is_allowed("ClassicalFacts.excluded_middle", allowed, shortened=True)
    assert is_allowed("excluded_middle", allowed, shortened=True)
    assert not is_allowed("Candidate.excluded_middle", allowed, shortened=True)
    assert not is_allowed("Candidate.Coq.Logic.ClassicalFacts.excluded_middle", allowed, shortened=True)
    assert not is_allowed("middle", allowed, shortened=True)
    assert not is_allowed("excluded_middle", allowed, shortened=False)


# Each closes the proof or goes round it, and puts something else in its place. The theorem is false, so none is right.
CHEATS = dict(
    part.partition("\n")[::2]
    for part in Path(__file__).with_name("coq_cheats.txt").read_text(encoding="utf-8").split("\n=== ")[1:]
)


def test_there_are_cheats() -> None:
    assert len(CHEATS) > 50


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_not_correct(verifier: Proof, name: str) -> None:
    judgement = judge(verifier, CHEATS[name], FALSE)
    assert judgement.outcome in (Outcome.WRONG, Outcome.NO_ANSWER), judgement


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_not_correct_by_the_kernel_alone(
    verifier: Proof, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that looks at the text switched off: the separate files must be enough."""
    monkeypatch.setattr(coq.Coq, "clean", lambda self, theorem, proof: proof)
    judgement = judge(verifier, CHEATS[name], FALSE)
    assert judgement.outcome in (Outcome.WRONG, Outcome.NO_ANSWER), judgement


def test_the_guards_are_not_so_tight_that_nothing_passes(verifier: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same way round the text's guard, with an honest proof: what is refused above is refused for its content."""
    monkeypatch.setattr(coq.Coq, "clean", lambda self, theorem, proof: proof)
    honest = 'Abort.\nNotation "a + b" := (b + a) (only parsing) : other.\nLemma two : 2 = 2. exact eq_refl. Qed.\n'
    template = FALSE.replace("3", "2")
    assert judge(verifier, honest + "Theorem goal : 1 + 1 = 2.\nexact two.", template).outcome == Outcome.CORRECT


@pytest.mark.parametrize(
    "bomb", ["repeat (idtac; pose 1).", "do 100000000 idtac.", "let rec f := f in f.", "vm_compute in *."]
)
def test_a_bomb_ends_in_time(bomb: str) -> None:
    verifier = Proof(kernel="coq", min_level=str(sandbox.choose(sandbox.Level.UNSAFE)), seconds=1.5, memory_gib=1.0)
    template = f"Theorem goal : forall H : Nat.pow 2 40 = 0, 1 + 1 = 3.\nProof.\n{HOLE}\nQed."
    assert judge(verifier, f"intros. {bomb}", template).outcome in (Outcome.TIMEOUT, Outcome.WRONG)
    assert judge(verifier, EASY_PROOF).outcome in (Outcome.CORRECT, Outcome.TIMEOUT)


def test_nothing_is_written_outside(verifier: Proof, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    if verifier.isolation == "unsafe":
        pytest.skip("no isolation works here")
    monkeypatch.setattr(coq.Coq, "clean", lambda self, theorem, proof: proof)
    tmp_path.chmod(0o777)
    target = tmp_path / "planted"
    writes = f'Abort.\nRedirect "{target}" Print nat.\nTheorem goal : forall n : nat, n + 0 = n.\n{EASY_PROOF}'
    judge(verifier, writes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("printed", "names"),
    [
        ("Closed under the global context\n", []),
        ("Axioms:\na : False\nB.c\n  : forall x,\n  x = x\n", ["a", "B.c"]),
        ("Axioms:\n", None),
        ("", None),
        ("Closed under the global context\nAxioms:\na : False\n", None),
        ("Axioms:\nloop is assumed to be guarded.\n", None),
        ("Axioms:\nbad is assumed to be positive.\n", None),
        ("Section Variables:\nx : nat\n", None),
    ],
)
def test_assumptions_are_read_strictly(printed: str, names: list[str] | None) -> None:
    assert coq.Coq().assumptions(printed) == names


@pytest.mark.parametrize(
    ("script", "refused"),
    [
        ("intros n. - reflexivity. + { auto. } * lia.", False),
        ("all: auto. 1,2: lia. [x]: auto. Unshelve. exact I.", False),
        ("rewrite Nat.add_comm, (IH 1.5).", False),
        ("- Axiom x : False.", True),
        ("{ Axiom x : False. }", True),
        ("auto.\nAxiom x : False.", True),
        ("#[global] Unset Guard Checking.", True),
        ('1: Redirect "x" idtac.', True),
        ("intros; admit.", True),
        ("native_compute.", True),
    ],
)
def test_commands_are_told_from_tactics(script: str, refused: bool) -> None:
    assert (coq.refusal(script) is not None) is refused
