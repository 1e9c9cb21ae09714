"""A verifier's identity follows its source, its options, and what it imports of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flywheel.identity import verifier_identity

OWN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Own:
    limit: int = 3
    def verify(self, problem, completion):
        return len(completion) <= self.limit
"""


def test_identity_follows_the_source_and_the_options(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN)
    name = f"{own}:Own"
    first = verifier_identity(name, {})
    assert first == verifier_identity(name, {})
    assert verifier_identity(name, {"limit": 4}) != first
    own.write_text(OWN + "\n# edited\n")
    edited = verifier_identity(name, {})
    assert edited["source"] != first["source"]
    assert json.loads(json.dumps(edited)) == edited


def test_identity_covers_the_siblings_that_a_verifier_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "someones_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rules.py").write_text("LIMIT = 1\n")
    (package / "unrelated.py").write_text("\n")
    (package / "judge.py").write_text(
        "from someones_package.rules import LIMIT\n\nclass Judge:\n    def verify(self, problem, completion):\n"
        "        return len(completion) < LIMIT\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "someones_package.judge:Judge"
    first = verifier_identity(name, {})
    (package / "unrelated.py").write_text("# edited\n")
    assert verifier_identity(name, {}) == first
    (package / "rules.py").write_text("LIMIT = 2\n")
    assert verifier_identity(name, {})["source"] != first["source"]
