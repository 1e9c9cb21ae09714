"""`unit_tests`: shapes of problems, forms of completions, what is whose fault, and the published data sets."""

# Whole programs stand here as one string each.
# ruff: noqa: E501, ISC004

from __future__ import annotations

import ast
import copy
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import Outcome, Problem
from flywheel.errors import UserError
from flywheel.identity import verifier_identity
from flywheel.plugins import make_verifier
from flywheel.recipe import VerifySection
from flywheel.types import Origin, Sample
from flywheel.verifiers import sandbox
from flywheel.verifiers.sandbox import codec
from flywheel.verifiers.unit_tests import UnitTests, same_output
from flywheel.verifiers.unit_tests_code import program_texts, prompt_code
from flywheel.verify import VerifierPool

C, W, N, T, E = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER, Outcome.TIMEOUT, Outcome.ERROR


@pytest.fixture(scope="module")
def verifier() -> Iterator[UnitTests]:
    made = UnitTests(seconds=20.0)
    yield made
    made.close()


def problem(test: str, entry: str | None = "f", prompt: str = "Write f.", **meta: Any) -> Problem:
    named = {"entry_point": entry} if entry else {}
    return Problem("p", prompt, "x", meta={"test": test, **named, **meta})


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


# -- forms of completions -----------------------------------------------------------------------------

RIGHT = "def f(x):\n    return x + 1"
FORMS = {
    "bare": (RIGHT, C),
    "fenced": (f"Here:\n```python\n{RIGHT}\n```\nDone.", C),
    "fence without a language": (f"```\n{RIGHT}\n```", C),
    "fence without an end": (f"```python\n{RIGHT}", C),
    "tildes": (f"~~~py\n{RIGHT}\n~~~", C),
    "indented fence": ("1. So:\n   ```python\n" + "".join(f"   {line}\n" for line in RIGHT.split("\n")) + "   ```", C),
    "the last that defines it": (f"```python\ndef f(x): return 0\n```\nNo:\n```python\n{RIGHT}\n```", C),
    "usage after it": (f"```python\n{RIGHT}\n```\nUse:\n```python\nprint(f(1))\n```\n```bash\npython f.py\n```", C),
    "a helper in a block before": ("```python\ndef g(x):\n    return 1\n```\n```python\ndef f(x):\n    return x + g(x)\n```", C),
    "after a thought": (f"<think>```python\ndef f(x): return 0\n```</think>\n```python\n{RIGHT}\n```", C),
    "only in a thought": (f"<think>```python\n{RIGHT}\n```</think>\nIt is done.", N),
    "a thought without end": (f"<think>```python\n{RIGHT}\n```", N),
    "prose around bare code": (f"Sure, this is it.\n\n{RIGHT}\n\nIt adds one to x.", C),
    "windows lines": (f"```python\r\n{RIGHT}\r\n```".replace("\n", "\r\n"), C),
    "a lambda": ("```python\nf = lambda x: x + 1\n```", C),
    "a cut-off tail": (f"{RIGHT}\n\ndef g(y):\n    return (y", C),
    "another name": ("```python\ndef g(x): return x + 1\n```", W),
    "a broken block": ("```python\ndef f(x) return\n```", W),
    "prose": ("I cannot do that.", N),
    "nothing": ("", N),
    "NUL and surrogates": ("\x00\ud800", N),
    "a megabyte": ("def f(x): return x + 1\n" + "#" * 1_000_000, W),
    "ten thousand brackets": ("```python\n" + RIGHT + "\ny = " + "(" * 10000 + "\n```", W),
    "fails while loaded": (f"```python\n{RIGHT}\n1 / 0\n```", W),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_completions(verifier: UnitTests, form: str) -> None:
    text, outcome = FORMS[form]
    judgement = verifier.verify(problem("assert f(1) == 2\nassert f(5) == 6"), text)
    assert judgement.outcome is outcome, judgement


def test_a_completion_that_continues_the_prompt(verifier: UnitTests) -> None:
    prompt = 'def f(x):\n    """ One more. """\n'
    p = problem("def check(candidate):\n    assert candidate(1) == 2", prompt=prompt)
    for text in (
        "    return x + 1\n",
        "return x + 1",
        "```python\n    return x + 1\n```",
        "    return x + 1\n\nprint('cut",
        RIGHT,
    ):
        assert verifier.verify(p, text).outcome is C, text
    assert verifier.verify(p, "    return x\n").outcome is W
    assert verifier.verify(p, "    I do not know\n").outcome is N
    chat = problem(p.meta["test"], prompt=f"Complete this:\n```python\n{prompt}```\n")
    assert verifier.verify(chat, "    return x + 1\n").outcome is C
    template = problem(p.meta["test"], prompt="Write it, please: " + prompt, **{"prompt_": 0})
    template.meta["prompt"] = prompt
    assert verifier.verify(template, "    return x + 1\n").outcome is C


@given(st.text(alphabet=st.sampled_from(list("`~pyf():=\n \x00\ud800d<>think/x")), max_size=300))
@settings(max_examples=200, deadline=None)
def test_extraction_takes_any_text(text: str) -> None:
    found = program_texts(text, "def f(x):\n", "f")
    assert all(t.strip() and least >= 1 for t, least in found.texts)


def test_prompt_code_is_code() -> None:
    assert prompt_code("Write a function.") == ""
    assert prompt_code("def f(x):\n    '''x'''\n").startswith("def f")


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


# -- the codec ----------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
    | st.sampled_from([int, str, type(None)]) | st.builds(range, st.integers(0, 9)),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.sets(st.integers()) | st.frozensets(st.text())
    | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
@settings(max_examples=300, deadline=None)
def test_plain_values_cross_unchanged(value: Any) -> None:
    assert same(codec.decode(codec.encode(value)), value)


def same(a: Any, b: Any) -> bool:
    """Equal, of equal types all the way down, and not-a-number where the other is."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b or repr(a) == repr(b)


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_hostile_bytes_are_a_value_or_refused(data: bytes) -> None:
    value_or_refusal(data)


def value_or_refusal(data: bytes) -> None:
    try:
        value = codec.decode(data)
    except codec.CodecError:
        return
    assert type(value) in (
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        list,
        tuple,
        set,
        frozenset,
        dict,
        range,
        type,
    ) or hasattr(value, "__next__")


def test_a_plain_types_subclass_crosses_as_that_type() -> None:
    from collections import Counter, OrderedDict, namedtuple
    from enum import IntEnum

    class Odd(str):
        def __str__(self) -> str:
            return "other"

    pair = namedtuple("pair", "a b")
    number = IntEnum("number", "one two")
    for value, plain in (
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (pair(1, 2), (1, 2)),
        (number.two, 2),
    ):
        back = codec.decode(codec.encode(value))
        assert type(back) is type(plain) and back == plain
    assert codec.decode(codec.encode(Odd("x"))) == "other" or codec.decode(codec.encode(Odd("x"))) == "x"
    assert list(codec.decode(codec.encode(iter([1, 2])))) == [1, 2]
    assert math.isnan(codec.decode(codec.encode(math.nan)))


def test_what_is_not_plain_cannot_cross() -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    for value in (object(), print, UnitTests, deep, iter(range(10**6)), b"x" * (codec.LARGEST + 1)):
        with pytest.raises(codec.CodecError):
            codec.encode(value)
    for data in (b"", b"\xff", b"1 2", b"[", b"[1]]", b'{"d":[1]}', b'{"d":[[],1]}', b'{"s":[[]]}', b'{"t":{"t":[]}}',
                 b'{"t":"x"}', b'{"y":"exec"}', b'{"h":1}', b'{"h":"1"}', b'{"b":"\xc4\x80"}', b'{"i":"x"}', b'{"r":[1,2,0]}',
                 b'{"r":[1,true,1]}', b'{"c":[1,2]}', b'{}', b'{"t":[],"s":[]}', b'{"x":[]}', b"9" * 5000,
                 b"[" * 101 + b"]" * 101, b"[" * 100_000, b'{"t":[' * 60 + b"[" * 60 + b"]" * 60 + b"]}" * 60):  # fmt: skip
        with pytest.raises(codec.CodecError):
            codec.decode(data)


def test_the_codec_at_its_bounds() -> None:
    for value in (
        10**4299,
        -(10**9999),
        [10**9999, {"a": -(1 << 60_000)}],
        "[" * 500 + '"\\[',
        ["[", "]"] * 200,
        "\ud83d\ude00",
    ):
        assert codec.decode(codec.encode(value)) == value
    deepest: Any = 1
    for _ in range(codec.DEEPEST):
        deepest = [deepest]
    assert codec.decode(codec.encode(deepest)) == deepest
    wide = [[i] for i in range(1000)]
    assert codec.decode(codec.encode(wide)) == wide
    assert codec.decode(codec.encode([codec.Strange(7)]), lambda number: number + 1) == [8]


JSON_LIKE = st.text(alphabet=st.sampled_from(list('[]{}":,0123456789eE.-+tfnNIszdrcbiyhulrae \\')), max_size=60)


@given(JSON_LIKE)
@settings(max_examples=500, deadline=None)
def test_hostile_texts_are_a_value_or_refused(text: str) -> None:
    value_or_refusal(text.encode())


# -- published data sets ------------------------------------------------------------------------------

FILES = {"humaneval_test": 164, "mbpp_train": 374, "mbpp_validation": 90, "mbpp_test": 500}


class Mutator(ast.NodeTransformer):
    """Changes the `nth` place where a change may make a program wrong; `changed` says whether there was one."""

    SWAPS: ClassVar[dict[type, type]] = {
        ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
        ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
        ast.And: ast.Or, ast.Or: ast.And,
    }  # fmt: skip

    def __init__(self, nth: int) -> None:
        self.left = nth
        self.changed = False

    def _here(self) -> bool:
        self.left -= 1
        self.changed |= self.left == -1
        return self.left == -1

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) in self.SWAPS and self._here():
            node.op = self.SWAPS[type(node.op)]()
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if type(node.ops[0]) in self.SWAPS and self._here():
            node.ops[0] = self.SWAPS[type(node.ops[0])]()
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and self._here():
            node.value = ast.Constant(None)
        return node


def mutants(source: str) -> Iterator[str]:
    """Programs that differ from `source` in one place, the gravest change (every `return` gives None) last."""
    for nth in range(40):
        tree, mutator = ast.parse(source), Mutator(nth)
        changed = mutator.visit(tree)
        if not mutator.changed:
            break
        yield ast.unparse(changed)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Return):
            node.value = ast.Constant("mutant")
    yield ast.unparse(tree)


def test_the_mutator_changes_one_place_at_a_time() -> None:
    source = "def f(x):\n    if x < 1:\n        return x + 1\n    return x"
    made = list(mutants(source))
    assert len(made) == 5 and len(set(made)) == 5 and ast.unparse(ast.parse(source)) not in made


@pytest.mark.parametrize("name", FILES)
def test_canonical_solutions_are_correct_and_a_mutant_of_each_is_wrong(verifier: UnitTests, name: str) -> None:
    folder = os.environ.get("FLYWHEEL_DATA")
    if not folder or not (Path(folder) / f"{name}.jsonl").exists():
        pytest.skip(f"FLYWHEEL_DATA names no folder with {name}.jsonl")
    rows = [json.loads(line) for line in (Path(folder) / f"{name}.jsonl").read_text().splitlines()]
    assert len(rows) == FILES[name]
    not_correct, no_wrong_mutant = [], []
    for row in rows:
        p = Problem(row["task_id"], row["prompt"], row["canonical_solution"], meta=copy.deepcopy(row))
        if verifier.verify(p, row["canonical_solution"]).outcome is not C:
            not_correct.append(row["task_id"])
        whole = (
            row["canonical_solution"]
            if "def " in row["canonical_solution"] and name != "humaneval_test"
            else row["prompt"] + row["canonical_solution"]
        )
        outcomes = (verifier.verify(p, f"```python\n{mutant}\n```").outcome for mutant in mutants(whole))
        if not any(o is W for o in outcomes):  # a mutant may be equivalent, or not end; one must be seen to be wrong
            no_wrong_mutant.append(row["task_id"])
    assert not_correct == [] and no_wrong_mutant == []
