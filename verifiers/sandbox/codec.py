"""Plain values as bytes and back: how arguments and answers cross between processes that do not trust each other.

What comes out of `decode` is None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range, one
of these types itself, or an iterator over such, each of exactly that type: no class of the sender's, and so no method
of the sender's, can come along. Never pickle. Standard library only: runs inside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

DEEPEST = 100
"""Levels of nesting that can cross."""
LARGEST = 8 << 20
"""Bytes of one message."""
MOST_ITEMS = 100_000
"""Items that are taken from an iterator."""
_CONTAINERS: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"s", frozenset: b"z", dict: b"d"}
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range, type(None))
}
_MAKERS: dict[int, type] = {tag[0]: kind for kind, tag in _CONTAINERS.items()}


class CodecError(ValueError):
    """A value that is not plain, or bytes that are no value."""


class Strange:
    """Stands for a value that stays with the other side; `number` is its name there."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def encode(value: Any, strange: Callable[[Any], int] | None = None) -> bytes:
    """A value as bytes. Raises CodecError.

    Objects of a plain type's subclass cross as that plain type. `strange` gives a number to what is not plain;
    without it that is an error.
    """
    out = bytearray()
    _write(out, value, strange, 0)
    return bytes(out)


def _write(out: bytearray, value: Any, strange: Callable[[Any], int] | None, depth: int) -> None:
    if depth > DEEPEST:
        raise CodecError(f"more than {DEEPEST} levels deep")
    if len(out) > LARGEST:
        raise CodecError(f"larger than {LARGEST} bytes")
    kind = type(value)
    if value is None:
        out += b"N"
    elif kind is bool:
        out += b"T" if value else b"F"
    elif kind is int:
        _sized(out, b"i", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    elif kind is float:
        out += b"f" + struct.pack("<d", value)
    elif kind is complex:
        out += b"c" + struct.pack("<dd", value.real, value.imag)
    elif kind is str:
        _sized(out, b"u", value.encode("utf-8", "surrogatepass"))
    elif kind is bytes:
        _sized(out, b"b", value)
    elif kind in _CONTAINERS:
        _write_items(out, _CONTAINERS[kind], list(value.items()) if kind is dict else list(value), strange, depth)
    elif kind is range:
        out += b"r"
        for part in (value.start, value.stop, value.step):
            _write(out, part, None, depth + 1)
    elif kind is type and value in _TYPES.values():
        _sized(out, b"y", value.__name__.encode())
    elif kind is Strange:
        _sized(out, b"h", value.number.to_bytes(8, "little"))
    else:
        _write_other(out, value, strange, depth)


def _write_items(
    out: bytearray, tag: bytes, items: list[Any], strange: Callable[[Any], int] | None, depth: int
) -> None:
    out += tag + struct.pack("<I", len(items))
    for item in items:
        if tag == b"d":
            _write(out, item[0], strange, depth + 1)
            _write(out, item[1], strange, depth + 1)
        else:
            _write(out, item, strange, depth + 1)


def _write_other(out: bytearray, value: Any, strange: Callable[[Any], int] | None, depth: int) -> None:
    for base in (int, float, complex, str, bytes, list, tuple, set, frozenset, dict):
        if isinstance(value, base):
            _write(out, _plain(value, base), strange, depth)
            return
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        _write(out, value.item(), None, depth)
    elif isinstance(value, (bytearray, memoryview)):
        _write(out, bytes(value), strange, depth)
    elif hasattr(type(value), "__next__"):
        items = []
        for item in value:
            items.append(item)
            if len(items) > MOST_ITEMS:
                raise CodecError(f"an iterator of more than {MOST_ITEMS} items")
        _write_items(out, b"I", items, strange, depth)
    elif strange is not None:
        _sized(out, b"h", strange(value).to_bytes(8, "little"))
    else:
        raise CodecError(f"a {type(value).__name__} cannot cross")


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


def _sized(out: bytearray, tag: bytes, payload: bytes) -> None:
    if len(payload) > LARGEST:
        raise CodecError(f"larger than {LARGEST} bytes")
    out += tag + struct.pack("<I", len(payload)) + payload


def decode(data: bytes, strange: Callable[[int], Any] | None = None) -> Any:
    """The value that `data` stands for. Raises CodecError for anything else than one whole value.

    `strange` makes what stands for a value that stayed with the sender; without it such a value is an error.
    """
    reader = _Reader(data, strange)
    try:
        value = reader.value(0)
    except (struct.error, UnicodeDecodeError, TypeError, IndexError, OverflowError) as error:
        raise CodecError(f"no value: {error}") from None
    if reader.at != len(data):
        raise CodecError("bytes after the value")
    return value


class _Reader:
    def __init__(self, data: bytes, strange: Callable[[int], Any] | None) -> None:
        self.data = data
        self.at = 0
        self.strange = strange

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise CodecError("cut short")
        self.at += count
        return taken

    def count(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise CodecError(f"more than {DEEPEST} levels deep")
        tag = self.take(1)[0]
        if tag in _MAKERS:
            return self.container(_MAKERS[tag], depth)
        match chr(tag):
            case "N":
                return None
            case "T" | "F" as truth:
                return truth == "T"
            case "i":
                return int.from_bytes(self.take(self.count()), "little", signed=True)
            case "f":
                return struct.unpack("<d", self.take(8))[0]
            case "c":
                return complex(*struct.unpack("<dd", self.take(16)))
            case "u":
                return self.take(self.count()).decode("utf-8", "surrogatepass")
            case "b":
                return self.take(self.count())
            case "I":
                return iter([self.value(depth + 1) for _ in range(self.count())])
            case "r":
                return self.range(depth)
            case "y":
                return self.type()
            case "h" if self.strange is not None:
                return self.strange(int.from_bytes(self.take(self.count()), "little"))
        raise CodecError(f"unknown tag {tag}")

    def container(self, kind: type, depth: int) -> Any:
        count = self.count()
        if kind is dict:
            found = {}
            for _ in range(count):
                key = self.value(depth + 1)
                found[key] = self.value(depth + 1)
            return found
        return kind([self.value(depth + 1) for _ in range(count)])

    def type(self) -> type:
        name = self.take(self.count()).decode()
        if name not in _TYPES:
            raise CodecError(f"no plain type {name!r}")
        return _TYPES[name]

    def range(self, depth: int) -> range:
        parts = [self.value(depth + 1) for _ in range(3)]
        if not all(type(p) is int for p in parts) or parts[2] == 0:
            raise CodecError("no range")
        return range(*parts)
