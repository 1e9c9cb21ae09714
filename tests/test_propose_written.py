"""Problems that the policy writes and labels by its own votes (`propose.kind = "model"`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel import plugins, store
from flywheel.errors import RecipeError
from flywheel.forecast import Assumptions, Problems, forecast
from flywheel.recipe import load_recipe
from flywheel.run import Run
from flywheel.types import Example, Problem, Sample, Verdict
from tests.proposing import SMALL, a_recipe, contents, kill_a_run, proposed, spun

WRITTEN = ["propose.kind=model", "propose.ask=new", "propose.count=8", "propose.writer.completions=40"]
WRITTEN += ["verify.verifier=majority", "verify.options={last_number=true, min_share=0.25, max_share=0.75}"]
WRITTEN += ["verify.held_out=math", "verify.observer=math", "sampling.k=4", "stop.max_rounds=1"]


def a_writer(*overrides):
    return load_recipe("toy", [*SMALL, *WRITTEN, *overrides])


@pytest.fixture(scope="module")
def self_taught(tmp_path_factory):
    return spun(a_writer(), tmp_path_factory.mktemp("written") / "run")


def test_what_the_policy_wrote_is_asked_and_labelled_by_its_own_votes(self_taught):
    problems = proposed(self_taught, 0)
    assert 0 < len(problems) <= 8 and {p.answer for p in problems} == {""}
    folder = self_taught.round(0).folder
    assert {s.problem_id for s in store.read_rows(folder / "samples.parquet", Sample)} == {p.id for p in problems}
    verdicts = store.read_rows(folder / "verdicts.parquet", Verdict)
    assert {v.verifier for v in verdicts} == {"majority"}
    measured = store.read_json(folder / "metrics.json")["round"]
    right = {v.problem_id for v in verdicts if v.outcome == "correct"}
    assert measured["proposed"]["in_band"] == len(right)
    taught = store.read_rows(folder / "examples.parquet", Example)
    assert {e.problem_id for e in taught} == right, "what is kept is what votes within the band chose"
    # The toy errs by numbers drawn at random, so where two of four agree they are nearly always right.
    assert measured["proposed"]["labels"] == len(right) and measured["proposed"]["label_right"] > 0.6
    assert measured["observed"]["verifier"] == "math" and measured["observed"]["unobserved"] == 0
    assert measured["observed"]["kept_right"] > measured["observed"]["all_right"]


def test_the_benchmark_finds_on_disk_what_the_observer_found(self_taught):
    script = Path(__file__).parents[1] / "benchmarks/agreement.py"
    command = [sys.executable, str(script), str(self_taught.directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured = store.read_json(self_taught.round(0).folder / "metrics.json")["round"]
    assert found["proposed"] == measured["proposed"]
    assert {"verifier": "math", **found["observed"]} == measured["observed"]


def test_all_that_was_written_is_there_with_what_became_of_it(self_taught):
    folder = self_taught.round(0).folder
    rows = store.read_rows(folder / "proposals.parquet", Sample)
    told = store.read_json(folder / "propose.json")
    assert [r.id for r in rows] == [f"w000/{i:05d}" for i in range(40)]
    assert (told["written"], told["tokens"]) == (40, sum(r.tokens for r in rows))
    entry = self_taught.round(0).manifest.entries()["propose"]
    assert entry.ingredients["inputs"]["model"] == self_taught.model_digest(self_taught.generation(0))
    assert entry.info["proposed"] == len(proposed(self_taught, 0))


@pytest.mark.parametrize("file", ["proposals.parts/000001.parquet", "000/problems.parquet"])
def test_a_writer_that_is_killed_goes_on_where_it_was(self_taught, tmp_path, file):
    recipe = a_writer("sampling.chunk_problems=8")
    kill_a_run(recipe, tmp_path / "run", file)
    one, two = contents(spun(recipe, tmp_path / "run").directory), contents(self_taught.directory)
    assert {name for name in one | two if one.get(name) != two.get(name)} == {"recipe.json"}  # the size of chunks


def test_a_verifier_that_needs_a_reference_cannot_judge_what_the_policy_writes(tmp_path):
    with pytest.raises(RecipeError, match=r"'model' with verify\.verifier = 'math'.*take 'majority'"):
        Run.open(load_recipe("toy", [*SMALL, "propose.kind=model"]), tmp_path / "run")
    with pytest.raises(RecipeError, match="observer = 'majority' needs all completions"):
        Run.open(a_recipe("verify.observer=majority"), tmp_path / "other")


def test_the_recipe_asks_for_what_defines_the_method():
    recipe = load_recipe("self_play")
    assert (recipe.propose.kind, recipe.propose.ask) == ("model", "new")
    majority = plugins.make_verifier(recipe.verify.verifier, recipe.verify.options)
    asked = Problem("p", "?", "")

    def outcomes(*answers: int) -> set[str]:
        return {str(j.outcome) for j in majority.verify_group(asked, [f"It is {a}." for a in answers])}

    assert recipe.sampling.k == 8
    assert outcomes(1, 2, 3, 4, 5, 6, 7, 8) == {"no_answer"}, "one vote is none"
    assert outcomes(1, 1, 3, 4, 5, 6, 7, 8) == {"correct", "wrong"}, "two of eight are the least"
    assert outcomes(1, 1, 1, 1, 1, 1, 1, 8) == {"correct", "wrong"}, "seven of eight are the most"
    assert outcomes(1, 1, 1, 1, 1, 1, 1, 1) == {"no_answer"}, "all teach nothing"
    assert outcomes(1, 1, 2, 2, 5, 6, 7, 8) == {"no_answer"}, "a tie has no winner"


def test_writing_counts_in_the_forecast():
    sizes, given = Problems(train=50, dev=8, test=4), Assumptions()
    with_, without = a_writer(), a_writer("propose.writer.completions=1")
    tokens = [forecast(recipe, sizes, given).total("tokens").most for recipe in (with_, without)]
    assert tokens[0] - tokens[1] == 39 * with_.propose.writer.max_tokens
