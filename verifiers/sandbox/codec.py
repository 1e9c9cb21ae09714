"""Plain values as bytes and back: how arguments and answers cross between processes that do not trust each other.

What comes out of `decode` is None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range, one
of these types itself, or an iterator over such, each of exactly that type: no class of the sender's, and so no method
of the sender's, can come along. Never pickle. Standard library only: runs inside.

The bytes are JSON, whose reader and writer are C and used to strangers. None, bool, int, float, str and list stand for
themselves; all else is an object with one member, whose name says what is made of its value: `{"t": [1, 2]}` is (1, 2).
"""

from __future__ import annotations

import json
import json.encoder
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Any

DEEPEST = 100
"""Levels of nesting that can cross."""
LARGEST = 8 << 20
"""Bytes of one message."""
MOST_ITEMS = 100_000
"""Items that are taken from an iterator."""
LONGEST_NUMBER = 4000
"""Digits of an integer in decimals: the interpreter refuses to read many more. Longer ones cross in hexadecimals."""

_THEMSELVES = frozenset({type(None), bool, int, float, str})
_TAGS: dict[type, str] = {tuple: "t", set: "s", frozenset: "z"}
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range, type(None))
}
_NO_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^]["]++', re.DOTALL)
# What JSONEncoder makes anew for every text.
_writer = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, None, json.encoder.encode_basestring, None, ":", ",", False, False, True
)


class CodecError(ValueError):
    """A value that is not plain, or bytes that are no value."""


class Strange:
    """Stands for a value that stays with the other side; `number` is its name there."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


# -- from values to bytes -----------------------------------------------------------------------------


def encode(value: Any, strange: Callable[[Any], int] | None = None) -> bytes:
    """A value as bytes. Raises CodecError.

    Objects of a plain type's subclass cross as that plain type. `strange` gives a number to what is not plain;
    without it that is an error.
    """
    form = _form(value, strange, 0)
    try:
        text = "".join(_writer(form, 0))
    except ValueError:  # a number of too many digits; where the program has lifted that bound, the length tells
        text = ""
    if not text or len(text) > LONGEST_NUMBER:
        text = "".join(_writer(_in_hexadecimals(form), 0))
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > LARGEST:
        raise CodecError(f"larger than {LARGEST} bytes")
    return data


def _form(value: Any, strange: Callable[[Any], int] | None, depth: int) -> Any:
    """What JSON's writer is given for a value: for lists of what stands for itself, these lists."""
    kind = type(value)
    if kind is list:
        return _form_of_items("", value, strange, depth)
    if kind in _THEMSELVES:
        return value
    if kind is dict:
        return _form_of_items("d", [x for pair in value.items() for x in pair], strange, depth)
    if kind in _TAGS:
        return _form_of_items(_TAGS[kind], value, strange, depth)
    return _form_of_other(value, strange, depth)


def _form_of_items(tag: str, items: Any, strange: Callable[[Any], int] | None, depth: int) -> Any:
    if depth >= DEEPEST:
        raise CodecError(f"more than {DEEPEST} levels deep")
    if not _THEMSELVES.issuperset(map(type, items)):
        items = [i if type(i) in _THEMSELVES else _form(i, strange, depth + 1) for i in items]
    return {tag: list(items)} if tag else items


def _form_of_other(value: Any, strange: Callable[[Any], int] | None, depth: int) -> Any:
    kind = type(value)
    if kind is Strange:
        return {"h": value.number}
    if kind is bytes:
        return {"b": value.decode("latin-1")}
    if kind is complex:
        return {"c": [value.real, value.imag]}
    if kind is range:
        return {"r": [value.start, value.stop, value.step]}
    if kind is type and value in _TYPES.values():
        return {"y": value.__name__}
    for base in (int, float, complex, str, bytes, list, tuple, set, frozenset, dict):
        if isinstance(value, base):
            return _form(_plain(value, base), strange, depth)
    if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return _form(value.item(), None, depth)
    if isinstance(value, (bytearray, memoryview)):
        return _form(bytes(value), strange, depth)
    if hasattr(kind, "__next__"):
        return _form_of_items("I", list(_taken(value)), strange, depth)
    if strange is None:
        raise CodecError(f"a {kind.__name__} cannot cross")
    return {"h": strange(value)}


def _taken(iterator: Iterator[Any]) -> Iterator[Any]:
    for count, item in enumerate(iterator):
        if count == MOST_ITEMS:
            raise CodecError(f"an iterator of more than {MOST_ITEMS} items")
        yield item


def _plain(value: Any, base: type) -> Any:
    """`value` as exactly `base`, by the base's own methods whatever the subclass redefines."""
    if base is int:
        return int.__add__(value, 0)
    if base is float:
        return float.__add__(value, 0.0)
    if base is complex:
        return complex.__add__(value, 0j)
    if base is str:
        return str.__str__(value)[:]
    if base is bytes:
        return bytes.__add__(value, b"")
    if base is dict:
        return dict(dict.items(value))
    return base(base.__iter__(value))  # type: ignore[attr-defined]


def _in_hexadecimals(form: Any) -> Any:
    """A form whose long integers are written so; their bits bound their digits."""
    if type(form) is int and form.bit_length() > 3 * LONGEST_NUMBER:
        return {"i": f"{form:x}"}
    if type(form) is list:
        return [_in_hexadecimals(item) for item in form]
    if type(form) is dict:
        return {tag: _in_hexadecimals(inner) for tag, inner in form.items()}
    return form


# -- from bytes to values -----------------------------------------------------------------------------


def decode(data: bytes, strange: Callable[[int], Any] | None = None) -> Any:
    """The value that `data` stands for. Raises CodecError for anything else than one whole value.

    `strange` makes what stands for a value that stayed with the sender; without it such a value is an error.
    """
    try:
        text = data.decode("utf-8", "surrogatepass")
        value, end = _reader(strange).raw_decode(text)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise CodecError(f"no value: {error}") from None
    if end != len(text):
        raise CodecError("bytes after the value")
    # Every level has a bracket of its own, so only texts with many need a closer look.
    if text.count("[") > DEEPEST and _depth(text) > DEEPEST:
        raise CodecError(f"more than {DEEPEST} levels deep")
    return value


def _depth(text: str) -> int:
    return max(accumulate(1 if bracket == "[" else -1 for bracket in _NO_BRACKETS.sub("", text)), default=0)


@lru_cache(maxsize=8)
def _reader(strange: Callable[[int], Any] | None) -> json.JSONDecoder:
    def value_of(found: dict[str, Any]) -> Any:
        ((tag, inner),) = found.items()
        kind = type(inner)
        if kind is list:
            return _OF_LISTS[tag](inner)
        if kind is str:
            return _OF_TEXTS[tag](inner)
        if tag == "h" and kind is int and strange is not None:
            return strange(inner)
        raise CodecError(f"no {tag!r} is made of a {kind.__name__}")

    return json.JSONDecoder(object_hook=value_of)


def _dict(items: list[Any]) -> dict[Any, Any]:
    alternating = iter(items)
    return dict(zip(alternating, alternating, strict=True))


def _range(parts: list[Any]) -> range:
    if len(parts) != 3 or not all(type(p) is int for p in parts):
        raise CodecError("no range")
    return range(*parts)


def _complex(parts: list[Any]) -> complex:
    if len(parts) != 2 or not all(type(p) is float for p in parts):
        raise CodecError("no complex number")
    return complex(*parts)


_OF_LISTS: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple, "s": set, "z": frozenset, "d": _dict, "I": iter, "r": _range, "c": _complex,
}  # fmt: skip
_OF_TEXTS: dict[str, Callable[[str], Any]] = {
    "b": lambda text: text.encode("latin-1"),
    "i": lambda text: int(text, 16),
    "y": _TYPES.__getitem__,
}
