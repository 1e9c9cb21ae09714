"""Where problems go between generations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.migration import LEVELS, level, migration

from .conftest import CALM

COUNTS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.integers(0, 5).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
)


def test_levels():
    assert [level(4, c) for c in (0, 1, 3, 4)] == ["never", "frontier", "frontier", "mastered"]
    with pytest.raises(ValueError, match="0 right among 0"):
        level(0, 0)


def test_by_hand():
    before = {"a": (4, 0), "b": (4, 2), "c": (4, 4), "only before": (4, 1), "unjudged": (0, 0)}
    after = {"a": (4, 1), "b": (4, 4), "c": (4, 3), "only after": (4, 1), "unjudged": (4, 4)}
    moved = migration(before, after)
    assert moved["n_problems"] == 3
    assert moved["counts"]["never"] == {"never": 0, "frontier": 1, "mastered": 0}
    assert moved["before"] == {"never": 1, "frontier": 1, "mastered": 1}
    assert moved["after"] == {"never": 0, "frontier": 2, "mastered": 1}
    assert moved["shares"]["mastered"]["frontier"] == pytest.approx(1 / 3)
    assert migration(before, {"z": (4, 1)}) is None


@CALM
@given(COUNTS, COUNTS)
def test_every_common_problem_goes_somewhere_once(before, after):
    moved, back = migration(before, after), migration(after, before)
    if moved is None:
        assert back is None
        return
    assert sum(sum(row.values()) for row in moved["counts"].values()) == moved["n_problems"]
    assert sum(sum(row.values()) for row in moved["shares"].values()) == pytest.approx(1.0)
    assert all(moved["counts"][a][b] == back["counts"][b][a] for a in LEVELS for b in LEVELS)
    assert moved["before"] == back["after"]
