"""B-STaR's balance score by hand, and its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.balance import balance

from .conftest import CALM

PAIRS = st.lists(st.integers(0, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1)


@pytest.mark.parametrize(
    ("distinct", "selected", "expected"),
    [(0, 0, 0.0), (8, 8, 1.0), (4, 4, 0.5), (4, 8, 0.25), (16, 16, 1.0), (16, 32, 0.5), (1, 32, 1 / 256)],
)
def test_by_hand(distinct, selected, expected):
    assert balance(np.array([distinct]), np.array([selected]), target=8) == pytest.approx([expected])


@CALM
@given(PAIRS, st.integers(1, 12))
def test_it_lies_in_the_unit_interval_and_more_distinct_ones_never_hurt(pairs, target):
    distinct, selected = np.array(pairs).T
    scores = balance(distinct, selected, target=target)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (balance(np.minimum(distinct + 1, selected), selected, target=target) >= scores).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="distinct <= selected"):
        balance(np.array([3]), np.array([2]), target=8)
    with pytest.raises(ValueError, match="target"):
        balance(np.array([1]), np.array([2]), target=0)
