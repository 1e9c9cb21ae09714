"""Accuracy by a field of the problems."""

from flywheel.measures.by_field import accuracy_by
from flywheel.recipe import EvaluateSection
from flywheel.types import Problem

SECTION = EvaluateSection(by="digits", resamples=100)


def problems(*values):
    return {
        f"p{i}": Problem(f"p{i}", str(i), "1", meta={} if v is None else {"digits": v}) for i, v in enumerate(values)
    }


def test_each_value_has_its_share_with_numbers_by_size():
    found = accuracy_by({"p0": (1, 1), "p1": (2, 1), "p2": (1, 0)}, problems(10, 10, 9), SECTION, seed=0)
    assert found["field"] == "digits"
    assert [(r["value"], r["n_problems"], r["pass_1"]) for r in found["values"]] == [(9, 1, 0.0), (10, 2, 0.75)]
    low, high = found["values"][1]["interval"]
    assert low <= 0.75 <= high


def test_what_has_no_value_or_no_verdict_stands_nowhere():
    found = accuracy_by({"p0": (0, 0), "p1": (1, 1)}, problems(3, None), SECTION, seed=0)
    assert found["values"] == []


def test_words_come_after_numbers():
    found = accuracy_by({f"p{i}": (1, 1) for i in range(4)}, problems("b", 2, "a", 10), SECTION, seed=0)
    assert [r["value"] for r in found["values"]] == [2, 10, "a", "b"]


def test_nothing_is_told_where_nothing_is_asked():
    assert accuracy_by({"p0": (1, 1)}, problems(3), EvaluateSection(), seed=0) is None
