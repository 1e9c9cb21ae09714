"""Votes and compositions in a whole run of the toy: groups stay whole, through kills as well."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from flywheel import store
from flywheel.errors import StageError
from flywheel.fingerprint import file_digest
from flywheel.loop import spin
from flywheel.progress import Silent
from flywheel.recipe import Recipe, load_recipe
from flywheel.run import Run
from flywheel.types import Sample, Verdict

SMALL = ["problems.count=60", "problems.dev=12", "problems.test=12", "verify.workers=2", "policy.toy.skill=0.6"]
MAJORITY = ["verify.verifier=majority"]
ALL_OF = [
    "verify.verifier=all_of",
    'verify.options.parts=[{verifier = "math"}, {verifier = "exact", options = {pattern = "is (-?[0-9]+)$"}}]',
]
STAGE_VERDICTS = ["rounds/000/verdicts.parquet", "base/dev_verdicts.parquet", "final/generation_000_verdicts.parquet"]


def a_recipe(*overrides: str) -> Recipe:
    return load_recipe("toy", [*SMALL, *overrides])


def spun(recipe: Recipe, directory: Path, reporter: Silent | None = None) -> Run:
    with Run.open(recipe, directory, reporter=reporter) as run:
        spin(run)
    return Run.load(directory)


def contents(directory: Path) -> dict[str, str]:
    files = (p for p in directory.rglob("*.parquet") if "champion" not in p.relative_to(directory).parts)
    return {p.relative_to(directory).as_posix(): file_digest(p) for p in files}


def verdicts_of(run: Run, file: str) -> list[Verdict]:
    return store.read_rows(run.directory / file, Verdict)


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return spun(a_recipe(*MAJORITY), tmp_path_factory.mktemp("voted") / "run")


def test_a_run_can_be_judged_by_votes_alone(voted: Run) -> None:
    assert voted.champion().index > 0
    for file in STAGE_VERDICTS:
        groups = defaultdict(list)
        for verdict in verdicts_of(voted, file):
            groups[verdict.problem_id].append(verdict)
            assert verdict.verifier == "majority"
        assert groups and all(len(g) == 4 for g in groups.values())
        for group in groups.values():
            details = {v.detail for v in group if v.answer is not None}
            assert len(details) == 1 and "of 4" in details.pop(), "all four were judged by the same vote"
    outcomes = {v.outcome for v in verdicts_of(voted, "rounds/000/verdicts.parquet")}
    assert {"correct", "wrong", "no_answer"} >= outcomes >= {"correct", "wrong"}


def test_votes_are_the_same_whatever_the_chunks(voted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.collect.VERIFY_CHUNK", 6)
    again = spun(a_recipe(*MAJORITY, "sampling.chunk_problems=7"), tmp_path / "run")
    assert contents(again.directory) == contents(voted.directory)


class Interrupted(Exception):
    pass


class Stops(Silent):
    """A reporter that breaks the run when verification is half done."""

    def __init__(self, label: str) -> None:
        self.label = label

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        if label == self.label and unit == "verdicts" and 0 < done < total:
            raise Interrupted


@pytest.mark.parametrize("tear", [False, True], ids=["killed", "killed and a piece lost"])
def test_a_run_that_was_killed_while_voting_ends_as_the_other(
    voted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tear: bool
) -> None:
    monkeypatch.setattr("flywheel.collect.VERIFY_CHUNK", 6)
    with pytest.raises(Interrupted):
        spun(a_recipe(*MAJORITY), tmp_path / "run", Stops("round 0 · verify"))
    parts = sorted((tmp_path / "run/rounds/000/verdicts.parts").glob("*.parquet"))
    assert parts
    for part in parts:
        rows = store.read_rows(part, Verdict)
        assert len(rows) % 4 == 0, "no part holds a piece of a group"
        if tear:
            store.write_rows(part, Verdict, rows[1:])
    assert contents(spun(a_recipe(*MAJORITY), tmp_path / "run").directory) == contents(voted.directory)


FLAKY = '''
from pathlib import Path

class Flaky:
    """Fails for one sample of each group as long as its flag is there."""
    def verify(self, problem, completion):
        return self.verify_group(problem, [completion])[0]
    def verify_group(self, problem, completions):
        values = [{"score": 1.0, "detail": f"one of {len(completions)}"} for _ in completions]
        if Path(FLAG).exists():
            values[0] = "broken"
        return values
'''


def test_a_group_with_an_error_is_judged_again_as_a_whole(tmp_path: Path) -> None:
    flag, file = tmp_path / "flag", tmp_path / "flaky.py"
    flag.touch()
    file.write_text(FLAKY.replace("FLAG", repr(str(flag))))
    recipe = a_recipe(f"verify.verifier={file}:Flaky", "stop.max_rounds=1")
    with pytest.raises(StageError, match="could not be judged"):
        spun(recipe, tmp_path / "run")
    flag.unlink()
    run = spun(recipe, tmp_path / "run")
    assert {v.detail for v in verdicts_of(run, "base/dev_verdicts.parquet")} == {"one of 4"}


def test_a_run_can_be_judged_by_a_composition(tmp_path: Path) -> None:
    run = spun(a_recipe(*ALL_OF), tmp_path / "run")
    assert run.champion().index == 2
    by_math = spun(a_recipe(), tmp_path / "math")
    for file in STAGE_VERDICTS:
        composed, plain = verdicts_of(run, file), verdicts_of(by_math, file)
        assert [(v.sample_id, v.outcome) for v in composed] == [(v.sample_id, v.outcome) for v in plain]
    right = next(v for v in verdicts_of(run, STAGE_VERDICTS[0]) if v.outcome == "correct")
    assert right.detail.count("[worker] correct") == 2
    identity = store.read_json(run.directory / "run.json")["verifiers"]["all_of"]["identity"]
    assert [p["name"] for p in identity["parts"]] == ["math", "exact"]


EXCLUSIVE = """
import os
class Exclusive:
    exclusive = True
    def verify(self, problem, completion):
        with open(LOG, "a") as log: log.write(f"{os.getpid()}\\n")
        return problem.answer in completion
"""


class Watching(Run):
    """A run that notes when its engine and its verifiers come and go."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.events: list[str] = []

    def policy(self, generation, *, resumed=0):
        self.events.append("verifiers alive" if self._pool is not None else "sample")
        return super().policy(generation, resumed=resumed)

    @property
    def pool(self):
        self.events.append("engine alive" if self._policy is not None else "verify")
        return super().pool


def test_an_exclusive_verifier_and_the_engine_never_hold_memory_together(tmp_path: Path) -> None:
    file, log = tmp_path / "exclusive.py", tmp_path / "log"
    file.write_text(EXCLUSIVE.replace("LOG", repr(str(log))))
    recipe = a_recipe(f"verify.verifier={file}:Exclusive", "stop.max_rounds=1")
    with Watching.open(recipe, tmp_path / "run") as run:
        spin(run)
    assert set(run.events) == {"sample", "verify"}
    samples = store.read_rows(tmp_path / "run/rounds/000/samples.parquet", Sample)
    assert len(log.read_text().splitlines()) > len(samples)


def test_what_an_exclusive_verifier_has_judged_is_kept_piece_by_piece(tmp_path: Path) -> None:
    file, log = tmp_path / "exclusive.py", tmp_path / "log"
    slowly = EXCLUSIVE.replace("import os", "import os, time").replace(
        "        with", "        time.sleep(0.02)\n        with"
    )
    file.write_text(slowly.replace("LOG", repr(str(log))))
    recipe = a_recipe(f"verify.verifier={file}:Exclusive", "stop.max_rounds=1")
    with pytest.raises(Interrupted):
        spun(recipe, tmp_path / "run", Stops("round 0 · verify"))
    parts = sorted((tmp_path / "run/rounds/000/verdicts.parts").glob("*.parquet"))
    kept = {v.sample_id for part in parts for v in store.read_rows(part, Verdict)}
    spun(recipe, tmp_path / "run")
    judged = {v.sample_id for v in verdicts_of(Run.load(tmp_path / "run"), "rounds/000/verdicts.parquet")}
    assert kept and kept < judged, "what was finished is not lost with the rest"
