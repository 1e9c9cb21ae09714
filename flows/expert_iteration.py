"""Expert iteration as a Prefect flow: the loop of `flywheel.loop`, with each stage as a task.

Take the decorators away and the code still works: the loop neither knows Prefect nor needs it. The run's
files decide what is done, so tasks are never cached and hand back only counts.

No `from __future__ import annotations` here: a served flow could no longer read its parameters' types.
"""

import logging
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prefect import Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed, State

from flywheel.errors import EndpointError, EngineError, FlywheelError, UserError
from flywheel.flows.reporting import LOGGER, PrefectReporter
from flywheel.loop import spin
from flywheel.progress import Reporter, Silent
from flywheel.recipe import Recipe
from flywheel.report import write_report
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.stages import Stage, run_stage
from flywheel.store import read_json
from flywheel.types import Generation

GPU_STAGES = frozenset({"sweep", "sample", "evaluate", "train", "finale"})
RETRY_DELAYS = [5.0, 30.0]  # seconds; an engine that dies three times will not live


@dataclass
class Local:
    """What a run in this very process hands to the flow beside its parameters, and gets back from it."""

    reporter: Reporter = field(default_factory=Silent)
    champion: Generation | None = None
    error: FlywheelError | None = None


LOCAL: ContextVar[Local | None] = ContextVar("LOCAL", default=None)


@flow(name="expert-iteration", flow_run_name="{recipe.name}", persist_result=False)
def expert_iteration(recipe: Recipe, run_dir: str | None = None, rounds: int | None = None) -> Any:
    """Make a model better on problems whose answers can be checked: sample, verify, train on what was right, repeat.

    An existing run is continued, and a finished one is left as it is, so a schedule can call this every night.

    Args:
        recipe: Everything that defines the run. Fields that are left out have the recipe's defaults.
        run_dir: The run's folder; `runs/<recipe.name>` below the working directory if it is not given.
        rounds: At most so many rounds now; the recipe's stop.max_rounds holds in any case.
    """
    local = LOCAL.get() or Local()
    directory = Path(run_dir) if run_dir else Path("runs") / recipe.name
    logging.getLogger("flywheel").setLevel(logging.INFO)
    reporter = PrefectReporter(local.reporter, directory)
    try:
        with Run.open(recipe, directory, reporter=reporter) as run:
            local.champion = spin(run, rounds=rounds, do=run_stage_as_task)
            reporter.report(run, write_report(run))
        return summary(local.champion, directory)
    except UserError as error:
        # The caller's to put right: its one line is the run's state, without a traceback above it.
        local.error = error
        LOGGER.error("%s", error)
        return Failed(message=str(error), data=error)
    except FlywheelError as error:
        local.error = error
        raise
    finally:
        reporter.publisher.close()


def run_stage_as_task(stage: Stage, scope: Scope) -> dict[str, Any]:
    """`run_stage` as a Prefect task in the calling thread, named after stage and round."""
    counts = stage_task(stage, scope)()
    reporter = scope.run.reporter
    if isinstance(reporter, PrefectReporter):
        if stage.name == "gate" and scope.round is not None:  # a decided round is never spun again: it is news
            reporter.gate(scope.round, read_json(scope.folder / "gate.json"))
            reporter.round(scope)
        if stage.name in ("evaluate", "gate"):
            reporter.table(scope.run.generation_rows())
    return counts


def stage_task(stage: Stage, scope: Scope) -> Task[[], dict[str, Any]]:
    """The task that runs one stage. It closes over its arguments, so that Prefect does not walk through the run."""

    def work() -> dict[str, Any]:
        return run_stage(stage, scope)

    return Task(
        work,
        name=stage.name,
        task_run_name=task_name(stage.name, scope),
        tags={"gpu"} if needs_gpu(stage, scope) else None,  # for each tag a task asks the server for its limit
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=RETRY_DELAYS,
        retry_condition_fn=worth_retrying,
    )


def needs_gpu(stage: Stage, scope: Scope) -> bool:
    """Whether a stage may load weights: the gate does where it tries mixtures before it rejects, propose where the
    policy writes, filter where it asks how examples fit, verify where a verifier brings a model of its own."""
    recipe = scope.run.recipe
    match stage.name:
        case "gate":
            return recipe.gate.repair != "none"
        case "propose":
            return recipe.propose.kind == "model"
        case "filter":
            return recipe.filter.fit is not None
        case "verify":
            return any(scope.run.traits(problem.id).exclusive for problem in scope.train_problems)
    return stage.name in GPU_STAGES


def task_name(stage: str, scope: Scope) -> str:
    """`sample-001` in a round, `check-base`, `evaluate-base` and `finale` around them."""
    if scope.round is not None:
        return f"{stage}-{scope.round:03d}"
    return stage if scope.phase == "final" else f"{stage}-{scope.phase}"


def worth_retrying(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether another try can help: an engine that died, an endpoint that did not answer. What a user or a recipe
    got wrong stays wrong, and a training that failed says why."""
    return isinstance(state.data, (EngineError, EndpointError, ConnectionError, httpx.TransportError))


def summary(champion: Generation, directory: Path) -> dict[str, Any]:
    """What the flow returns: the champion in a few JSON values."""
    return {
        "run_dir": str(directory),
        "generation": champion.index,
        "status": champion.status,
        "model": champion.path,
        "metrics": champion.metrics,
    }
