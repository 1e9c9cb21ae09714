"""`unit_tests` on the published data sets: canonical solutions are right, and a mutant of each is wrong."""

# Whole programs stand here as one string each.

from __future__ import annotations

import ast
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from flywheel import Problem
from flywheel.verifiers.unit_tests import UnitTests
from tests.verifiers.unit_tests_cases import C, W


@pytest.fixture(scope="module")
def verifier() -> Iterator[UnitTests]:
    made = UnitTests(seconds=20.0)
    yield made
    made.close()


FILES = {"humaneval_test": 164, "mbpp_train": 374, "mbpp_validation": 90, "mbpp_test": 500}


class Mutator(ast.NodeTransformer):
    """Changes the `nth` place where a change may make a program wrong; `changed` says whether there was one."""

    SWAPS: ClassVar[dict[type, type]] = {
        ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
        ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
        ast.And: ast.Or, ast.Or: ast.And,
    }  # fmt: skip

    def __init__(self, nth: int) -> None:
        self.left = nth
        self.changed = False

    def _here(self) -> bool:
        self.left -= 1
        self.changed |= self.left == -1
        return self.left == -1

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) in self.SWAPS and self._here():
            node.op = self.SWAPS[type(node.op)]()
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if type(node.ops[0]) in self.SWAPS and self._here():
            node.ops[0] = self.SWAPS[type(node.ops[0])]()
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and self._here():
            node.value = ast.Constant(None)
        return node


def mutants(source: str) -> Iterator[str]:
    """Programs that differ from `source` in one place, the gravest change (every `return` gives None) last."""
    for nth in range(40):
        tree, mutator = ast.parse(source), Mutator(nth)
        changed = mutator.visit(tree)
        if not mutator.changed:
            break
        yield ast.unparse(changed)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Return):
            node.value = ast.Constant("mutant")
    yield ast.unparse(tree)


def test_the_mutator_changes_one_place_at_a_time() -> None:
    source = "def f(x):\n    if x < 1:\n        return x + 1\n    return x"
    made = list(mutants(source))
    assert len(made) == 5 and len(set(made)) == 5 and ast.unparse(ast.parse(source)) not in made


@pytest.mark.parametrize("name", FILES)
def test_canonical_solutions_are_correct_and_a_mutant_of_each_is_wrong(verifier: UnitTests, name: str) -> None:
    folder = os.environ.get("FLYWHEEL_DATA")
    if not folder or not (Path(folder) / f"{name}.jsonl").exists():
        pytest.skip(f"FLYWHEEL_DATA names no folder with {name}.jsonl")
    rows = [json.loads(line) for line in (Path(folder) / f"{name}.jsonl").read_text().splitlines()]
    assert len(rows) == FILES[name]
    not_correct, no_wrong_mutant = [], []
    for row in rows:
        p = Problem(row["task_id"], row["prompt"], row["canonical_solution"], meta=copy.deepcopy(row))
        if verifier.verify(p, row["canonical_solution"]).outcome is not C:
            not_correct.append(row["task_id"])
        whole = (
            row["canonical_solution"]
            if "def " in row["canonical_solution"] and name != "humaneval_test"
            else row["prompt"] + row["canonical_solution"]
        )
        outcomes = (verifier.verify(p, f"```python\n{mutant}\n```").outcome for mutant in mutants(whole))
        if not any(o is W for o in outcomes):  # a mutant may be equivalent, or not end; one must be seen to be wrong
            no_wrong_mutant.append(row["task_id"])
    assert not_correct == [] and no_wrong_mutant == []
