"""Which names a code object binds and uses: cheaper than to walk a syntax tree. Standard library only: runs inside."""

from __future__ import annotations

import types
from collections.abc import Iterable
from opcode import EXTENDED_ARG, opmap

_STORES = {opmap["STORE_NAME"], opmap["STORE_GLOBAL"]}
_LOAD_NAME, _LOAD_GLOBAL = opmap["LOAD_NAME"], opmap["LOAD_GLOBAL"]


def stored_names(code: types.CodeType) -> set[str]:
    """The names that a module binds at its top level, of itself or by `global`, on whatever path."""
    return _names(code)[0]


def free_names(pieces: Iterable[types.CodeType]) -> set[str]:
    """The names that a module's pieces look up among its own and the builtins, in functions and classes too, and
    that none of them binds.
    """
    bound: set[str] = set()
    used: set[str] = set()
    waiting = list(pieces)
    while waiting:
        code = waiting.pop()
        waiting += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
        stored, loaded = _names(code)
        bound |= stored
        used |= loaded
    return used - bound - {"__annotations__"}


def _names(code: types.CodeType) -> tuple[set[str], set[str]]:
    """The names stored and loaded by name. An argument of more than a byte comes in pieces, high ones first."""
    stored: set[str] = set()
    loaded: set[str] = set()
    text, names, argument = code.co_code, code.co_names, 0
    for operation, low in zip(text[::2], text[1::2], strict=True):
        argument = argument << 8 | low
        if operation in _STORES:
            stored.add(names[argument])
        elif operation == _LOAD_NAME:
            loaded.add(names[argument])
        elif operation == _LOAD_GLOBAL:  # its lowest bit says how to call what is found
            loaded.add(names[argument >> 1])
        if operation != EXTENDED_ARG:
            argument = 0
    return stored, loaded
