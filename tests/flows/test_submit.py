"""`flywheel submit`: the whole recipe reaches the deployment, and what goes wrong is one line."""

from __future__ import annotations

from typing import Any

import pytest

from flywheel.errors import RecipeError, UserError
from flywheel.flows.submit import submit
from flywheel.recipe import load_recipe


@pytest.fixture(scope="module")
def deployment(prefect_api) -> str:
    from flywheel.flows.expert_iteration import expert_iteration

    expert_iteration.to_deployment("tests", parameters={"recipe": {"name": "other", "seed": 5}}).apply()
    return "expert-iteration/tests"


def last_parameters(api: str) -> dict[str, Any]:
    import httpx

    found = httpx.post(f"{api}/flow_runs/filter", json={"sort": "EXPECTED_START_TIME_DESC", "limit": 50}).json()
    return max(found, key=lambda run: run["created"])["parameters"]


def test_settings_are_merged_deep_and_the_recipe_arrives_whole(prefect_api, deployment):
    overrides = ["stop.max_rounds=7", "policy.toy.skill=0.3"]
    where = submit("toy", overrides, deployment=deployment, run_dir="runs/seven", rounds=2)
    parameters = last_parameters(prefect_api)
    expected = load_recipe("toy", overrides)
    assert parameters == {"recipe": expected.model_dump(mode="json"), "run_dir": "runs/seven", "rounds": 2}
    assert parameters["recipe"]["stop"]["rejections"] == expected.stop.rejections
    assert where.startswith("http")


def test_the_deployments_own_folder_and_rounds_hold_if_none_are_given(prefect_api, deployment):
    submit("toy", deployment=deployment)
    assert last_parameters(prefect_api).keys() == {"recipe"}


def test_a_wrong_recipe_never_leaves_this_machine(prefect_api, deployment):
    with pytest.raises(RecipeError, match="max_round"):
        submit("toy", ["stop.max_round=7"], deployment=deployment)


def test_an_unknown_deployment(prefect_api):
    with pytest.raises(UserError, match=r"has no deployment 'expert-iteration/no'.*prefect deploy"):
        submit("toy", deployment="expert-iteration/no")


def test_a_name_without_its_flow(prefect_api):
    with pytest.raises(UserError, match="FLOW/NAME"):
        submit("toy", deployment="nightly")


def test_no_server_configured(monkeypatch):
    monkeypatch.setattr("flywheel.flows.submit.configured_api_url", lambda: None)
    with pytest.raises(UserError, match=r"no Prefect server is configured.*PREFECT_API_URL"):
        submit("toy")


def test_no_server_answers(prefect_api, monkeypatch):
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    settings = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(settings), pytest.raises(UserError, match=r"127\.0\.0\.1:9"):
        submit("toy")
