"""Lean 4 for `flywheel.verifiers.proof_assistant`: how its files are written, compiled and read.

Loading a Lean module also loads the syntax and the macros that it declares, so here separate files alone would not
keep a candidate from changing our question. Hence the proof stands in parentheses that it cannot leave: it must be
balanced and hold no strings, and a command in parentheses is a syntax error. Since Lean goes on with the next command
behind an error, and inside terms too, what could run code while compiling is refused by name: code could write
the compiled file itself, and no kernel looks at that again.
"""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

from flywheel.verifiers import sandbox
from flywheel.verifiers.proof_assistant import Theorem, Unavailable
from flywheel.verifiers.proof_text import Refused, Template, TemplateError, restated_until, without_comments

_THEOREM = re.compile(r"^[ \t]*(?:theorem|lemma)\s+([^\s:({\[⦃.«]+(?:\.[^\s:({\[⦃.«]+)*)", re.MULTILINE)
_IMPORT = re.compile(r"^(?:prelude|(?:public\s+)?import\s+.*)$", re.MULTILINE)
_DECLARES = re.compile(
    r"^[ \t]*(?:@\[[^\]]*\]\s*|(?:private|protected|noncomputable|unsafe|partial|scoped|local)\s+)*"
    r"(inductive|structure|class|def|abbrev|axiom|opaque|instance|theorem|lemma|namespace|section|variable|mutual"
    r"|macro|elab|syntax|notation|infixl?|infixr|prefix|postfix|initialize)\b",
    re.MULTILINE,
)
_ASSIGNED = re.compile(r":=\s*(by\b)?\s*\Z")
_BY = re.compile(r"\s*by\b")
_WORDS = re.compile(
    r"\b(?:sorry|admit|axiom|native_decide|native|ofReduceBool|reduceBool|reduceNat|trustCompiler|sorryAx|lcProof"
    r"|run_tac|run_cmd|run_elab|run_meta|by_elab|eval%|include_str|unsafe|implemented_by|extern|set_option"
    r"|macro|macro_rules|elab|elab_rules|syntax|notation|initialize|skipKernelTC|attribute|deriving)(?!\w)"
    r"|\b(?:d?simproc|builtin|register|declare|run|eval)_\w+|\bd?simproc\b|@\s*\[|#[a-z]{3,}"
)
_LITERAL = re.compile(r"[\"«»]|'[()\[\]{}⟨⟩]'")
_CLOSING = {")": "(", "]": "[", "}": "{", "⟩": "⟨"}
_RESTS = re.compile(r"'flywheel_verdict' depends on axioms: \[([^\[\]]*)\]")
_RESTS_ON_NOTHING = "'flywheel_verdict' does not depend on any axioms"


class Lean:
    """Files and output of `lean`; tried with 4.35."""

    command = "lean"
    fences = ("lean", "lean4")
    source, compiled = ".lean", ".olean"
    memory_gib = 16.0  # it reserves 5 to 8 that it does not use, and maps its libraries; `--memory` bounds what it uses
    shortens = False
    axioms: tuple[str, ...] = ("propext", "Classical.choice", "Quot.sound")

    def theorem(self, template: Template) -> Theorem:
        """The last theorem before the hole; what stands before it may import and open, and declare nothing."""
        try:
            text = without_comments(template.before, "/-", "-/", "--")
        except Refused as error:
            raise TemplateError(f"in the template {error}") from None
        theorems = list(_THEOREM.finditer(text))
        if not theorems or not _ASSIGNED.search(text):
            raise TemplateError("before the template's hole must stand `theorem NAME … :=` or `theorem NAME … := by`")
        return Theorem.found(Template(text, template.after), theorems[-1], _DECLARES)

    def clean(self, theorem: Theorem, proof: str) -> str:
        """A term for the parentheses: without comments, without the statement said again, columns kept."""
        text = without_comments(proof, "/-", "-/", "--")
        by_tactics = theorem.header.rstrip().endswith("by")
        start = restated_until(text, _ASSIGNED.sub(":=", theorem.header))
        is_term = start is not None or not by_tactics
        if by := _BY.match(text, start or 0):
            start, is_term = by.end(), False
        start = start or 0
        column = start - (text.rfind("\n", 0, start) + 1)
        lines = (" " * column + text[start:]).expandtabs(8).split("\n")
        body = textwrap.dedent("\n".join(line.rstrip() for line in lines)).strip("\n")
        if reason := refusal(body):
            raise Refused(reason)
        return textwrap.indent(body if is_term else f"by\n{textwrap.indent(body, '  ')}", "  ")

    def definitions(self, text: str) -> str:
        """The definitions as they are."""
        return text

    def statement(self, theorem: Theorem, imports: Sequence[str]) -> str:
        """The theorem as an axiom of another name: two modules cannot be loaded that declare the same name."""
        _, name, rest = theorem.header.partition(theorem.name)
        return f"{_head(theorem, imports)}axiom FlywheelStatement.{name}{_ASSIGNED.sub('', rest)}\n"

    def candidate(self, theorem: Theorem, proof: str, imports: Sequence[str]) -> str:
        """The theorem with the proof in parentheses."""
        header = _ASSIGNED.sub(":= (", theorem.header)
        return f"{_head(theorem, imports)}{header}\n{proof}\n)\n{theorem.template.after}\n"

    def verdict(self, theorem: Theorem, imports: Sequence[str]) -> str:
        """The candidate's theorem under the statement's type, and its axioms."""
        head = "prelude\n" if "prelude" in _imports(theorem) else ""
        loaded = "".join(f"import {module}\n" for module in imports)
        return (
            f"{head}{loaded}theorem flywheel_verdict : type_of% @_root_.FlywheelStatement.{theorem.name} :="
            f" @_root_.{theorem.name}\n#print axioms flywheel_verdict\n"
        )

    def arguments(self, module: str) -> list[str]:
        """Messages as JSON, one thread, 4 GB of memory in use, and the compiled module beside its source."""
        return ["--json", "-j1", "--memory=4096", "-o", module + self.compiled, module + self.source]

    def environment(self, libraries: Sequence[Path]) -> dict[str, str]:
        """LEAN_PATH: the run's own folder, then the libraries'."""
        return {"LEAN_PATH": ":".join([".", *map(str, libraries)])}

    def installation(self, command: Path) -> tuple[Path, list[Path]]:
        """The real program behind elan's, which chooses a toolchain by files the sandbox does not show."""
        try:
            asked = subprocess.run(
                [command, "--print-prefix"], capture_output=True, text=True, timeout=60, check=True
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"{command} does not run: {error}") from None
        program = Path(asked) / "bin" / "lean"
        return (program if program.is_file() else command), [Path(asked)]

    def assumptions(self, printed: str) -> list[str] | None:
        """What `#print axioms` says, where that is the only thing said."""
        try:
            messages = [json.loads(line) for line in printed.splitlines() if line.strip()]
            (said,) = [" ".join(message["data"].split()) for message in messages]
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if said == _RESTS_ON_NOTHING:
            return []
        rests = _RESTS.fullmatch(said)
        return [name.strip() for name in rests[1].split(",")] if rests else None

    def objected(self, finished: sandbox.Finished) -> bool:
        """Lean goes on behind an error, and what comes then could end the process as if there had been none."""
        return b'"severity":"error"' in finished.stderr

    def complaint(self, finished: sandbox.Finished) -> str:
        """The first error message, or how the process ended."""
        for line in (finished.stderr + b"\n" + finished.stdout[:100_000]).decode(errors="replace").splitlines():
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict) and message.get("severity") == "error":
                return " ".join(str(message.get("data", "")).split())[:300]
        if finished.signal is not None:
            return f"lean was ended by signal {finished.signal}"
        return f"lean ended with {finished.exit_code}"


def refusal(text: str) -> str | None:
    """Why `text` may not stand in the parentheses, or None."""
    if literal := _LITERAL.search(text):
        return f"strings, quoted names and quoted brackets are not allowed ({literal.group()})"
    if word := _WORDS.search(text):
        return f"{word.group()} is not allowed"
    opened: list[str] = []
    for character in text:
        if character in "([{⟨":
            opened.append(character)
        elif character in _CLOSING and (not opened or opened.pop() != _CLOSING[character]):
            return f"a bracket too many: {character}"
    return f"a bracket is not closed: {opened[-1]}" if opened else None


def _imports(theorem: Theorem) -> list[str]:
    return _IMPORT.findall(theorem.preamble)


def _head(theorem: Theorem, imports: Sequence[str]) -> str:
    """The preamble with the problem's own module imported; imports must come first."""
    lines = [*_imports(theorem), *(f"import {module}" for module in imports)]
    return "\n".join([*lines, _IMPORT.sub("", theorem.preamble), ""])
