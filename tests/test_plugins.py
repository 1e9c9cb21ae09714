"""Names lead to classes, options are checked, and whatever a plug-in returns becomes a judgement."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flywheel import PluginError, Problem
from flywheel.plugins import (
    known_verifiers,
    load_class,
    load_verifier,
    make_able_verifier,
    make_verifier,
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
        ("flywheel.verifiers.exact:Exacct", ["flywheel.verifiers.exact has no 'Exacct'; it has Exact"]),
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


@dataclasses.dataclass
class Needs:
    function: str
    least: float = 0.0

    def verify(self, problem: Problem, completion: str) -> bool:
        return True

    def lacks(self) -> str | None:
        return None if self.least else "no program\nof that name"


def test_an_option_without_a_default_and_what_is_lacking_are_told_by_name() -> None:
    with pytest.raises(PluginError, match=r"needs the option 'function' \(verify.options, or --option function=…\)"):
        make_verifier(f"{__name__}:Needs", {"least": 1.0})
    assert make_able_verifier(f"{__name__}:Needs", {"function": "f", "least": 1.0})
    with pytest.raises(PluginError, match="cannot judge here: no program of that name$"):
        make_able_verifier(f"{__name__}:Needs", {"function": "f"})


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
