"""Start a deployment on a Prefect server with a whole recipe: what `flywheel submit` does.

Prefect merges parameters only at the top: `recipe={"stop": {...}}` would drop everything else of the recipe.
So settings are laid over the recipe here, table by table, and the flow run gets the complete result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flywheel.errors import UserError
from flywheel.prefect_env import API_URL, apply, check_versions, configured_api_url
from flywheel.recipe import load_recipe

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

DEPLOYMENT = "expert-iteration/one-shot"


def submit(
    recipe_name: str,
    overrides: Sequence[str] = (),
    *,
    deployment: str = DEPLOYMENT,
    run_dir: str | None = None,
    rounds: int | None = None,
) -> str:
    """Start a flow run of `deployment` and return where to watch it: its page in Prefect's UI, or its id.

    `recipe_name` is a shipped recipe or a TOML file here; `run_dir` is a folder on the worker, whose own working
    directory a relative one is taken from. Raises RecipeError for a recipe that does not validate, and UserError where
    no server is configured or reached, or where it has no such deployment.
    """
    recipe = load_recipe(recipe_name, overrides)
    check_versions()
    url = configured_api_url()
    if url is None:
        raise UserError(
            f"no Prefect server is configured: prefect config set {API_URL}=http://HOST:4200/api, "
            "or run here with flywheel run"
        )
    apply(Path("runs"))
    parameters: dict[str, Any] = {"recipe": recipe.model_dump(mode="json")}
    if run_dir is not None:
        parameters["run_dir"] = run_dir
    if rounds is not None:
        parameters["rounds"] = rounds
    return _start(url, deployment, parameters)


def _start(url: str, deployment: str, parameters: dict[str, Any]) -> str:
    import httpx
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.utilities.urls import url_for

    try:
        started = run_deployment(deployment, parameters=parameters, timeout=0, as_subflow=False)
    except ObjectNotFound:
        raise UserError(
            f"{url} has no deployment {deployment!r}: prefect deploy --all, then prefect deployment ls"
        ) from None
    except ValueError as error:  # a name without a slash
        raise UserError(
            f"--deployment {deployment!r} is not of the form FLOW/NAME, such as {DEPLOYMENT} ({error})"
        ) from None
    except PrefectHTTPStatusError as error:
        raise UserError(
            f"{url} refused the run of {deployment!r}: {error.response.status_code} {error.response.text} "
            "(prefect deploy --all again, if flywheel was updated since)"
        ) from None
    except httpx.TransportError as error:
        raise UserError(f"no Prefect server answers at {url} ({error!r}): prefect server start") from None
    flow_run = cast("FlowRun", started)  # its type knows that the same function can be awaited
    return url_for("flow-run", obj_id=flow_run.id) or str(flow_run.id)
