"""The candidate's process: it holds the completion's program, and answers calls of its functions with values.

It knows neither tests nor expected values, and nothing it says is a verdict. All here is at the program's mercy, which
runs in the same interpreter: what it can do with that is answer calls, as it could anyway. Standard library only.
"""

from __future__ import annotations

import _socket
import builtins
import os
import sys
import types
from typing import Any, NamedTuple

from flywheel.verifiers.sandbox import codec
from flywheel.verifiers.unit_tests_bytecode import stored_names
from flywheel.verifiers.unit_tests_channel import Broken, Channel, read_all

MODULE = "solution"
MOST_TRIMS = 60
"""Last lines that are taken off, one by one, until the rest is a program: prose and cut-off code after it."""
LONGEST_TEXT = 300
LONGEST_SHOWN = 2000
REHEARSALS = 12
"""After which the interpreter has specialised the code that it is going to."""
_REHEARSAL = "from typing import List\n\n\ndef f(x):\n    return [x] if x else {'a': x}\n"


def functions(descriptors: list[int]) -> None:
    """Load a program, say how that went, then answer calls until the judge closes.

    Descriptors: the channel, on which the program comes first, or where it is long a file that it is in.
    """
    channel = Channel(descriptors[0])
    texts, before, entries, prelude = read_all(descriptors[1]) if len(descriptors) > 1 else channel.receive()
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    program, complaint = choose(texts, before, entries)
    if program is None:
        channel.send(["unreadable", "SyntaxError", complaint])
        return
    try:
        if prelude and not program.source.startswith(prelude):
            exec(compile(prelude, "<prompt>", "exec", dont_inherit=True), module.__dict__)
        exec(program.code, module.__dict__)
    except BaseException as error:  # noqa: BLE001 - the program's own, whatever it is
        channel.send(["failed", type(error).__name__, text_of(error)])
        return
    channel.send(["loaded", "", program.source[:LONGEST_SHOWN]])
    Answers(channel, module.__dict__).serve()


def rehearse() -> None:
    """Try a function of our own, in the process that candidates are forked from: what this writes they share."""
    given: list[Any] = [[[_REHEARSAL, 1]], [], ["f"], ""]
    arguments: list[Any] = [1, 2.5, "a", [3, "b"], {"c": (4,)}, None]
    calls: list[Any] = [[n, "call", "f", None, argument] for n, argument in enumerate(arguments)]
    for _ in range(REHEARSALS):
        ours, theirs = _socket.socketpair()
        channel = Channel(ours.fileno())
        for message in (given, *calls):
            channel.send(message)
        ours.shutdown(_socket.SHUT_WR)
        functions([theirs.fileno()])
        ours.close()
        theirs.close()
    del sys.modules[MODULE]


def program(descriptors: list[int]) -> None:
    """Run a whole program as `__main__`. Descriptors: standard input, output and error, program."""
    given = read_all(descriptors[3])
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - as long as the process lives
    code = 0
    try:
        chosen, complaint = choose(given["texts"], given["before"], [])
        if chosen is None:
            raise SyntaxError(complaint)
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        exec(chosen.code, module.__dict__)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException as error:  # noqa: BLE001 - the program's own, whatever it is
        sys.stderr.write(f"{type(error).__name__}: {text_of(error)}")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


# -- from a completion's texts to a program -----------------------------------------------------------


class Program(NamedTuple):
    """A text that is a program, and its code."""

    source: str
    code: types.CodeType


def choose(texts: list[list[Any]], before: list[str], entries: list[str]) -> tuple[Program | None, str]:
    """The first of `texts` that is a program and defines the first of `entries`; else why the first of them is none.

    Each text comes with the number of its lines that must be kept. Where none is a program as it stands, one is taken
    that is without its last lines. Definitions of earlier blocks that the program lacks go before it.
    """
    complaint = ""
    for lines_off in (0, MOST_TRIMS):
        for text, least in texts:
            try:
                source, code = _compiled(text, least, lines_off)
            except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
                complaint = complaint or text_of(error)
                continue
            defined = stored_names(code)
            if entries and not defined & set(entries):
                complaint = complaint or f"it does not define {entries[0]!r}"
                continue
            if missing := _missing_definitions(defined, before):
                source = missing + source
                code = compile(source, "<completion>", "exec", dont_inherit=True)
            return Program(source, code), ""
    return None, complaint or "no program"


def _compiled(text: str, least: int, most_off: int) -> tuple[str, types.CodeType]:
    lines = text.split("\n")
    failure: Exception | None = None
    for count in range(len(lines) - (most_off > 0), max(least, len(lines) - most_off) - 1, -1):
        source = "\n".join(lines[:count])
        try:
            return source, compile(source, "<completion>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            failure = failure or error
    raise failure or SyntaxError("no program")


def _missing_definitions(have: set[str], before: list[str]) -> str:
    if not before:
        return ""
    import ast  # here, for few need it, and each page of memory counts in a process that is forked all the time

    pieces = []
    for text in before:
        try:
            earlier = ast.parse(text)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        for node in earlier.body:
            definition = isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign))
            code = compile(ast.Module([node], []), "<completion>", "exec", dont_inherit=True)
            if definition and not stored_names(code) & have:
                pieces.append(ast.unparse(node) + "\n")
    return "".join(pieces)


# -- answers ------------------------------------------------------------------------------------------


class Answers:
    """Does what the judge asks for, by name: calls, and on objects that are not plain attributes and calls."""

    def __init__(self, channel: Channel, names: dict[str, Any]) -> None:
        self.channel = channel
        self.names = names
        self.kept: list[Any] = []

    def serve(self) -> None:
        """Answer until the judge closes the connection."""
        while True:
            try:
                number, what, target, named, *arguments = self.channel.receive(self.strange)
            except Broken:
                return
            before = [(i, a, codec.encode(a, id)) for i, a in enumerate(arguments) if type(a) in (list, dict, set)]
            try:
                kind, said = "value", self.answer(what, target, arguments, named or {})
            except BaseException as error:  # noqa: BLE001 - the program's own, whatever it is
                kind, said = "raised", [type(error).__name__, text_of(error)]
            changed = [part for i, a, was in before if codec.encode(a, id) != was for part in (i, a)]
            try:
                self.channel.send([number, kind, said, *changed], self.number)
            except (codec.CodecError, MemoryError, RecursionError) as error:
                self.channel.send([number, "uncrossable", text_of(error)])

    def answer(self, what: str, target: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
        """One call, or a read or write of an attribute."""
        if what == "name":
            if target not in self.names and not hasattr(builtins, target):
                raise NameError(f"name {target!r} is not defined")
            return self.names.get(target, getattr(builtins, target, None))
        if what == "get":
            return getattr(target, arguments[0])
        if what == "set":
            return setattr(target, arguments[0], arguments[1])
        function = self.names[target] if isinstance(target, str) else target
        return function(*arguments, **named)

    def strange(self, number: int) -> Any:
        """The object that a number stands for."""
        return self.kept[number]

    def number(self, value: Any) -> int:
        """The number that stands for an object from here on."""
        self.kept.append(value)
        return len(self.kept) - 1


def text_of(error: BaseException) -> str:
    """An exception's text, whatever its own `__str__` does."""
    try:
        return str(error)[:LONGEST_TEXT]
    except BaseException:  # noqa: BLE001 - the program's own, whatever it is
        return ""
