"""Guided samples: their share is bounded, and those that voice no doubt are told apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flywheel.guided import far_below_unguided, is_hinted, within_share
from flywheel.types import Example, Origin, Sample


def a_sample(text, tokens=10, origin=Origin.POLICY, index=0):
    return Sample(f"r000/p/{index:03d}", "p", 0, 0, index, text, "stop", tokens, 1.0, "{prompt}", origin)


def an_example(problem, origin, index=0):
    return Example(f"r000/{problem}/{index:03d}", problem, 0, [], "2 + 3 = 5", origin)


def test_density_is_a_length_free_count_of_whole_words():
    unguided = [a_sample("Wait, maybe 5", 10), a_sample("5", 10)]  # 200 and 0 a thousand: 100 in the mean
    dense = a_sample("perhaps 5", 20, Origin.HINTED)  # 50
    compound = a_sample("checkmate in 5", 20, Origin.HINTED, 1)  # 0: "check" is no word of its own here
    assert far_below_unguided([dense, compound], unguided, 0.5) == [compound]
    assert far_below_unguided([dense, compound], unguided, 0.6) == [dense, compound]


def test_where_the_unguided_samples_have_no_marker_or_are_not_there_nothing_is_dropped():
    hinted = [a_sample("5", origin=Origin.HINTED)]
    assert far_below_unguided(hinted, [a_sample("5")], 1.0) == []
    assert far_below_unguided(hinted, [], 1.0) == []


def test_each_problem_keeps_a_hinted_row_before_any_keeps_two():
    rows = [an_example("own", Origin.POLICY, i) for i in range(6)]
    rows += [an_example(p, Origin.HINTED, i) for p in ("a", "b") for i in range(3)]
    kept = [r for r in within_share(rows, 0.25) if is_hinted(r)]
    assert [r.problem_id for r in kept] == ["a", "b"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40), st.floats(0.0, 1.0))
def test_the_share_holds_and_as_many_as_it_allows_stay(drawn, share):
    rows = [an_example(p, Origin.HINTED if h else Origin.POLICY, i) for i, (p, h) in enumerate(drawn)]
    kept = within_share(rows, share)
    hinted = sum(map(is_hinted, kept))
    assert [r for r in kept if not is_hinted(r)] == [r for r in rows if not is_hinted(r)]
    assert hinted <= share * len(kept) + 1e-6
    if hinted < sum(map(is_hinted, rows)):
        assert hinted + 1 > share * (len(kept) + 1) - 1e-6
    assert kept == [r for r in rows if r in kept]
