"""Coq (Rocq) for `flywheel.verifiers.proof_assistant`: how its files are written, compiled and read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flywheel.verifiers import sandbox
from flywheel.verifiers.proof_assistant import CANDIDATE, STATEMENT, Theorem
from flywheel.verifiers.proof_text import Refused, Template, TemplateError, restated_until, without_comments

_THEOREM = re.compile(
    r"(?:^|(?<=\s))(?:Theorem|Lemma|Fact|Remark|Corollary|Proposition|Property|Example)\s+([A-Za-z_][\w']*)"
)
# What declares a thing of its own each time it is compiled: two files would speak of two different ones.
_DECLARES = re.compile(
    r"(?:^|\.\s)\s*(?:(?:Local|Global|Polymorphic|Monomorphic|Cumulative|Private|Program|#\[[^\]]*\])\s+)*"
    r"(Inductive|CoInductive|Variant|Record|Structure|Class|Axioms?|Parameters?|Conjecture|Hypothes[ie]s|Variables?"
    r"|Context|Section|Module|Admitted|Load|Instance|Primitive|Register)\b"
)
_OPENING = re.compile(r"\s*Proof(?:\s+using\b[^.]*)?\s*\.(?=\s|$)")
_ENDING = re.compile(r"(?:^|(?<=[\s.}]))(?:Qed|Defined|Save|Admitted|Abort)\s*\.(?=\s|$)")
_SENTENCE = re.compile(r"\.(?:\s|$)")
_BEFORE_A_TACTIC = re.compile(r"(?:[-+*{}\s]|\d+(?:\s*[-,]\s*\d+)*\s*:|all\s*:|par\s*:|!\s*:|\[\s*\w+\s*\]\s*:)*")
_NOT_A_TACTIC = re.compile(r"[A-Z#]\w*")
_STRUCTURAL = frozenset({"Unshelve", "Focus", "Unfocus"})
_WORDS = re.compile(r"\b(?:admit|give_up|native_compute|bypass_check)\b")
_FINDLIB = (Path("/etc/ocamlfind.conf"), Path("/etc/ocamlfind.conf.d"))
_ASSUMED = re.compile(r"([\w'.]+)(?:\s*:.*)?")


class Coq:
    """Files and output of `coqc`; tried with 8.16."""

    command = "coqc"
    fences = ("coq", "rocq", "v", "gallina")
    source, compiled = ".v", ".vo"
    memory_gib = 2.0
    shortens = True
    axioms: tuple[str, ...] = ()

    def theorem(self, template: Template) -> Theorem:
        """The last theorem sentence before the hole; what stands before it may import and open, and declare nothing."""
        try:
            text = without_comments(template.before, "(*", "*)")
        except Refused as error:
            raise TemplateError(f"in the template {error}") from None
        theorems = list(_THEOREM.finditer(text))
        if not theorems:
            raise TemplateError("no theorem (Theorem, Lemma, …) stands before the template's hole")
        return Theorem.found(Template(text, template.after), theorems[-1], _DECLARES)

    def clean(self, theorem: Theorem, proof: str) -> str:
        """The tactics alone: without comments, without the statement said again, without `Proof.` and `Qed.`."""
        text = without_comments(proof, "(*", "*)")
        header = _OPENING.sub("", theorem.header)
        text = text[restated_until(text, header) or 0 :]
        text = _OPENING.sub("", text, count=1) if _OPENING.match(text) else text
        ending = _ENDING.search(text)
        if ending:
            if ending.group().startswith(("Admitted", "Abort")):
                raise Refused(f"the proof ends in {ending.group()}")
            text = text[: ending.start()]
        if reason := refusal(text):
            raise Refused(reason)
        return text.strip("\n") + "\n"

    def definitions(self, text: str) -> str:
        """The definitions as they are."""
        return text

    def statement(self, theorem: Theorem, imports: Sequence[str]) -> str:
        """The template up to its hole, `Admitted`, and what was to be proved under a name of ours."""
        named = f"Definition flywheel_statement : Type := ltac:(let t := type of {theorem.name} in exact t)."
        return f"{_required(imports)}{theorem.template.before}\nAdmitted.\n{named}\n"

    def candidate(self, theorem: Theorem, proof: str, imports: Sequence[str]) -> str:
        """The template with its hole filled."""
        return f"{_required(imports)}{theorem.template.before}\n{proof}\n{theorem.template.after}\n"

    def verdict(self, theorem: Theorem, imports: Sequence[str]) -> str:
        """Loaded, not imported: a candidate's notations, coercions and hints do not come along.

        Options can be set for everyone who loads a file, so the kernel's are put right before it is asked.
        """
        loaded = "".join(f"Require {module}.\n" for module in imports)
        return (
            f"{loaded}Set Guard Checking. Set Positivity Checking. Set Universe Checking.\n"
            f"Definition flywheel_verdict : {STATEMENT}.flywheel_statement := {CANDIDATE}.{theorem.name}.\n"
            "Print Assumptions flywheel_verdict.\n"
        )

    def arguments(self, module: str) -> list[str]:
        """No user's rc file, and this folder's modules by their bare names."""
        return ["-q", "-noglob", "-w", "none", "-R", ".", "", module + self.source]

    def environment(self, libraries: Sequence[Path]) -> dict[str, str]:
        """COQPATH, whose folders hold installed libraries."""
        return {"COQPATH": ":".join(map(str, libraries))} if libraries else {}

    def installation(self, command: Path) -> tuple[Path, list[Path]]:
        """The prefix that the program lies in, such as a switch of opam, and where findlib looks for Coq's plug-ins.

        The sandbox shows the system's own prefixes by itself.
        """
        prefix = command.parent.parent
        folders = [] if prefix.is_relative_to("/usr") or prefix == Path("/") else [prefix]
        return command, [*folders, *(p for p in _FINDLIB if p.exists())]

    def assumptions(self, printed: str) -> list[str] | None:
        """What `Print Assumptions` says: nothing but axioms by name. Whatever else it reports is not read away."""
        if printed.strip() == "Closed under the global context":
            return []
        first, *rest = printed.strip("\n").split("\n")
        if first != "Axioms:" or not rest:
            return None
        names = []
        for line in rest:
            if line.startswith(" "):
                continue  # the type of the axiom above goes on
            named = _ASSUMED.fullmatch(line)
            if named is None:
                return None  # "… is assumed to be guarded", "… relies on an unsafe universe hierarchy", …
            names.append(named[1])
        return names

    def objected(self, finished: sandbox.Finished) -> bool:
        """Coq stops at its first error."""
        return False

    def complaint(self, finished: sandbox.Finished) -> str:
        """The text behind the first `Error:`, or how the process ended."""
        said = finished.stderr.decode(errors="replace") + "\n" + finished.stdout[:2000].decode(errors="replace")
        _, error, text = said.partition("Error:")
        if error:
            return " ".join(text.split())[:300]
        if finished.signal is not None:
            return f"coqc was ended by signal {finished.signal}"
        return f"coqc ended with {finished.exit_code}"


def refusal(text: str) -> str | None:
    """Why `text` is no tactic script, or None. The first of two guards: the kernel judges what passes.

    Commands begin with a capital letter and tactics do not, so every sentence that does is refused.
    """
    start = 0
    for end in [*(m.end() for m in _SENTENCE.finditer(text)), len(text)]:
        sentence = text[start:end]
        tactic = _BEFORE_A_TACTIC.match(sentence)
        word = _NOT_A_TACTIC.match(sentence, tactic.end() if tactic else 0)
        if word and word.group() not in _STRUCTURAL:
            return f"{word.group()} is a command, not a tactic"
        start = end
    if word := _WORDS.search(text):
        return f"{word.group()} is not allowed"
    return None


def _required(imports: Sequence[str]) -> str:
    return "".join(f"Require Import {module}.\n" for module in imports)
