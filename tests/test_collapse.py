"""A poisoned round, on the toy: rejected with the right reason, rolled back, recovered; repaired where that is asked
for; and, without a gate, trained on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from flywheel import store
from flywheel.fingerprint import file_digest
from flywheel.lineage import redo
from flywheel.loop import spin
from flywheel.policy import toy
from flywheel.progress import Silent
from flywheel.recipe import StopSection, load_recipe
from flywheel.run import Run
from flywheel.share import shared_stages, sharing
from flywheel.stages.keys import rounds_to_learn
from flywheel.stopping import stop_reason
from flywheel.types import Example

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("collapse", ROOT / "benchmarks/collapse.py")
collapse = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(collapse)

SETTINGS = ["problems.count=100", "problems.dev=40", "problems.test=10", "problems.parameters.min_terms=3"]
SETTINGS += [
    "policy.toy.skill=0.5",
    "policy.toy.gain=0.9",
    "stop.max_rounds=3",
    "verify.workers=1",
    "data.keep=replace",
]
SETTINGS += ["verify.verifier=exact", "verify.options={pattern = 'answer is (-?[0-9]+)'}"]  # starts faster than `math`


def poison(*donors):
    return collapse.poisoned("template", [1], 1.0, sharing(donors))


def recipe(*overrides):
    return load_recipe("toy", [*SETTINGS, *overrides])


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """The base and a good round."""
    folder = tmp_path_factory.mktemp("collapse") / "prefix"
    with Run.open(recipe(), folder) as run:
        spin(run, rounds=1)
    return folder


def arm(prefix, folder, *settings, reporter=None):
    return collapse.run_arm(folder, recipe(*settings), poison(Run.load(prefix)), reporter or Silent())


@pytest.fixture(scope="module")
def gated(prefix, tmp_path_factory):
    return arm(prefix, tmp_path_factory.mktemp("collapse") / "on", "gate.delete_rejected=true")


@pytest.fixture(scope="module")
def repaired(prefix, tmp_path_factory):
    return arm(prefix, tmp_path_factory.mktemp("collapse") / "repair", "gate.repair=interpolate")


def variety(run):
    return collapse.figures(run)["generations"][run.champion().index]["variety"]


def test_the_gate_rejects_rolls_back_and_recovers(gated):
    assert [g.status for g in gated.generations()] == ["base", "accepted", "rejected", "accepted"]
    decision = store.read_json(gated.directory / "rounds/001/gate.json")
    assert [c["line"] for c in decision["checks"] if c["passed"] is False] == ["paths"], "pass@1 saw nothing"
    [reason] = decision["reasons"]
    assert reason.startswith("variety of right paths on dev against the base:") and reason.endswith(
        "beyond the interval"
    )
    plans = [store.read_json(scope.folder / "plan.json") for scope in gated.rounds()]
    assert [p["generation"] for p in plans] == [0, 1, 1], "the round after samples from the champion again"
    assert [g.parent for g in gated.generations()] == [None, 0, 1, 1], "and is trained from it"
    assert gated.champion().index == 3


def test_the_next_plan_changes_and_says_why(gated):
    first, _, after = (store.read_json(scope.folder / "plan.json") for scope in gated.rounds())
    assert first["changes"] == []
    changed = {c["what"]: c["to"] for c in after["changes"]}
    assert changed == {"train.learning_rate": 1e-5, "sampling.temperatures": [1.1], "mix.base": 0.2}
    assert all(c["why"].startswith("round 1 was rejected (paths)") for c in after["changes"])
    assert (first["temperature"], after["temperature"]) == (1.0, 1.1)
    manifest = gated.rounds()[2].manifest.entries()
    assert manifest["train"].ingredients["settings"]["mix"]["base"] == 0.2
    assert manifest["train"].info["origins"]["base"] > 0


def test_what_the_rounds_came_to_stops_a_run(gated):
    records = gated.history()
    assert [(r.accepted, r.failed) for r in records] == [(True, ()), (False, ("paths",)), (True, ())]
    assert stop_reason(StopSection(rejections=1), 1, records[:2]) == "1 candidates in a row were rejected"
    assert [r.index for r in gated.rejected_before(2)] == [1]
    assert gated.rejected_before(1) == gated.rejected_before(3) == []


def test_rows_of_the_rejected_round_are_left_out(gated):
    rows = store.read_rows(gated.directory / "rounds/002/training_set.parquet", Example)
    assert {e.round for e in rows} == {0, 2}, "round 0 holds the base's rows"
    for rejected, rounds in (("leave_out", [0, 2]), ("keep", [0, 1, 2])):
        other = Run(gated.directory, recipe("data.keep=accumulate", f"data.rejected={rejected}"), Silent())
        assert rounds_to_learn(other.round(2)) == rounds


def test_without_the_gate_the_same_run_ends_narrower(gated, tmp_path):
    run = arm(gated.directory, tmp_path / "off", "gate.enabled=false")
    shared = {s.rpartition(" ")[2] for s in shared_stages(run) if s.startswith("round 1 ")}
    assert shared == {"plan", "sample", "verify", "filter", "evaluate"}, "all but the weights that the gate deleted"
    assert not any(s.startswith("round 2") for s in shared_stages(run)), "the gates decided otherwise"
    assert [g.status for g in run.generations()] == ["base", "accepted", "accepted", "accepted"]
    [reason] = store.read_json(run.directory / "rounds/001/gate.json")["reasons"]
    assert "it would have rejected this one: variety of right paths" in reason
    assert variety(run) < 0.7 * variety(gated)


def test_a_repair_takes_the_best_mixture(repaired):
    decision = store.read_json(repaired.directory / "rounds/001/gate.json")
    assert decision["accepted"]
    assert decision["reasons"][0].startswith("rejected as trained: variety of right paths")
    taken = decision["repair"]["taken"]
    assert taken in (0.25, 0.5, 0.75) and len(decision["repair"]["mixtures"]) == 3
    [generation] = [g for g in repaired.generations() if g.index == 2]
    assert (generation.status, generation.alpha) == ("accepted", taken)
    assert generation.path == f"rounds/001/repair/{taken:g}/model"
    assert generation.metrics == store.read_json(repaired.directory / f"rounds/001/repair/{taken:g}/metrics.json")
    models = [toy.read_model(repaired.directory / p) for p in ("rounds/000/model", "rounds/001/model", generation.path)]
    assert models[2].skill == pytest.approx((1 - taken) * models[0].skill + taken * models[1].skill)
    left = [p.parent.name for p in repaired.directory.glob("rounds/001/repair/*/model")]
    assert left == [f"{taken:g}"], "mixtures that nobody took are deleted"
    saved = store.read_json(repaired.directory / "generations.json")["generations"]
    assert saved[2]["alpha"] == taken


def test_the_next_round_goes_on_from_the_mixture(repaired):
    manifest = repaired.round(2).manifest.entries()
    digest = repaired.mixture(1, repaired.generation(2).alpha).manifest.entries()["interpolate"].info["digest"]
    assert manifest["sample"].ingredients["inputs"]["model"] == digest
    assert manifest["train"].ingredients["inputs"]["start"] == digest
    assert store.read_json(repaired.directory / "rounds/002/plan.json")["changes"] == [], "nothing was rejected"


def contents(directory):
    """Digest of every file without a clock in it."""
    clocks = ("manifest.json", "run.json", "lock", "generations.json")
    files = (p for p in directory.rglob("*") if p.is_file() and p.name not in clocks)
    return {str(p.relative_to(directory)): file_digest(p) for p in files if not {"champion", "logs"} & set(p.parts)}


class Interrupted(Exception):
    pass


class StopsInTheMiddle(Silent):
    def __init__(self, label):
        self.label = label

    def progress(self, label, done, total, unit):
        if label.startswith(self.label) and 0 < done < total:
            raise Interrupted


def test_a_repair_that_was_cut_short_goes_on(prefix, repaired, tmp_path):
    label = "round 1 · mixture 0.5 · evaluate"
    with pytest.raises(Interrupted):
        arm(prefix, tmp_path / "run", "gate.repair=interpolate", reporter=StopsInTheMiddle(label))
    parts = {p: file_digest(p) for p in (tmp_path / "run/rounds/001/repair/0.5/dev_samples.parts").glob("0*.parquet")}
    finished = file_digest(tmp_path / "run/rounds/001/repair/0.25/manifest.json")
    assert parts
    arm(prefix, tmp_path / "run", "gate.repair=interpolate")
    assert file_digest(tmp_path / "run/rounds/001/repair/0.25/manifest.json") == finished
    assert contents(tmp_path / "run") == contents(repaired.directory)


def test_a_repaired_round_is_shared_with_the_mixture_that_it_took(prefix, repaired, tmp_path):
    do = collapse.poisoned("template", [1], 1.0, sharing([Run.load(prefix), repaired]))
    shared = collapse.run_arm(tmp_path / "run", recipe("gate.repair=interpolate"), do, Silent())
    assert "round 1 gate" in shared_stages(shared)
    assert contents(tmp_path / "run") == contents(repaired.directory)


def test_a_repaired_round_can_be_done_over(prefix, repaired):
    before = contents(repaired.directory)
    with repaired.locked():
        redo(repaired, "evaluate", 1, repaired.recipe)
    assert not (repaired.directory / "rounds/001/repair").exists()
    arm(prefix, repaired.directory, "gate.repair=interpolate")
    assert contents(repaired.directory) == before


def test_rejected_weights_can_be_deleted_and_nothing_needs_them(prefix, gated):
    assert [(scope.folder / "model").exists() for scope in gated.rounds()] == [True, False, True]
    assert (gated.directory / "rounds/001/dev_samples.parquet").exists()
    before = contents(gated.directory)
    arm(prefix, gated.directory, "gate.delete_rejected=true")
    assert contents(gated.directory) == before
