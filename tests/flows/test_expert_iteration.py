"""The flow: the same files as without Prefect, readable names, retries where they help, and a say in Prefect's UI."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import EndpointError, EngineError, RecipeError, RunError, TrainingError, UserError
from flywheel.loop import spin
from flywheel.progress import Silent
from flywheel.recipe import load_recipe
from flywheel.run import Run
from flywheel.stages import STAGES, Stage

CLOCKS = {"manifest.json", "run.json", "report.html", "lock"}


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of a run but those that hold clocks."""
    files = [p for p in directory.rglob("*") if p.is_file() and p.name not in CLOCKS]
    return {
        p.relative_to(directory).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.relative_to(directory).parts[0] not in ("logs", "pids")
    }


@pytest.fixture(scope="module")
def done(prefect_api, tmp_path_factory) -> dict[str, Any]:
    """One toy run through Prefect: its folder, its state, and what Prefect knows of it."""
    from prefect import State

    from flywheel.flows.expert_iteration import expert_iteration

    directory = tmp_path_factory.mktemp("flow") / "Toy run"
    recipe = load_recipe("toy", ["problems.count=40", "problems.dev=8", "problems.test=8", "evaluate.resamples=100"])
    state: State[Any] = expert_iteration(recipe, run_dir=str(directory), return_state=True)
    return {"directory": directory, "recipe": recipe, "state": state, "id": str(state.state_details.flow_run_id)}


def ask(api: str, what: str, body: dict[str, Any]) -> Any:
    import httpx

    answer = httpx.post(f"{api}/{what}/filter", json=body)
    answer.raise_for_status()
    return answer.json()


def task_runs(api: str, flow_run: str) -> list[dict[str, Any]]:
    return ask(api, "task_runs", {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"})


def test_the_flow_completes_and_names_the_champion(done):
    assert done["state"].is_completed()
    run = Run.load(done["directory"])
    result = done["state"].result()
    assert result["generation"] == run.champion().index
    assert result["run_dir"] == str(done["directory"])
    json.dumps(result)


def test_the_same_files_as_without_prefect(done, tmp_path):
    with Run.open(done["recipe"], tmp_path / "Toy run") as run:
        spin(run)
    through_prefect, direct = digests(done["directory"]), digests(tmp_path / "Toy run")
    assert through_prefect == direct
    assert len(direct) > 20


def test_each_stage_is_a_named_task(done, prefect_api, settled):
    ran = Run.load(done["directory"])
    expected = {"check-base", "evaluate-base", "finale"}
    for scope in ran.rounds():
        expected |= {f"{stage}-{scope.round:03d}" for stage in scope.manifest.entries()}
    assert "sample-000" in expected

    def names() -> set[str] | None:
        found = task_runs(prefect_api, done["id"])
        finished = {t["name"] for t in found if t["state_type"] == "COMPLETED"}
        return finished if finished >= expected else None

    assert settled(names) == expected


def test_what_needs_a_gpu_is_tagged(done, prefect_api, settled):
    def tagged() -> dict[str, list[str]] | None:
        found = {t["name"]: t["tags"] for t in task_runs(prefect_api, done["id"])}
        return found if "finale" in found else None

    tags = settled(tagged)
    assert {name for name, given in tags.items() if "gpu" in given} == {
        name for name in tags if name.split("-")[0] in ("sample", "evaluate", "train", "finale")
    }


LOADING = [
    ("sweep", "sampling.sweep.temperatures=[0.8, 1.0]"),
    ("gate", "gate.repair=interpolate"),
    ("propose", "propose.kind=model"),
    ("filter", "filter.fit={}"),
]


@pytest.mark.parametrize(("stage", "setting"), LOADING)
def test_what_loads_weights_for_a_setting_needs_a_gpu(tmp_path, stage, setting):
    from flywheel.flows.expert_iteration import GPU_STAGES, needs_gpu

    with_it, plain = (Run(tmp_path, load_recipe("demo", s), Silent()).round(0) for s in ([setting], []))
    assert needs_gpu(STAGES[stage], with_it)
    assert stage in GPU_STAGES or not needs_gpu(STAGES[stage], plain)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_verifier_with_a_model_of_its_own_needs_a_gpu(tmp_path, toy, exclusive):
    from flywheel.flows.expert_iteration import needs_gpu

    judge = tmp_path / "judge.py"
    judge.write_text(f"class Own:\n    exclusive = {exclusive}\n    def verify(self, problem, completion): ...\n")
    verify = toy.verify.model_copy(update={"verifier": f"{judge}:Own"})
    with Run.open(toy.model_copy(update={"verify": verify}), tmp_path / "run") as run:
        assert needs_gpu(STAGES["verify"], run.round(0)) == exclusive


def test_the_artifacts_are_there(done, prefect_api):
    found = ask(prefect_api, "artifacts", {"flow_runs": {"id": {"any_": [done["id"]]}}})
    by_key: dict[str, list[dict[str, Any]]] = {}
    for artifact in found:
        by_key.setdefault(artifact["key"], []).append(artifact)
    rounds = len(Run.load(done["directory"]).rounds())
    # The base, then each round's evaluation and its gate.
    assert len(by_key["toy-run-generations"]) == 1 + 2 * rounds
    table = json.loads(max(by_key["toy-run-generations"], key=lambda a: a["created"])["data"])
    assert [row["generation"] for row in table] == list(range(rounds + 1))
    assert {"pass@1", "interval", "pass@4", "sampled", "correct", "kept", "distinct_paths", "tokens"} <= table[0].keys()
    assert len(by_key["toy-run-gate"]) == rounds
    assert by_key["toy-run-gate"][0]["data"].startswith("## Round")
    assert by_key["toy-run-report"][0]["data"].startswith("[report.html](file://")
    funnel = json.loads(by_key["toy-run-round-0"][0]["data"])
    assert [row[""] for row in funnel[:4]] == ["sampled", "right", "distinct paths", "kept"]
    assert {row[""] for row in funnel[4:]} >= {"dropped: wrong"}
    assert sum(row["samples"] for row in funnel[3:]) == funnel[0]["samples"], "each sample is kept or dropped"
    summary = by_key["toy-run-summary"][0]["data"]
    assert "is the champion" in summary and "| pass@1 |" in summary and "**Round 0**" in summary
    assert str(done["directory"] / "report.html") in summary
    progress = [a for a in found if a["type"] == "progress"]
    assert {a["key"] for a in progress} >= {"toy-run-round-0-sample"}
    assert {a["data"] for a in progress} == {100.0}


def test_our_log_lines_are_in_prefect(done, prefect_api, settled):
    def lines() -> list[str] | None:
        found = ask(prefect_api, "logs", {"logs": {"flow_run_id": {"any_": [done["id"]]}}, "limit": 200})
        ours = [log["message"] for log in found if log["name"].startswith("flywheel")]
        return ours if any("finale" in line for line in ours) else None

    assert any(line.startswith("round 0 · sample · done") for line in settled(lines))


def test_events_let_others_automate(done, prefect_api, settled):
    rounds = Run.load(done["directory"]).history()

    def seen() -> list[str] | None:
        body = {"filter": {"event": {"prefix": ["flywheel."]}, "resource": {"id": ["flywheel.run.Toy run"]}}}
        names = [e["event"] for e in ask(prefect_api, "events", body)["events"]]
        return names if len(names) >= len(rounds) + sum(bool(r.accepted) for r in rounds) else None

    names = settled(seen)
    accepted = sum(bool(r.accepted) for r in rounds)
    assert names.count("flywheel.round.completed") == names.count("flywheel.model.promoted") == accepted
    assert names.count("flywheel.round.rejected") == len(rounds) - accepted


def test_a_round_at_a_time_and_nothing_at_the_cap(prefect_api, toy, tmp_path):
    from flywheel.flows.expert_iteration import expert_iteration

    def rounds() -> list[str]:
        return sorted(p.name for p in (tmp_path / "run" / "rounds").iterdir())

    for so_far in (["000"], ["000", "001"], ["000", "001"]):
        expert_iteration(toy, run_dir=str(tmp_path / "run"), rounds=1)
        assert rounds() == so_far
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.parquet")}
    expert_iteration(toy, run_dir=str(tmp_path / "run"), rounds=1)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.parquet")} == before


def test_a_users_mistake_is_a_failed_flow_with_one_line(prefect_api, done):
    from flywheel.flows.expert_iteration import expert_iteration

    other = load_recipe("toy", ["problems.count=50"])
    state = expert_iteration(other, run_dir=str(done["directory"]), return_state=True)
    assert state.is_failed()
    assert "problems.count" in state.message
    assert "Traceback" not in state.message
    with pytest.raises(RunError, match="problems.count"):
        expert_iteration(other, run_dir=str(done["directory"]))


class Attempts:
    """A stage's work that fails with the given errors, one a call, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self, scope: Any, key: str) -> dict[str, Any]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"calls": self.calls}

    def stage(self) -> Stage:
        return Stage("sample", 1, lambda _: (), lambda _: {}, lambda _: {}, self)


@pytest.fixture
def stage_task(prefect_api, monkeypatch) -> Any:
    from flywheel.flows import expert_iteration

    monkeypatch.setattr(expert_iteration, "RETRY_DELAYS", [0.0, 0.0])
    return expert_iteration.stage_task


@pytest.mark.parametrize("error", [EngineError("died"), EndpointError("refused"), ConnectionResetError("reset")])
def test_what_may_pass_is_tried_again(stage_task, toy, tmp_path, error):
    attempts = Attempts(error, error)
    with Run.open(toy, tmp_path / "run") as run:
        assert stage_task(attempts.stage(), run.round(0))() == {"calls": 3}


@pytest.mark.parametrize("error", [UserError("no"), RecipeError("no"), TrainingError("loss is nan"), KeyError("bug")])
def test_what_stays_wrong_is_not_tried_again(stage_task, toy, tmp_path, error):
    attempts = Attempts(error)
    with Run.open(toy, tmp_path / "run") as run, pytest.raises(type(error)):
        stage_task(attempts.stage(), run.round(0))()
    assert attempts.calls == 1


def test_an_engine_that_keeps_dying_ends_the_stage(stage_task, toy, tmp_path):
    attempts = Attempts(*[EngineError("died")] * 5)
    with Run.open(toy, tmp_path / "run") as run, pytest.raises(EngineError):
        stage_task(attempts.stage(), run.round(0))()
    assert attempts.calls == 3


def test_progress_is_posted_seldom_and_its_end_always(prefect_api, tmp_path, monkeypatch):
    from flywheel.flows import reporting

    posted: list[float] = []

    def create(percent: float, **_: Any) -> str:
        posted.append(percent)
        return "an artifact's id"

    monkeypatch.setattr(reporting, "create_progress_artifact", create)
    monkeypatch.setattr(reporting, "update_progress_artifact", lambda _, percent, **__: posted.append(percent))
    reporter = reporting.PrefectReporter(Silent(), tmp_path)
    for done in range(1, 1001):
        reporter.progress("round 0 · sample", done, 1000, "samples")
    reporter.publisher.close()
    assert len(posted) <= 3
    assert posted[-1] == 100.0


def test_an_absent_server_neither_stops_nor_slows_the_run(tmp_path, caplog):
    import httpx

    from flywheel.flows import reporting

    all_posted = threading.Event()

    def refuse() -> None:
        assert all_posted.wait(30), "posting waits for the server"
        raise httpx.ConnectError("All connection attempts failed")

    publisher = reporting.Publisher()
    with caplog.at_level(logging.WARNING, logger="flywheel"):
        for _ in range(3):
            publisher.post(refuse)
        all_posted.set()
        publisher.close()
    assert len([r for r in caplog.records if "going on" in r.message]) == 1


def test_closing_waits_while_a_slow_server_takes_what_is_posted():
    from flywheel.flows import reporting

    taken: list[int] = []

    def slowly(number: int) -> None:
        time.sleep(0.3)
        taken.append(number)

    publisher = reporting.Publisher()
    for number in range(5):
        publisher.post(slowly, number)
    publisher.close(seconds=1.0)
    assert taken == [0, 1, 2, 3, 4]


def test_closing_does_not_wait_for_a_server_that_hangs():
    from flywheel.flows import reporting

    hang, ended = threading.Event(), threading.Event()

    def late() -> None:
        hang.wait(30)
        ended.set()

    publisher = reporting.Publisher()
    publisher.post(late)
    publisher.close(seconds=0.2)
    assert not ended.is_set()
    hang.set()
    publisher.close()
    assert ended.is_set()
