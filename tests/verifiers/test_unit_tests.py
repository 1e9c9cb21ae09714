"""`unit_tests`: shapes of problems, what is whose fault, and what it is as a plug-in."""

# Whole programs stand here as one string each.
# ruff: noqa: E501, ISC004

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel import Outcome, Problem
from flywheel.errors import UserError
from flywheel.identity import verifier_identity
from flywheel.plugins import make_verifier
from flywheel.recipe import VerifySection
from flywheel.types import Origin, Sample
from flywheel.verifiers import sandbox
from flywheel.verifiers.unit_tests import UnitTests, same_output
from flywheel.verify import VerifierPool
from tests.verifiers.unit_tests_cases import RIGHT, C, E, W, problem


@pytest.fixture(scope="module")
def verifier() -> Iterator[UnitTests]:
    made = UnitTests(seconds=20.0)
    yield made
    made.close()


# -- shapes -------------------------------------------------------------------------------------------

HELPER = '''import math

def scale(x):
    """ Twice x. """
    return 2 * x

def unscale(y):
    """ Undo scale. """
'''


def test_humaneval_shape_with_a_helper_of_the_prompt(verifier: UnitTests) -> None:
    tests = "def check(candidate):\n    for x in range(9):\n        assert candidate(scale(x)) == x\n        assert unscale(4) == 2"
    p = problem(tests, "unscale", HELPER)
    assert verifier.verify(p, "    return y / 2\n").outcome is C
    assert verifier.verify(p, HELPER + "    return y / 2\n").outcome is C
    # The tests' helper is the prompt's, not the completion's.
    cheat = "def scale(x): return 0\ndef unscale(y): return 0 if y == 0 else 2"
    assert verifier.verify(p, f"```python\n{cheat}\n```").outcome is W


def test_mbpp_shape_with_setup_classes_and_challenge_tests(verifier: UnitTests) -> None:
    setup = "root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)"
    p = Problem("p", "x", "x", meta={"test_list": ["assert height(root) == 3"], "test_setup_code": setup,
                                     "challenge_test_list": ["assert height(Node(5)) == 1"]})  # fmt: skip
    node = "class Node:\n    def __init__(self, v): self.v, self.left, self.right = v, None, None\n"
    right = node + "def height(n): return 1 + max(height(n.left), height(n.right)) if n else 0"
    assert verifier.verify(p, right).outcome is C
    assert verifier.verify(p, node + "def height(n): return 3").outcome is W
    relaxed = UnitTests(challenge_tests=False, seconds=20.0)
    assert relaxed.verify(p, node + "def height(n): return 3").outcome is C
    relaxed.close()


def test_expected_values_never_come_from_the_completion(verifier: UnitTests) -> None:
    p = problem("assert f((1, 2)) == sys.getsizeof((1, 2))")
    assert verifier.verify(p, "import sys\ndef f(t): return sys.getsizeof(t)").outcome is C
    assert verifier.verify(p, "class sys:\n    getsizeof = lambda t: 7\ndef f(t): return 7").outcome is W
    helped = problem("assert f(2) == oracle(2)")
    assert verifier.verify(helped, "def oracle(x): return 1\ndef f(x): return 1").outcome is not C


PROGRAM = {"tests": [{"input": "1 2\n", "output": "3"}, {"input": "5 6", "output": "11\n"}]}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("print(sum(map(int, input().split())))", C),
        (
            "import sys\nif __name__ == '__main__':\n    sys.stdout.write(str(sum(map(int, sys.stdin.read().split()))) + '  \\n\\n')",
            C,
        ),
        ("print(sum(map(int, open(0).read().split()))); raise SystemExit", C),
        ("print(3)", W),
        ("print(sum(map(int, input().split())), 0)", W),
        ("print(3 if '1 2' in input() else '1')", W),  # a correct prefix
        ("print(sum(map(int, input().split())))\nraise SystemExit(1)", W),
        ("print(sum(map(int, input().split())))\n1 / 0", W),
        ("import os\nos._exit(0)", W),
        ("while True: print('x' * 99999)", W),
        ("x = (", W),
    ],
)
def test_whole_programs(verifier: UnitTests, code: str, outcome: Outcome) -> None:
    assert verifier.verify(Problem("p", "Add.", "x", meta=PROGRAM), f"```python\n{code}\n```").outcome is outcome


def test_inputs_and_outputs_as_apps_has_them(verifier: UnitTests) -> None:
    meta = {"input_output": json.dumps({"inputs": ["2\n"], "outputs": ["4\n"]})}
    p = Problem("p", "Double.", "x", meta=meta)
    assert verifier.verify(p, "print(2 * int(input()))").outcome is C
    assert verifier.verify(p, "print(2 + int(input()) + 1)").outcome is W


def test_same_output_compares_the_whole() -> None:
    assert same_output("1\n2\n", "1 \n2")
    assert not same_output("1\n2", "1") and not same_output("1", "1\n2") and not same_output("1 2", "1  2")


# -- whose fault --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "code", "outcome"),
    [
        ("assert f(1) == 2 and g", RIGHT, E),  # the tests name what is nowhere... as an object, which is no value
        ("assert f(1) = 2", RIGHT, E),
        ("x = 1", RIGHT, E),
        ("def check(c): pass", RIGHT, E),
        ("import no_such_module\nassert f(1) == 2", RIGHT, E),
        ("1 / 0\nassert f(1) == 2", RIGHT, E),
        ("assert f(print) == 2", RIGHT, E),
        ("assert f(1) + 1 == 3", "def f(x): return None", W),
        ("assert f(1) == 2", "def f(x): return undefined", W),
        ("assert f(1) == 2", "def f(x): raise ImportError('x')", W),
        ("try:\n    f(1)\n    assert False\nexcept ValueError as e:\n    assert 'odd' in str(e)", "def f(x): raise ValueError('odd')", C),
        ("try:\n    f(1)\nexcept Exception:\n    pass\nassert f(2) == 1", "class Own(Exception): pass\ndef f(x):\n    if x == 1: raise Own\n    return 1", C),
        ("import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(f(1), 2)\n"
         "        with self.assertRaises(TypeError): f('a')", RIGHT, C),
        ("import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(f(1), 3)", RIGHT, W),
        ("try:\n    f(1)\nexcept BaseException:\n    pass", "import os\ndef f(x): os._exit(0)", W),  # a foul is not caught
    ],
)  # fmt: skip
def test_whose_fault(verifier: UnitTests, test: str, code: str, outcome: Outcome) -> None:
    if test.endswith("and g"):
        outcome = W  # `g` may be the completion's; that it is not is the completion's matter
    judgement = verifier.verify(problem(test), code)
    assert judgement.outcome is outcome, judgement


def test_problems_without_tests_are_errors(verifier: UnitTests) -> None:
    for meta in (
        {},
        {"test": ""},
        {"test_list": []},
        {"tests": [{"input": "x"}]},
        {"test": "assert 1", "entry_point": "not a name"},
    ):
        assert verifier.verify(Problem("p", "x", "x", meta=meta), RIGHT).outcome is E, meta


def test_calls_that_all_stand_in_the_prompt_are_remarked_on_or_refused(verifier: UnitTests) -> None:
    shown = problem("assert f(1) == 2", prompt="Write f. It must pass: assert f( 1 ) == 2")
    table = "def f(x): return {1: 2}[x]"
    assert "stands in the prompt" in verifier.verify(shown, table).detail
    strict = UnitTests(hidden_tests=True, seconds=20.0)
    assert strict.verify(shown, table).outcome is E
    more = problem("assert f(1) == 2\nassert f(7) == 8", prompt=shown.prompt)
    assert strict.verify(more, table).outcome is W and strict.verify(more, RIGHT).outcome is C
    strict.close()


def test_it_is_repeatable_and_one_test_does_not_touch_the_next(verifier: UnitTests) -> None:
    patch = problem("import builtins, random\nbuiltins.abs = lambda x: 0\nassert f(1) == 2")
    assert verifier.verify(patch, RIGHT).outcome is C
    drawn = problem("import random\nx = random.random()\nassert abs(f(-3)) == 2\nassert f(x) == 1 + x, x")
    details = {verifier.verify(drawn, "def f(x): return x + 1 if x < 0 else 0").detail for _ in range(3)}
    assert len(details) == 1 and verifier.verify(drawn, RIGHT).outcome is C


def test_packages_are_there_when_named() -> None:
    p = problem("assert f(3) == 3.0 and f(2) == 1.0")
    code = "import numpy as np\ndef f(n): return np.arange(n).sum()"
    with_numpy = UnitTests(packages=["numpy"], seconds=30.0)
    without = UnitTests(seconds=20.0)
    try:
        assert without.verify(p, code).outcome is W
        assert with_numpy.verify(p, code).outcome is C
    finally:
        with_numpy.close()
        without.close()
    with pytest.raises(ValueError, match="no-such-thing"):
        UnitTests(packages=["no-such-thing"])


# -- as a plug-in -------------------------------------------------------------------------------------


def test_in_the_pool_the_level_stands_in_every_verdict_and_nothing_is_left() -> None:
    section = VerifySection(verifier="unit_tests", options={"seconds": 3.0}, workers=2, deadline_seconds=20.0)
    texts = [RIGHT, "def f(x): return 0", "no", "def f(x):\n    while True: pass"]
    samples = [
        Sample(str(i), "p", 0, 0, i, t, "stop", 1, 0.0, "{prompt}", Origin.POLICY) for i, t in enumerate(texts * 2)
    ]
    with VerifierPool(section) as pool:
        verdicts = pool.submit([problem("assert f(1) == 2")], samples).result(timeout=100)
    assert [v.outcome for v in verdicts] == ["correct", "wrong", "no_answer", "timeout"] * 2
    assert {v.isolation for v in verdicts} == {sandbox.choose()}


HOLDER = """
import os, sys, time
from flywheel import Problem
from flywheel.verifiers.unit_tests import UnitTests
made = UnitTests(seconds=60.0)
print(made.verify(Problem("p", "", "x", meta={"test": "assert f(1) == 1", "entry_point": "f"}), "def f(x): return x").outcome, flush=True)
made.verify(Problem("p", "", "x", meta={"test": "f(1)", "entry_point": "f"}), "import time\\ndef f(x): time.sleep(600)")
"""


def test_a_killed_worker_takes_its_sandbox_with_it() -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, start_new_session=True)
    assert holder.stdout is not None and holder.stdout.readline().strip() == b"correct"
    below = _below(holder.pid)
    assert below
    holder.kill()
    holder.wait()
    holder.stdout.close()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{p}").exists() for p in below) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [p for p in below if Path(f"/proc/{p}").exists()]


def _below(root: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, ahead = [], [root]
    while ahead:
        parent = ahead.pop()
        children = [p for p, q in parents.items() if q == parent]
        found += children
        ahead += children
    return found


def test_it_fails_closed_before_a_run_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {level: "it is broken" if level != "unsafe" else "" for level in sandbox.Level}
    monkeypatch.setattr("flywheel.verifiers.sandbox.levels.self_test", lambda: broken)
    with pytest.raises(UserError, match="it is broken"):
        make_verifier("unit_tests", {})
    assert make_verifier("unit_tests", {"min_level": "unsafe"}).isolation == "unsafe"  # type: ignore[attr-defined]


def test_its_identity_covers_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    from flywheel import identity

    seen: list[str] = []
    real = identity.file_digest
    monkeypatch.setattr(identity, "file_digest", lambda path: (seen.append(path.name), real(path))[1])
    verifier_identity("unit_tests", {})
    assert {"unit_tests.py", "unit_tests_judge.py", "unit_tests_candidate.py", "seccomp.py", "zygote.py"} <= set(seen)
