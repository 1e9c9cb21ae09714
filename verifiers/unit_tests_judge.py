"""The judge's process: it runs the tests, with a stand-in where they expect the completion's function.

The tests are the data set's text, so they run in the sandbox too, in a process apart from the candidate's: neither can
see the other's memory, files or descriptors. Calls go over a connection, answers come back as values of plain types,
and whether an assert holds is found out here. One judge serves many candidates, one after the other: only plain
values reach it, and each run of the tests has a namespace of its own. Standard library only.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
import types
import typing
from typing import Any

from flywheel.verifiers.sandbox import codec
from flywheel.verifiers.unit_tests_bytecode import free_names
from flywheel.verifiers.unit_tests_channel import Broken, Channel, read_all

LONGEST_TEXT = 300
_BUILTINS = dict(vars(builtins))
_LOOK_UPS = {"eval", "exec", "globals", "locals", "vars"}
"""Ways to a name that do not show it."""


class Foul(BaseException):
    """The candidate broke the rules of the connection; the tests are over, whatever they catch."""


class BadTests(Exception):
    """The tests cannot be run, whatever the completion."""


def judge(descriptors: list[int]) -> None:
    """Judge one candidate after another until the caller closes. Descriptor: a socket of datagrams.

    Each datagram brings the channel to a candidate, and where the tests are others than the last ones, these in a file.
    The answer is JSON: outcome, detail, calls, whether one of them does not stand in the prompt, the program.
    """
    import socket  # here and not where candidates are forked

    control = socket.socket(fileno=descriptors[0])
    tests: Tests | str = "there are no tests"
    while True:
        message, given, _, _ = socket.recv_fds(control, 16, 2)
        if not message:
            return
        if len(given) > 1:
            try:
                tests = Tests(**read_all(given[1]))
            except BadTests as error:
                tests = str(error)
        try:
            if isinstance(tests, str):
                report: list[Any] = ["error", tests, 0, False, ""]
            else:
                line = Line(Channel(given[0]), tests)
                outcome, detail = rule(line, tests)
                if line.foul is not None:  # said even where the tests caught it
                    outcome, detail = "wrong", line.foul
                report = [outcome, detail[:LONGEST_TEXT], line.calls, line.hidden, line.program]
        finally:
            os.close(given[0])
        control.send(json.dumps(report).encode())


def rule(line: Line, tests: Tests) -> tuple[str, str]:
    """The outcome, as `flywheel.Outcome` spells it, and a line that says why."""
    import random  # here and not in every candidate: it has each fork of who imported it draw a seed

    random.seed(0)  # tests that draw their inputs draw the same ones for everybody
    try:
        if not line.load():
            return line.refusal
    except Broken as error:
        return "wrong", f"the program ended while it was loaded ({error})"
    try:
        namespace = tests.namespace(line)
        for piece in tests.pieces:
            exec(piece, namespace)
        if tests.check:
            namespace["check"](line.entry())
        run_cases(namespace)
    except BaseException as error:  # noqa: BLE001 - asserts that do not hold, and whatever the tests come to
        return failed(line, error)
    finally:
        vars(builtins).update(_BUILTINS)
    if line.calls == 0:
        return "error", f"the tests never call {line.entries[0]!r}"
    if not line.channel.ends():
        return "wrong", "it sent what nobody asked for"
    return "correct", ""


def failed(line: Line, error: BaseException) -> tuple[str, str]:
    """What an exception out of the tests means: the tests' own fault only where no answer can have led to it."""
    if error is line.raised:
        return "wrong", f"it raises {describe(error)}"
    ours = isinstance(error, (NameError, ImportError, Uncrossable)) and not isinstance(error, UnboundLocalError)
    if ours or line.calls == 0:
        return "error", f"the tests fail by themselves: {describe(error)}"
    return "wrong", f"a test does not hold: {describe(error)}"


def describe(error: BaseException) -> str:
    """An exception in a line: its type, its text, and the test's line that it came from."""
    place, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            place = f" (line {trace.tb_lineno} of the tests)"
        trace = trace.tb_next
    return f"{type(error).__name__}: {str(error)[:LONGEST_TEXT]}".removesuffix(": ") + place


# -- what the tests see -------------------------------------------------------------------------------


class Tests:
    """A problem's tests, read once for all its completions. Raises BadTests.

    Names that the tests use and nobody defines are modules they forgot to import, or the completion's: classes whose
    objects they pass, say. Helpers of the prompt run here, in the data set's own version: a completion that
    redefines the one by which the tests check it would otherwise decide its own case.
    """

    def __init__(self, pieces: list[str], check: bool, entries: list[str], prelude: str, prompt: str) -> None:
        try:
            self.pieces = [compile(text, "<tests>", "exec", dont_inherit=True) for text in pieces]
        except (SyntaxError, ValueError) as error:
            raise BadTests(f"the tests are no Python: {error}") from None
        used = free_names(self.pieces)
        free = used - {*_BUILTINS, "candidate"}
        self.check = check
        self.prompt = "".join(prompt.split()).replace('"', "'")
        self._prelude: types.CodeType | None = None
        self._found: dict[str, Any] = {}
        if prelude and (free - set(entries) or used & _LOOK_UPS):  # most tests need none of it
            self._prelude = compile(prelude, "<prompt>", "exec", dont_inherit=True)
        try:
            free -= self._helpers().keys()
        except Exception as error:  # noqa: BLE001 - the data set's own code
            raise BadTests(f"the prompt's own code fails: {describe(error)}") from None
        for name in free:
            if name in sys.stdlib_module_names:
                self._found[name] = importlib.import_module(name)
            elif name in typing.__all__:
                self._found[name] = getattr(typing, name)
        free -= self._found.keys()
        # An entry point that is a builtin is the one that a test wraps around the real one: int(f(x)) == 35.
        self.entries = sorted(free) if entries[0] in _BUILTINS and free else entries
        self._others = free - set(self.entries)

    def _helpers(self) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": "tests"}
        if self._prelude is not None:
            exec(self._prelude, namespace)
        return namespace

    def namespace(self, line: Line) -> dict[str, Any]:
        """What the tests run in, for one completion."""
        namespace = self._helpers() | self._found
        namespace |= {name: Remote(line, name, judged=False) for name in self._others}
        namespace |= {name: line.entry(name) for name in self.entries}
        namespace["candidate"] = line.entry()
        return namespace


def run_cases(namespace: dict[str, Any]) -> None:
    """Run the `unittest.TestCase` classes among the tests, if any. Raises AssertionError for the first that fails."""
    unittest = sys.modules.get("unittest")  # who defines a test case has imported it
    if unittest is None:
        return
    cases = [v for v in namespace.values() if isinstance(v, type) and issubclass(v, unittest.TestCase)]
    for case in cases:
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
            result = unittest.TestResult()
            test.run(result)
            if not result.wasSuccessful():
                raise AssertionError((result.failures + result.errors)[0][1].strip().splitlines()[-1])


class Remote:
    """Something of the candidate's: its function, or an object that is not plain.

    It can be called, its attributes read and set, and it can be passed back. Nothing can be asked of it that
    would be answered by its own methods, comparison above all. `judged` things answer with values; others, which
    tests use to make arguments, only with further objects, so that no expected value comes from the candidate.
    """

    __slots__ = ("_judged", "_line", "_target")

    def __init__(self, line: Line, target: str | codec.Strange, *, judged: bool) -> None:
        object.__setattr__(self, "_line", line)
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_judged", judged)

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: D102 - a stand-in for what has its own
        return self._line.ask("call", self._target, arguments, named, self._judged)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._line.ask("get", self._own(), (name,), {}, self._judged)

    def __setattr__(self, name: str, value: Any) -> None:
        self._line.ask("set", self._own(), (name, value), {}, False)

    def _own(self) -> codec.Strange:
        if isinstance(self._target, str):
            named = self._line.ask("name", self._target, (), {}, False)
            if named is None:
                raise TypeError(f"the completion's {self._target!r} is no object")
            object.__setattr__(self, "_target", named._target)
        return self._target

    def _refuse(self, *_: object) -> Any:
        raise TypeError("the completion's object is no plain value: it can be used, not compared")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __iter__ = __contains__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __getitem__ = __int__ = __float__ = _refuse
    __hash__ = _refuse


class Uncrossable(Exception):
    """A test passes an argument that is no plain value."""


class Line:
    """The connection to the candidate, the count of what went over it, and the first foul."""

    def __init__(self, channel: Channel, tests: Tests) -> None:
        self.channel = channel
        self.entries = tests.entries
        self.calls = 0
        self.hidden = False
        self.foul: str | None = None
        self.raised: BaseException | None = None
        self.refusal = ("wrong", "")
        self.program = ""
        self._prompt = tests.prompt

    def entry(self, name: str | None = None) -> Remote:
        """The stand-in for the completion's function."""
        return Remote(self, name or self.entries[0], judged=True)

    def load(self) -> bool:
        """Wait for the program to be loaded; False, with `refusal` saying why, where it is none or fails."""
        try:
            kind, name, text = self.channel.receive()
        except (TypeError, ValueError):
            raise Broken("it sent a message of another form") from None
        if kind == "loaded":
            self.program = str(text)
            return True
        if kind == "unreadable":
            self.refusal = ("unreadable", str(text))
        else:
            self.refusal = ("wrong", f"loading the program raises {name}: {text}")
        return False

    def ask(self, what: str, target: Any, arguments: tuple[Any, ...], named: dict[str, Any], judged: bool) -> Any:
        """Have the candidate do one thing; its answer, or its exception. Raises Foul for an unfair answer."""
        if self.foul is not None:
            raise Foul(self.foul)
        number = int.from_bytes(os.urandom(7), "little")
        try:
            self.channel.send([number, what, target, named or None, *arguments], _number)
        except codec.CodecError as error:
            raise Uncrossable(f"an argument of the test cannot cross: {error}") from None
        except Broken:
            self._foul("the program ended before it was called")
        if judged and what == "call":
            self._count(target, arguments, named)
        try:
            echoed, kind, said, *changed = self.channel.receive(codec.Strange)
            matches = type(echoed) is int and echoed == number
        except Broken as error:
            self._foul(f"the program ended in the middle of a call ({error})")
        except (TypeError, ValueError):
            self._foul("it sent an answer of another form")
        if not matches:
            self._foul("it answered another call than the one made")
        if changed:
            self._take_changes(arguments, changed)
        if kind == "raised":
            raise self._exception(said)
        if kind == "uncrossable":
            self._foul(f"it returned what cannot cross: {said}")
        return self._value(said, judged)

    def _value(self, said: Any, judged: bool) -> Any:
        if isinstance(said, codec.Strange) or not judged:
            return Remote(self, said, judged=judged) if isinstance(said, codec.Strange) else None
        return said

    def _count(self, target: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.calls += 1
        words = [*map(repr, arguments), *(f"{k}={v!r}" for k, v in named.items())] if not self.hidden else []
        shown = "".join(f"{target}({','.join(words)})".split()).replace('"', "'")
        self.hidden = self.hidden or shown not in self._prompt

    def _take_changes(self, arguments: tuple[Any, ...], changed: Any) -> None:
        """Containers that the call has changed change for the test as well, in place."""
        try:
            alternating = iter(changed)
            for position, value in zip(alternating, alternating, strict=True):
                ours = arguments[position]
                if type(ours) is not type(value) or type(ours) not in (list, dict, set):
                    self._foul("it changed an argument into another")
                if type(ours) is list:
                    ours[:] = value
                else:
                    ours.clear()
                    ours.update(value)
        except (TypeError, ValueError, IndexError):
            self._foul("it sent an answer of another form")

    def _exception(self, said: Any) -> BaseException:
        name, text = said if type(said) is list and len(said) == 2 else ("Exception", "")
        kind = getattr(builtins, name, None) if type(name) is str else None
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            kind = Exception
            text = f"{name}: {text}"
        try:
            self.raised = kind(str(text)[:LONGEST_TEXT])
        except (TypeError, ValueError):  # UnicodeDecodeError and its like want more than a text
            self.raised = Exception(f"{name}: {text}"[:LONGEST_TEXT])
        return self.raised

    def _foul(self, what: str) -> typing.NoReturn:
        self.foul = self.foul or what
        raise Foul(self.foul)


def _number(value: Any) -> int:
    if isinstance(value, Remote):
        return value._own().number
    raise codec.CodecError(f"a {type(value).__name__} cannot cross")
