"""prefect.yaml and deploy/: every entrypoint loads, every parameter validates, every number fits the others."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from flywheel.recipe import Recipe, differing_fields, load_recipe


@pytest.fixture
def deployments(root) -> dict[str, dict[str, Any]]:
    content = yaml.safe_load((root / "prefect.yaml").read_text())
    return {d["name"]: d for d in content["deployments"]}


def test_the_deployments_are_these(deployments):
    assert set(deployments) == {"one-shot", "nightly"}


@pytest.mark.parametrize("name", ["one-shot", "nightly"])
def test_entrypoint_loads_and_parameters_validate(deployments, name):
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.schema_tools.validation import validate

    deployment = deployments[name]
    flow: Any = load_flow_from_entrypoint(deployment["entrypoint"])
    assert flow.name == "expert-iteration"
    parameters = flow.validate_parameters(deployment["parameters"])
    assert isinstance(parameters["recipe"], Recipe)
    schema = flow.parameters.model_dump()
    assert schema["required"] == ["recipe"]
    # What the server does when a run is asked for.
    validate(deployment["parameters"], schema, raise_on_error=True)


def test_the_whole_recipe_passes_the_servers_check(toy):
    from prefect.utilities.schema_tools.validation import validate

    from flywheel.flows.expert_iteration import expert_iteration

    schema = expert_iteration.parameters.model_dump()
    for recipe in (toy, load_recipe("demo")):
        validate({"recipe": recipe.model_dump(mode="json")}, schema, raise_on_error=True)


def test_the_server_refuses_an_unknown_field(toy):
    from prefect.utilities.schema_tools.validation import ValidationError, validate

    from flywheel.flows.expert_iteration import expert_iteration

    content = toy.model_dump(mode="json")
    content["stop"]["max_round"] = 1
    with pytest.raises(ValidationError, match="max_round"):
        validate({"recipe": content}, expert_iteration.parameters.model_dump(), raise_on_error=True)


@pytest.mark.parametrize("name", ["one-shot", "nightly"])
def test_the_recipe_is_the_shipped_one(deployments, name):
    ours = Recipe.model_validate(deployments[name]["parameters"]["recipe"])
    assert differing_fields(ours.model_dump(), load_recipe("demo").model_dump()) == []


@pytest.mark.parametrize("name", ["one-shot", "nightly"])
def test_a_flow_outlives_its_worker_and_keeps_its_files(deployments, name):
    variables = deployments[name]["work_pool"]["job_variables"]
    assert variables["stream_output"] is False
    assert variables["working_dir"]
    assert variables["env"]["PREFECT_LOGGING_EXTRA_LOGGERS"] == "flywheel"


def test_the_nightly_goes_one_round_alone_and_is_shipped_asleep(deployments):
    nightly = deployments["nightly"]
    assert nightly["parameters"]["rounds"] == 1
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert [s["active"] for s in nightly["schedules"]] == [False]


def test_the_schedule_is_a_cron_line_prefect_takes(deployments):
    from prefect.client.schemas.schedules import CronSchedule

    (schedule,) = deployments["nightly"]["schedules"]
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


def test_the_zombie_automation_waits_for_several_heartbeats(root, deployments):
    from prefect.events.schemas.automations import AutomationCore

    content = yaml.safe_load((root / "deploy" / "zombie-automation.yaml").read_text())
    trigger: Any = AutomationCore.model_validate(content).trigger
    heartbeat = int(deployments["nightly"]["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert trigger.within.total_seconds() >= 3 * heartbeat
    assert trigger.match_related["prefect.resource.name"] == ["expert-iteration"]


def test_the_server_file_sets_what_prefect_knows(root):
    from prefect.settings.legacy import _get_settings_fields
    from prefect.settings.models.root import Settings

    known = set(_get_settings_fields(Settings))
    lines = (root / "deploy" / "server.env").read_text().splitlines()
    names = [
        line.removeprefix("# ").split("=")[0] for line in lines if "=" in line and " " not in line.removeprefix("# ")
    ]
    assert "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE" in names
    assert [n for n in names if n.startswith("PREFECT_") and n not in known] == []
