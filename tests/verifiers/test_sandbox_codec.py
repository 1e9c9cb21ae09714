"""The codec: plain values cross unchanged, and nothing else does."""

# ruff: noqa: E501

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.verifiers.sandbox import codec
from flywheel.verifiers.unit_tests import UnitTests

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
