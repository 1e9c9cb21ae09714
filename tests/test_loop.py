"""The whole loop with the toy policy: files, resume, going back, refusals. No Prefect, no weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel import store
from flywheel.errors import ModelError, RunError, StageError
from flywheel.fingerprint import file_digest
from flywheel.lineage import redo, trace
from flywheel.loop import spin
from flywheel.progress import Silent
from flywheel.recipe import load_recipe
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.stages import Stage, run_stage
from flywheel.types import Dropped, Example, Sample, Verdict

SMALL = ["problems.count=60", "problems.dev=12", "problems.test=12", "verify.workers=1"]


def a_recipe(*overrides):
    return load_recipe("toy", [*SMALL, *overrides])


def spun(recipe, directory: Path, **kwargs):
    with Run.open(recipe, directory) as run:
        spin(run, **kwargs)
    return Run.load(directory)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return spun(a_recipe(), tmp_path_factory.mktemp("finished") / "run")


def contents(directory: Path) -> dict[str, str]:
    """Digest of every file of a run that has no clock in it."""
    clocks = ("manifest.json", "run.json", "lock")
    files = (p for p in directory.rglob("*") if p.is_file() and p.name not in clocks and "logs" not in p.parts)
    names = {p.relative_to(directory): p for p in files}
    return {name.as_posix(): file_digest(p) for name, p in names.items() if "champion" not in name.parts}


def test_a_run_ends_with_a_better_champion_and_says_so_on_test(finished):
    assert finished.ended() == "all 2 rounds are done (stop.max_rounds)"
    assert finished.champion().index == 2
    assert (finished.directory / "champion").resolve() == (finished.directory / "rounds/001/model").resolve()
    test = store.read_json(finished.directory / "final/metrics.json")["test"]
    assert test["difference"]["1"]["low"] > 0
    rows = finished.generation_rows()
    assert [r["status"] for r in rows] == ["base", "accepted", "accepted"]
    assert rows[0]["pass_1"] < rows[2]["pass_1"]


def test_every_sample_has_one_verdict_and_one_fate(finished):
    for scope in finished.rounds():
        samples = store.read_rows(scope.folder / "samples.parquet", Sample)
        verdicts = store.read_rows(scope.folder / "verdicts.parquet", Verdict)
        examples = store.read_rows(scope.folder / "examples.parquet", Example)
        dropped = store.read_rows(scope.folder / "dropped.parquet", Dropped)
        assert [s.id for s in samples] == [v.sample_id for v in verdicts]
        assert len({s.id for s in samples}) == len(samples) == 36 * 4
        assert sorted(s.id for s in samples) == sorted([e.sample_id for e in examples] + [d.sample_id for d in dropped])


def test_metrics_compare_and_remember(finished):
    base = store.read_json(finished.directory / "base/metrics.json")
    assert base["round"] is None and base["migration"] is None and base["dev"]["against_base"] is None
    first, second = (store.read_json(scope.folder / "metrics.json") for scope in finished.rounds())
    gain = second["dev"]["against_base"]["1"]
    assert gain["value"] == pytest.approx(second["dev"]["pass_at"]["1"] - base["dev"]["pass_at"]["1"])
    assert second["dev"]["against_champion"]["1"]["value"] == pytest.approx(
        second["dev"]["pass_at"]["1"] - first["dev"]["pass_at"]["1"]
    )
    moved = second["migration"]["dev"]
    assert moved["base"]["from_generation"] == 0 and moved["previous"]["from_generation"] == 1
    assert moved["previous"]["before"] == first["migration"]["dev"]["base"]["after"]
    assert first["migration"]["train"] is None, "nothing was asked before"
    assert second["migration"]["train"]["n_problems"] == 36
    drawn = second["round"]
    assert (drawn["n_samples"], drawn["hinted_share"]) == (36 * 4, 0.0)
    assert drawn["contamination"] == {"refused": 0, "by": {}}
    assert drawn["examples"] == finished.rounds()[1].manifest.entries()["filter"].info["examples"]


def test_no_parts_are_left_behind(finished):
    assert list(finished.directory.rglob("*.parts")) == []
    assert list(finished.directory.rglob("*.tmp")) == []


def test_the_test_split_is_touched_only_at_the_end(tmp_path):
    run = spun(a_recipe(), tmp_path / "run", rounds=1)
    assert run.ended() is None
    assert not (run.directory / "final").exists()
    assert len(run.history()) == 1
    assert spun(a_recipe(), tmp_path / "run", rounds=1).ended() is not None
    assert (run.directory / "final/metrics.json").exists()
    before = contents(run.directory)
    assert contents(spun(a_recipe(), tmp_path / "run", rounds=1).directory) == before


def test_the_same_recipe_gives_the_same_files(finished, tmp_path):
    again = spun(a_recipe("verify.workers=2", "sampling.chunk_problems=7"), tmp_path / "again")
    one, two = contents(finished.directory), contents(again.directory)
    assert set(one) == set(two)
    # recipe.json holds the knobs, which were changed; nothing else may differ.
    assert {name for name in one if one[name] != two[name]} == {"recipe.json"}


class Interrupted(Exception):
    pass


def interrupting(stage_name: str, round_index: int | None):
    def do(stage: Stage, scope: Scope):
        info = run_stage(stage, scope)
        if (stage.name, scope.round) == (stage_name, round_index):
            raise Interrupted
        return info

    return do


@pytest.mark.parametrize(
    ("stage", "round_index"),
    [
        *[("check", None), ("evaluate", None), ("finale", None)],
        *[("plan", 0), ("sample", 1), ("verify", 0), ("filter", 1), ("train", 0), ("evaluate", 1), ("gate", 0)],
    ],
)
def test_an_interrupted_run_ends_as_the_uninterrupted_one(finished, tmp_path, stage, round_index):
    with pytest.raises(Interrupted), Run.open(a_recipe(), tmp_path / "run") as run:
        spin(run, do=interrupting(stage, round_index))
    assert contents(spun(a_recipe(), tmp_path / "run").directory) == contents(finished.directory)


class StopsInTheMiddle(Silent):
    """A reporter that breaks the run when a stage is half done."""

    def __init__(self, label: str) -> None:
        self.label, self.seen = label, []

    def progress(self, label, done, total, unit):
        self.seen.append((label, done))
        if label.startswith(self.label) and 0 < done < total:
            raise Interrupted


@pytest.mark.parametrize("label", ["round 0 · sample", "base · evaluate", "round 1 · evaluate", "final · evaluate"])
def test_finished_chunks_are_not_sampled_again(finished, tmp_path, label):
    with pytest.raises(Interrupted), Run.open(a_recipe(), tmp_path / "run", reporter=StopsInTheMiddle(label)) as run:
        spin(run)
    parts = {p: file_digest(p) for p in (tmp_path / "run").rglob("*samples.parts/*.parquet")}
    assert parts
    again = StopsInTheMiddle("never")
    with Run.open(a_recipe(), tmp_path / "run", reporter=again) as run:
        first = next(done for seen, done in again.seen if seen.startswith(label)) if again.seen else None
        assert first is None
        spin(run)
    assert next(done for seen, done in again.seen if seen.startswith(label)) > 0
    assert contents(tmp_path / "run") == contents(finished.directory)


def test_nothing_right_means_nothing_to_train_on(tmp_path):
    run = spun(a_recipe("policy.toy.skill=0"), tmp_path / "run")
    assert run.champion().index == 0
    assert "nothing to train on: round 0 kept 0 of 144 samples" in (run.ended() or "")
    assert not (run.directory / "rounds/000/model").exists()
    assert (run.directory / "final/metrics.json").exists()
    assert run.ended() == spun(a_recipe("policy.toy.skill=0"), tmp_path / "run").ended()


def test_another_recipe_is_refused_by_field_and_stop_may_change(finished, tmp_path):
    with pytest.raises(RunError, match=r"sampling\.k \(4 → 8\)"):
        Run.open(a_recipe("sampling.k=8"), finished.directory)
    run = spun(a_recipe("stop.max_rounds=1"), tmp_path / "run")
    assert run.champion().index == 1
    longer = spun(a_recipe("stop.max_rounds=2"), tmp_path / "run")
    assert longer.champion().index == 2
    assert store.read_json(longer.directory / "final/metrics.json")["champion"] == 2


def test_a_run_at_work_is_locked(tmp_path):
    with Run.open(a_recipe(), tmp_path / "run"), pytest.raises(RunError, match="locked by process"):
        Run.open(a_recipe(), tmp_path / "run")
    Run.open(a_recipe(), tmp_path / "run").close()


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match=r"holds no run.*thesis\.tex"):
        Run.open(a_recipe(), tmp_path)
    with pytest.raises(RunError, match=r"no run\.json"):
        Run.load(tmp_path / "nowhere")


def test_an_engine_with_other_weights_is_refused(tmp_path):
    with Run.open(a_recipe(), tmp_path / "run") as run:
        spin(run, rounds=1)
        path = run.directory / "rounds/000/model/toy.json"
        path.write_text(path.read_text().replace("{", "{ ", 1))
        run.release_policy()
        with pytest.raises(ModelError, match="the files were changed"):
            spin(run)


BROKEN = '''
from flywheel import Judgement, Outcome

class Broken:
    """Raises on every other completion."""
    version = "1"
    def verify(self, problem, completion):
        raise RuntimeError("no such table")
'''


def test_a_broken_verifier_stops_the_round_and_a_mended_one_goes_on(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(BROKEN)
    recipe = a_recipe(f"verify.verifier={file}:Broken")
    with pytest.raises(StageError, match=r"could not be judged.*no such table"):
        spun(recipe, tmp_path / "run")
    file.write_text(BROKEN.replace('raise RuntimeError("no such table")', "return problem.answer in completion"))
    assert spun(recipe, tmp_path / "run").champion().index == 2


def test_redo_keeps_what_comes_before_and_changes_what_comes_after(tmp_path):
    run = spun(a_recipe(), tmp_path / "run")
    samples = file_digest(run.directory / "rounds/000/samples.parquet")
    with pytest.raises(RunError, match=r"filter of round 0 was made with another setting \(filter\.cap"):
        redo(run, "filter", 1, a_recipe("filter.cap=1"))
    with run.locked():
        forgotten = redo(run, "filter", 0, a_recipe("filter.cap=1"))
    assert forgotten[0] == "filter of round 0" and forgotten[-1] == "finale of final"
    again = spun(a_recipe("filter.cap=1"), tmp_path / "run")
    assert file_digest(run.directory / "rounds/000/samples.parquet") == samples
    assert again.rounds()[0].manifest.entries()["filter"].info["examples"] < run.recipe.filter.cap * 36
    assert again.champion().index == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("problems.count=50", r"problems\.count \(60 → 50\): settled when the run began"),
        ("problems.template_share=0.5", "problems.template_share"),
        ("seed=5", r"seed \(0 → 5\)"),
        ("verify.held_out=exact", r"verify\.held_out \(None → 'exact'\)"),
        ("ood=[{label='far', count=5}]", "ood "),
    ],
)
def test_redo_refuses_what_no_stage_would_read(finished, override, words):
    with pytest.raises(RunError, match=words):
        redo(finished, "verify", 0, a_recipe(override))
    assert finished.round(0).manifest.get("verify")


@pytest.mark.parametrize("override", ["verify.deadline_seconds=60.0", "verify.memory_gib=4.0"])
def test_candidates_are_not_judged_under_other_limits_than_the_base(finished, override):
    """What times out under one deadline is right under another: the gate would accept a longer deadline."""
    with pytest.raises(RunError, match=r"evaluate of base was made with another setting \(verifiers\.\(limits\)"):
        redo(finished, "verify", 0, a_recipe(override))
    assert finished.round(0).manifest.get("verify")


def test_redo_refuses_what_is_not_there(finished):
    with pytest.raises(RunError, match="unknown stage 'trian'; known: check"):
        redo(finished, "trian", 0, finished.recipe)
    with pytest.raises(RunError, match="train of round 7 has not been done"):
        redo(finished, "train", 7, finished.recipe)


def test_trace_follows_a_sample_to_its_generations(finished):
    last = store.read_rows(finished.directory / "rounds/001/training_set.parquet", Example)
    early = next(e for e in last if e.round == 0)
    lines = "\n".join(trace(finished, early.sample_id))
    assert "verdict     correct" in lines
    assert "trained     generation 1 (accepted) as policy, from the base" in lines
    assert "trained     generation 2 (accepted · champion) as policy, from generation 1" in lines
    dropped = store.read_rows(finished.directory / "rounds/000/dropped.parquet", Dropped)
    assert f"dropped as {dropped[0].reason}" in "\n".join(trace(finished, dropped[0].sample_id))
    dev = store.read_rows(finished.directory / "base/dev_samples.parquet", Sample)
    assert "never: it measures" in "\n".join(trace(finished, dev[0].id))
    with pytest.raises(RunError, match="no sample 'r9'"):
        trace(finished, "r9")
