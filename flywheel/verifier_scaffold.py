"""`flywheel new-verifier`: a package with a verifier of one's own, which installs, passes its tests and its check."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from flywheel.errors import PluginError, UserError
from flywheel.plugins import known_verifiers

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def write_package(name: str, folder: Path) -> Path:
    """Write the package `folder` for a verifier `name`; the folder.

    Raises PluginError for a name that is no lower-case word or is taken, UserError where the folder exists or cannot
    be written.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or keyword.issoftkeyword(name) or name.endswith("_"):
        raise PluginError(f"{name!r} is no name for a verifier; use lower-case letters, digits and _, e.g. word_count")
    if name in known_verifiers():
        raise PluginError(f"there is a verifier {name!r} already; known: {', '.join(known_verifiers())}")
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} is there already; give another folder: flywheel new-verifier {name} --dir D")
    words = {
        "NAME": name,
        "MODULE": f"flywheel_{name}",
        "PACKAGE": f"flywheel-{name.replace('_', '-')}",
        "CLASS": "".join(part.capitalize() for part in name.split("_")),
    }
    try:
        for path, text in FILES.items():
            file = folder / _filled(path, words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_filled(text, words), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None
    return folder


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"<(NAME|MODULE|PACKAGE|CLASS)>", lambda found: words[found.group(1)], text)


FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "<PACKAGE>"
version = "0.1.0"
description = "A verifier for flywheel."
readme = "README.md"
requires-python = ">=3.11"
# flywheel itself is what loads this package; its classes are all that is imported.
dependencies = []

[project.optional-dependencies]
test = ["pytest"]

# This line is what makes `verifier = "<NAME>"` work in a recipe.
[project.entry-points."flywheel.verifiers"]
<NAME> = "<MODULE>:<CLASS>"

[tool.setuptools.packages.find]
where = ["src"]

[tool.pytest.ini_options]
testpaths = ["tests"]
""",
    "README.md": """\
# <PACKAGE>

A verifier for flywheel: `<NAME>` says whether the last line of a completion is the reference answer.

```
pip install -e '.[test]'
python -m pytest
flywheel check <NAME>
```

In a recipe:

```toml
[verify]
verifier = "<NAME>"
options = { ignore_case = true }
```

Now make it yours: the judgement is `verify` in `src/<MODULE>/__init__.py`. Raise `version` whenever verdicts change.
""",
    "src/<MODULE>/__init__.py": '''\
"""`<NAME>`: whether the last line of a completion is the reference answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flywheel import Judgement, Outcome, Problem


@dataclass(frozen=True)
class <CLASS>:
    """Compares the last line. Fields are the options that a recipe can set."""

    name: ClassVar[str] = "<NAME>"
    version: ClassVar[str] = "1"

    ignore_case: bool = False
    """Compare without regard to case."""

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """CORRECT, WRONG, or NO_ANSWER where there is nothing to judge. What it raises becomes ERROR, never WRONG."""
        wanted = self._tidy(problem.answer)
        if not wanted:
            return Judgement(Outcome.ERROR, 0.0, None, "the problem has no reference answer")
        lines = [line for line in completion.splitlines() if line.strip()]
        if not lines:
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion has no line")
        found = self._tidy(lines[-1])
        if found == wanted:
            return Judgement(Outcome.CORRECT, 1.0, found)
        return Judgement(Outcome.WRONG, 0.0, found, "the last line is another")

    def _tidy(self, text: str) -> str:
        text = " ".join(text.split())
        return text.casefold() if self.ignore_case else text

    # The two below are for `flywheel check` alone.

    def example(self, problem: Problem) -> str:
        """A completion that must be CORRECT."""
        return f"Let me see.\\n{problem.answer}"

    @classmethod
    def problems(cls) -> list[Problem]:
        """A few problems to check the verifier on."""
        capitals = {"France": "Paris", "Kenya": "Nairobi", "Peru": "Lima", "Nepal": "Kathmandu"}
        return [Problem(id=c, prompt=f"What is the capital of {c}?", answer=a) for c, a in capitals.items()]
''',
    "tests/test_<NAME>.py": '''\
"""What `<NAME>` says, and the invariants that every verifier is held to."""

from __future__ import annotations

import pytest
from flywheel import Outcome, Problem, check_verifier

from <MODULE> import <CLASS>

PROBLEM = Problem(id="p", prompt="What is the capital of France?", answer="Paris")


@pytest.mark.parametrize(
    ("options", "completion", "outcome"),
    [
        ({}, "It is in Europe.\\nParis", Outcome.CORRECT),
        ({}, "Paris\\nor was it Rome?", Outcome.WRONG),
        ({}, "paris", Outcome.WRONG),
        ({"ignore_case": True}, "paris", Outcome.CORRECT),
        ({}, " \\n", Outcome.NO_ANSWER),
    ],
)
def test_verdicts(options: dict[str, bool], completion: str, outcome: Outcome) -> None:
    assert <CLASS>(**options).verify(PROBLEM, completion).outcome == outcome


def test_a_missing_reference_is_nobodys_wrong_answer() -> None:
    assert <CLASS>().verify(Problem(id="p", prompt="", answer=""), "Paris").outcome == Outcome.ERROR


@pytest.mark.parametrize("options", [{}, {"ignore_case": True}])
def test_it_holds_the_invariants_in_the_workers_of_a_run(options: dict[str, bool]) -> None:
    assert check_verifier("<MODULE>:<CLASS>", options).violations == []
''',
}
