"""The generator `metamath`: every statement comes with a proof that the kernel takes."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.errors import PluginError, ProblemError
from flywheel.plugins import make_generator, make_verifier
from flywheel.problem_sources import read_source
from flywheel.problems import load_problems
from flywheel.recipe import ProblemSource, ProblemsSection, load_recipe
from flywheel.types import Problem
from flywheel.verifiers.metamath_statements import MetamathStatements, theorems_within

FIELDS = ("id", "prompt", "answer", "solution", "verifier")


def problem(row: dict) -> Problem:
    return Problem(**{f: row[f] for f in FIELDS}, meta={k: v for k, v in row.items() if k not in FIELDS})


@settings(max_examples=8)
@given(
    st.integers(0, 10**6), st.integers(0, 2), st.integers(0, 3), st.sampled_from([17, 33]), st.sampled_from([12, 60])
)
def test_every_statement_is_proved_by_its_solution_within_the_lengths(seed, detachments, weakenings, symbols, labels):
    kernel = make_verifier("proof", {})
    made = MetamathStatements(detachments, weakenings, symbols, labels)
    rows = list(islice(made.rows(seed), 8))
    assert rows == list(islice(made.rows(seed), 8))
    assert len({row["prompt"] for row in rows}) == len(rows) > 0
    for row in rows:
        judged = kernel.verify(problem(row), row["solution"])
        assert judged.outcome == "correct", judged.detail
        assert len(row["prompt"].rpartition("\n")[2].split()) <= symbols
        assert len(row["solution"].split()) == row["labels"] <= labels
        assert row["steps"] <= detachments + weakenings


def test_another_statements_proof_is_wrong():
    first, second = islice(MetamathStatements().rows(0), 2)
    assert make_verifier("proof", {}).verify(problem(first), second["solution"]).outcome == "wrong"


def test_statements_end_where_the_lengths_allow_no_more():
    rows = list(MetamathStatements(weakenings=0, symbols=9, labels=3, variables=2).rows(0))
    assert {row["prompt"].rpartition("\n")[2] for row in rows} == {
        f"( {a} -> ( {b} -> {a} ) )" for a in ("ph", "ps") for b in ("ph", "ps")
    }


def test_deeper_theorems_are_those_that_shallower_ones_lead_to():
    assert [steps for _, steps in theorems_within(0)] == [0, 0, 0]
    one, two = theorems_within(1), theorems_within(2)
    assert one == two[: len(one)] and len(two) > len(one) > 3
    assert {steps for _, steps in two} == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"detachments": 9}, "0 to 3"),
        ({"labels": 1}, "3 labels"),
        ({"depth": 1}, "no option 'depth'"),
        ({"variables": 1}, "2 to 6"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(PluginError, match=words):
        make_generator("metamath", options)


def test_a_generator_is_a_source_of_problems(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Doubles:\n    factor: int = 2\n"
        "    def rows(self, seed):\n        n = seed\n        while True:\n"
        "            n += 1\n            yield {'prompt': f'{self.factor} times {n}', 'answer': str(self.factor * n)}\n"
    )
    section = ProblemsSection(
        source="generator", name=f"{own}:Doubles", parameters={"factor": 3}, seed=4, count=9, dev=2, test=2
    )
    found = load_problems(load_recipe("toy").model_copy(update={"problems": section}))
    assert sorted(p.answer for p in found.problems) == sorted(str(3 * n) for n in range(5, 14))
    with pytest.raises(ProblemError, match=r"set problems\.count"):
        read_source(ProblemSource(source="generator", name="metamath"))
    with pytest.raises(PluginError, match=r"unknown generator 'metamat'.*Did you mean 'metamath'"):
        read_source(ProblemSource(source="generator", name="metamat", count=1))
