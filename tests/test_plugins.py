"""Names lead to classes, options are checked, and whatever a plug-in returns becomes a judgement."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flywheel import Judgement, Outcome, PluginError, Problem
from flywheel.plugins import (
    known_verifiers,
    load_class,
    load_verifier,
    make_verifier,
    to_judgement,
    verifier_identity,
)

OWN = """
from __future__ import annotations
from dataclasses import dataclass
from enum import Enum

class Side(Enum):
    LEFT = "left"

@dataclass(frozen=True)
class Own:
    limit: int = 3
    ratio: float = 0.5
    side: Side = Side.LEFT
    def verify(self, problem, completion):
        return len(completion) <= self.limit

class Plain:
    def __init__(self, word="x"):
        self.word = word
    def verify(self, problem, completion):
        return self.word in completion

def function(problem, completion):
    return True
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_builtin_verifiers_are_registered_like_anyones() -> None:
    assert {"exact", "math"} <= set(known_verifiers())
    assert load_verifier("math") is load_verifier("flywheel.verifiers.math:Math")


def test_a_class_in_a_file(own: Path) -> None:
    verifier = make_verifier(f"{own}:Own", {"limit": 5})
    problem = Problem(id="p", prompt="", answer="")
    assert [verifier.verify(problem, text) for text in ("12345", "123456")] == [True, False]
    assert load_verifier(f"{own}:Own") is load_verifier(f"{own}:Own")


def test_a_class_without_dataclass_takes_its_keywords(own: Path) -> None:
    assert make_verifier(f"{own}:Plain", {"word": "b"}).verify(Problem(id="p", prompt="", answer=""), "abc") is True


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mth", ["unknown verifier 'mth'", "exact, ", "Did you mean 'math'?", "'pkg.mod:Name' or 'file.py:Name'"]),
        ("nosuch.module:Name", ["cannot import nosuch.module", "ModuleNotFoundError"]),
        ("json:Nothing", ["json has no 'Nothing'"]),
        ("json:dumps", ["dumps is not a class with a verify() method"]),
        ("/nowhere/own.py:Name", ["there is no file /nowhere/own.py"]),
        ("json:", ["not of the form"]),
    ],
)
def test_a_name_that_leads_nowhere_says_why(name: str, says: list[str]) -> None:
    with pytest.raises(PluginError) as caught:
        load_verifier(name)
    assert all(part in str(caught.value) for part in says), caught.value
    assert "\n" not in str(caught.value)


def test_a_file_that_fails_to_import_says_so_and_leaves_no_half_module(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    before = set(sys.modules)
    with pytest.raises(PluginError, match="ZeroDivisionError: division by zero"):
        load_verifier(f"{path}:Name")
    assert set(sys.modules) == before


def test_policies_have_a_door_of_their_own(own: Path) -> None:
    with pytest.raises(PluginError, match=r"not a class with a generate\(\) method"):
        load_class(f"{own}:Own", "policy")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limt": 1}, "no option 'limt'; did you mean 'limit'"),
        ({"limit": "many"}, "option limit = 'many': input should be a valid integer"),
        ({"side": "up"}, "option side = 'up'"),
    ],
)
def test_options_are_checked_by_name_and_type(own: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(PluginError) as caught:
        make_verifier(f"{own}:Own", options)
    assert says in str(caught.value)


def test_a_builtin_refuses_an_option_out_of_range() -> None:
    with pytest.raises(PluginError, match=r"tolerance = 2\.0"):
        make_verifier("math", {"tolerance": 2.0})


def test_identity_follows_the_source_and_the_options(own: Path) -> None:
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


@pytest.mark.parametrize(
    ("returned", "outcome", "score"),
    [
        (True, Outcome.CORRECT, 1.0),
        (False, Outcome.WRONG, 0.0),
        (None, Outcome.NO_ANSWER, 0.0),
        (1, Outcome.CORRECT, 1.0),
        (0.999, Outcome.WRONG, 0.999),
        (0.0, Outcome.WRONG, 0.0),
        ({"score": 1.0, "answer": 7, "extra": object()}, Outcome.CORRECT, 1.0),
        ({"outcome": "correct", "score": 0.8}, Outcome.CORRECT, 0.8),
        ({"outcome": "wrong"}, Outcome.WRONG, 0.0),
        (Judgement(Outcome.TIMEOUT, 0.0), Outcome.TIMEOUT, 0.0),
        (math.nan, Outcome.ERROR, 0.0),
        (math.inf, Outcome.ERROR, 0.0),
        (1.5, Outcome.ERROR, 0.0),
        (-0.1, Outcome.ERROR, 0.0),
        (Judgement(Outcome.CORRECT, math.nan), Outcome.ERROR, 0.0),
        ({"outcome": "great"}, Outcome.ERROR, 0.0),
        ({"score": "1.0"}, Outcome.ERROR, 0.0),
        ({}, Outcome.ERROR, 0.0),
        ("correct", Outcome.ERROR, 0.0),
        ([True], Outcome.ERROR, 0.0),
    ],
)
def test_whatever_a_verifier_returns_becomes_a_judgement(returned: Any, outcome: Outcome, score: float) -> None:
    judgement = to_judgement(returned)
    assert (judgement.outcome, judgement.score) == (outcome, score)
    assert bool(judgement.detail) == (outcome == Outcome.ERROR)


def test_numpy_values_count_as_what_they_hold() -> None:
    numpy = pytest.importorskip("numpy")
    assert to_judgement(numpy.bool_(True)).outcome == Outcome.CORRECT
    assert to_judgement(numpy.float32(0.5)).score == 0.5
    assert to_judgement(numpy.array([1.0, 0.0])).outcome == Outcome.ERROR


def test_texts_come_back_short_and_writable() -> None:
    judgement = to_judgement({"score": 0.0, "answer": "a\ud800b\x00c\nd" + "x" * 10_000, "detail": "\udfff" * 9})
    assert judgement.answer is not None and len(judgement.answer) <= 500
    assert "\n" not in judgement.answer and "\x00" not in judgement.answer
    (judgement.answer + judgement.detail).encode("utf-8")


def test_a_strangers_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    """Installed by pip into a folder, it works by name where that folder is on the path, in workers too."""
    source = tmp_path / "source"
    shutil.copytree(Path(__file__).parent / "plugin_package", source)
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True, timeout=120)
    program = f"""
import sys
sys.path.insert(0, {str(target)!r})
from flywheel import Problem, Sample
from flywheel.plugins import known_verifiers
from flywheel.recipe import VerifySection
from flywheel.verify import VerifierPool
assert "palindrome" in known_verifiers(), known_verifiers()
problem = Problem(id="p", prompt="a palindrome", answer="")
texts = ["Never odd or even", "flywheel", "aa"]
samples = [Sample(f"s{{i}}", "p", 0, 0, i, t, "stop", 1, 1.0, "", "policy") for i, t in enumerate(texts)]
with VerifierPool(VerifySection(verifier="palindrome", options={{"shortest": 3}}, workers=1)) as pool:
    verdicts = pool.submit([problem], samples).result(60)
print([(v.outcome, v.verifier, v.version) for v in verdicts])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    expected = [(outcome, "palindrome", "7") for outcome in ("correct", "wrong", "wrong")]
    assert (ran.stdout.strip(), ran.returncode) == (str(expected), 0), ran.stderr
