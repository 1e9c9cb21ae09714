"""`flywheel controls` and `flywheel ablate` with the toy policy: shared work, one table, resumed where it stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel import controls, share, store
from flywheel.arms import CONTROLS, control_arms, lever_arms
from flywheel.cli import main
from flywheel.controls import Places, compare, reference_of
from flywheel.errors import RunError
from flywheel.progress import Silent
from flywheel.recipe import load_recipe
from flywheel.run import Run
from flywheel.types import Example, Sample, Verdict

SMALL = ["problems.count=60", "problems.dev=12", "problems.test=12", "verify.workers=1", "evaluate.resamples=200"]
LIGHT = '''
class Light:
    """Loads nothing, so that a dozen runs are quick."""
    version = "1"
    def verify(self, problem, completion):
        return completion.endswith(f" {problem.answer}")
'''


class Recorder(Silent):
    """Which stages were done, by run: a `message` names the run."""

    def __init__(self) -> None:
        self.done: dict[str, list[tuple[str, int | None, str]]] = {}
        self._run = ""

    def message(self, text: str) -> None:
        self._run = text.partition(":")[0]
        self.done[self._run] = []

    def stage(self, name, round_index, state, info):
        if state != "start":
            self.done[self._run].append((name, round_index, state))


@pytest.fixture(scope="module", autouse=True)
def light(tmp_path_factory):
    file = tmp_path_factory.mktemp("verifier") / "light.py"
    file.write_text(LIGHT)
    SMALL.append(f"verify.verifier={file}:Light")
    yield
    SMALL.pop()


def a_recipe(*overrides):
    return load_recipe("toy", [*SMALL, *overrides])


def all_controls(recipe, reference):
    return control_arms(recipe, reference, list(CONTROLS))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    recorder = Recorder()
    found = compare(a_recipe(), Places(folder / "own", folder / "arms"), all_controls, recorder)
    return folder, found, recorder


def rows(found):
    return {row["name"]: row for row in found["table"]}


def test_one_table_of_all_runs_on_the_same_test_problems(finished):
    _, found, _ = finished
    table = rows(found)
    assert list(table) == ["recipe", "no_verifier", "random_filter", "one_round"]
    assert found["n_problems"] == 12
    assert table["recipe"]["against_recipe"]["1"]["value"] == 0.0
    for row in table.values():
        assert set(row["pass_at"]) == {"1", "2", "4"}
        difference = row["against_base"]["1"]
        assert difference["low"] <= difference["value"] <= difference["high"]
        assert difference["n_problems"] == 12
        own = table["recipe"]["pass_at"]["1"]
        assert row["against_recipe"]["1"]["value"] == pytest.approx(row["pass_at"]["1"] - own)
    assert json.loads(json.dumps(found)) == found


def test_controls_train_on_as_many_examples_right_or_wrong(finished):
    folder, found, _ = finished
    own = Run.load(folder / "own")
    for name in ("no_verifier", "random_filter"):
        run = Run.load(folder / "arms" / name)
        assert reference_of(run) == reference_of(own)
        scope = run.round(0)
        verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
        outcomes = {verdicts[e.sample_id].outcome for e in store.read_rows(scope.folder / "examples.parquet", Example)}
        assert "wrong" in outcomes
    table = rows(found)
    assert table["no_verifier"]["against_recipe"]["1"]["high"] < 0  # wrong answers teach the toy nothing
    assert table["one_round"]["rounds"] == 1
    assert table["one_round"]["tokens"] > table["recipe"]["tokens"] / 2


def test_what_has_the_same_key_is_shared_and_the_rest_is_said(finished):
    folder, found, recorder = finished
    first = ["base check", "base evaluate", "round 0 plan", "round 0 sample", "round 0 verify"]
    assert rows(found)["no_verifier"]["shared"] == first
    assert rows(found)["one_round"]["shared"] == ["base check", "base evaluate"]
    assert "round-0 samples are its own" in found["notes"][2]
    assert ("sample", 0, "kept") in recorder.done["no_verifier"]
    assert ("sample", 1, "done") in recorder.done["no_verifier"]
    own, arm = (folder / place / "rounds/000/samples.parquet" for place in ("own", "arms/no_verifier"))
    assert own.samefile(arm)
    assert not list(folder.rglob("*.tmp")) and not list(folder.rglob("*.parts"))


def test_a_second_time_nothing_is_done_again(finished):
    folder, found, _ = finished
    recorder = Recorder()
    assert compare(a_recipe(), Places(folder / "own", folder / "arms"), all_controls, recorder) == found
    assert {state for stages in recorder.done.values() for _, _, state in stages} == {"kept"}


def test_the_bases_test_samples_are_drawn_once(finished, tmp_path, monkeypatch):
    """The finale of an arm goes on from the recipe's: only its own champion is sampled."""
    folder, _, _ = finished
    own = Run.load(folder / "own")
    (arm,) = control_arms(own.recipe, reference_of(own), ["random_filter"])
    with Run.open(arm.recipe, tmp_path / "arm") as run:
        scope = run.finale()
        monkeypatch.setattr(run, "champion", lambda: run.generation(0))
        share.take(share_stage("check"), run.baseline(), own)
        share.share_test_samples(scope, own)
    theirs = own.finale().folder / "generation_000_samples.parquet"
    (part,) = (scope.folder / "generation_000_samples.parts").glob("*.parquet")
    assert store.read_rows(part, Sample) == store.read_rows(theirs, Sample)


def share_stage(name):
    from flywheel.stages import STAGES

    return STAGES[name]


def test_a_stage_with_another_key_is_not_taken(finished, tmp_path):
    folder, _, _ = finished
    own = Run.load(folder / "own")
    with Run.open(a_recipe("evaluate.temperature=0.5"), tmp_path / "other") as run:
        assert share.take(share_stage("check"), run.baseline(), own)
        assert not share.take(share_stage("evaluate"), run.baseline(), own)
        assert not (run.baseline().folder / "metrics.json").exists()
        share.share_test_samples(run.finale(), own)
        assert not list(run.finale().folder.glob("*.parts"))


def test_test_samples_that_were_asked_for_in_another_way_are_not_taken(finished, tmp_path):
    folder, _, _ = finished
    own = Run.load(folder / "own")
    with Run.open(a_recipe("model.system=Be brief."), tmp_path / "other") as run:
        share.share_test_samples(run.finale(), own)
        assert not list(run.finale().folder.glob("*.parts"))


def test_an_arm_that_is_rejected_changes_its_own_settings(tmp_path):
    """Both runs have round 0 in common; what they do after its rejection, each reads in its own recipe."""
    lines = ['gate.lines=["paths"]', "gate.paths_ratio=1.0", "filter.cap=1", "filter.select=shortest"]
    toy = ["policy.toy.gain=1.0", "policy.toy.skill=0.6", "evaluate.samples=8", "stop.rejections=9"]
    recipe = a_recipe("problems.count=90", "problems.dev=30", *lines, *toy)

    def gone_on_from(recipe, reference):
        return lever_arms(recipe, reference, ["train.start_from=previous"])

    compare(recipe, Places(tmp_path / "own", tmp_path / "arms"), gone_on_from, Silent())
    own, arm = Run.load(tmp_path / "own"), Run.load(tmp_path / "arms/train-start_from-previous")
    assert [g.status for g in arm.generations()] == ["base", "rejected", "rejected"]
    assert "round 0 evaluate" in share.shared_stages(arm) and "round 1 sample" in share.shared_stages(arm)
    changed = [{c["what"] for c in store.read_json(r.round(1).folder / "plan.json")["changes"]} for r in (own, arm)]
    assert changed[1] - changed[0] == {"train.start_from"}
    assert arm.generation(2).parent == 0


class Interrupted(Exception):
    pass


def test_an_interrupted_comparison_goes_on_and_ends_the_same(finished, tmp_path):
    _, found, _ = finished

    def two(recipe, reference):
        return control_arms(recipe, reference, ["no_verifier", "random_filter"])

    class Stops(Recorder):
        def stage(self, name, round_index, state, info):
            super().stage(name, round_index, state, info)
            if (self._run, name, round_index, state) == ("random_filter", "train", 1, "done"):
                raise Interrupted

    places = Places(tmp_path / "own", tmp_path / "arms")
    with pytest.raises(Interrupted):
        compare(a_recipe(), places, two, Stops())
    recorder = Recorder()
    again = compare(a_recipe(), places, two, recorder)
    assert {s for _, _, s in recorder.done["no_verifier"]} == {"kept"}
    for row, before in zip(again["table"], found["table"][:3], strict=True):
        clocks = {"seconds", "directory"}
        assert {k: v for k, v in row.items() if k not in clocks} == {k: v for k, v in before.items() if k not in clocks}


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"problems\.test is 0"):
        compare(a_recipe("problems.test=0"), Places(tmp_path / "a", tmp_path / "b"), all_controls, Silent())
    with pytest.raises(RunError, match=r"ended with no candidate \(nothing to train on"):
        compare(a_recipe("policy.toy.skill=0"), Places(tmp_path / "c", tmp_path / "d"), all_controls, Silent())


# -- the commands ----------------------------------------------------------------------------------


def flywheel(*arguments: str) -> int:
    return main([*arguments, *(part for setting in SMALL for part in ("--set", setting))])


def test_the_commands_share_the_recipes_own_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert flywheel("controls", "toy", "--arms", "no_verifier,one_round", "--set", "stop.max_rounds=1") == 0
    shown = capsys.readouterr().out
    assert "one_round: left out" in shown
    assert "toy and its arms on 12 test problems" in shown and "no_verifier" in shown
    assert Path("runs/toy-arms/controls.json").is_file()
    own = store.read_json(Path("runs/toy/run.json"))

    assert flywheel("ablate", "toy", "dedup", "filter.cap=1", "--json", "--set", "stop.max_rounds=1") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["table"]] == ["recipe", "dedup-off", "filter-cap-1"]
    assert found["settings"]["dedup-off"] == {"filter": {"dedup": "none"}}
    assert "round 0 sample" in rows(found)["dedup-off"]["shared"]
    assert store.read_json(Path("runs/toy/run.json")) == own
    assert main(["ablate", "runs/toy", "dedup"]) == 0  # by the run's folder
    assert "dedup-off" in capsys.readouterr().out


def test_an_interrupt_is_one_line_and_the_same_command_goes_on(tmp_path):
    command = [sys.executable, "-m", "flywheel.cli", "controls", "toy", "--arms", "random_filter"]
    command += [part for setting in [*SMALL, "stop.max_rounds=1"] for part in ("--set", setting)]
    slow = [*command, "--set", "policy.toy.delay_seconds=0.01"]
    process = subprocess.Popen(slow, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "runs/toy-arms/random_filter").glob("rounds/000/dev_samples.parts/0*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in errors and "Traceback" not in errors
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "random_filter: shares base check, base evaluate, round 0 plan" in done.stdout


def test_the_levers_are_listed(capsys):
    assert main(["ablate", "--list"]) == 0
    shown = capsys.readouterr().out
    assert '(off: gate.enabled = false, gate.repair = "none"; on: gate.enabled = true)' in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["controls", "toy", "--arms", "no_verifer"], "unknown control 'no_verifer'"),
        (["ablate", "toy", "gait"], "unknown lever 'gait'"),
        (["ablate", "toy"], "give a recipe and at least one lever"),
        (["ablate"], "flywheel ablate --list"),
        (["ablate", "toy", "filter.cap=4"], "does anyway"),
        (["controls", "nothing"], "no recipe 'nothing'"),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_runs(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_names_of_the_notes():
    assert "shares nothing" in controls.sharing_in_words({"name": "x", "shared": []})
