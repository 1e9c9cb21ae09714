"""One run on this machine through Prefect with no server to start: what `flywheel run` does.

Prefect's own embedded server outlives a run that is killed with SIGKILL. Here the same server runs under
`flywheel.guard` instead, so it ends with the run however that ends. This module imports Prefect only inside
functions: the environment must be set first.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import traceback
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel import guard
from flywheel.errors import FlywheelError, RunError, StageError, UserError
from flywheel.prefect_env import apply, check_versions, configured_api_url, prefect_home
from flywheel.progress import Reporter
from flywheel.types import Generation

if TYPE_CHECKING:
    from flywheel.recipe import Recipe

START_SECONDS = 120.0
"""How long the server may take: 12-16 s with a new database on two cores, 6-9 s later."""
WITHOUT = "the same command with --no-prefect does the same work without it"


def run_local(recipe: Recipe, run_dir: Path, rounds: int | None, reporter: Reporter) -> Generation:
    """Run (or continue) a recipe as a Prefect flow in this process and return the champion.

    Flows go to your own Prefect server where you have configured one, else to a server that lives as long as this
    call, with its database in `.prefect` beside the run's folder. Once the loop has ended, what becomes of
    Prefect's bookkeeping no longer matters: the run's files are complete.

    Raises what the loop raises (UserError, StageError), UserError where Prefect's versions do not fit or its server
    does not start or answer, and StageError where Prefect failed in the middle.
    """
    check_versions()
    workspace = run_dir.absolute().parent
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {workspace}: {error.strerror}; give another --run-dir") from None
    apply(workspace)
    theirs = configured_api_url()
    if theirs is not None:
        _refuse_silence(theirs)
        return _run_flow(recipe, run_dir, rounds, reporter)
    with local_server(workspace) as url:
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        # No heartbeat thread: a flow waits a second for it at its end, and nobody watches a local run's heartbeat.
        with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            return _run_flow(recipe, run_dir, rounds, reporter)


def _refuse_silence(url: str) -> None:
    """Raise UserError where the server that you have configured does not answer; nothing is begun then."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error is not None:
        raise UserError(
            f"no Prefect server answers at {url} ({error!r}): prefect server start; or unset PREFECT_API_URL, and the "
            f"run has a server of its own; {WITHOUT}"
        )


def _run_flow(recipe: Recipe, run_dir: Path, rounds: int | None, reporter: Reporter) -> Generation:
    import httpx
    from prefect.exceptions import PrefectException

    from flywheel.flows.expert_iteration import LOCAL, Local, expert_iteration

    local = Local(reporter)
    token = LOCAL.set(local)
    try:
        try:
            expert_iteration(recipe=recipe, run_dir=str(run_dir), rounds=rounds)
        finally:
            drain()
    except FlywheelError:
        raise
    except (PrefectException, httpx.HTTPError, OSError, RuntimeError) as error:
        if _from_the_loop(error):
            raise  # a defect of ours: its traceback says more than a line about Prefect
        if local.champion is None:
            raise local.error or _prefect_failed(error) from error
        reporter.message(f"Prefect could not record the end of the run ({error}); its files are complete")
    finally:
        LOCAL.reset(token)
    if local.champion is None:
        raise local.error or StageError(f"Prefect did not run the flow to its end; {WITHOUT}")
    return local.champion


def _from_the_loop(error: BaseException) -> bool:
    """Whether an error came up through the work of a stage, and not out of Prefect around it."""
    names = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name == "flywheel.run" or name.startswith("flywheel.stages.") for name in names)


def _prefect_failed(error: Exception) -> FlywheelError:
    return StageError(f"Prefect failed: {type(error).__name__}: {error}; what is finished is kept, and {WITHOUT}")


def drain() -> None:
    """Send what Prefect still holds (log lines, events) while its server lives."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=5)
    EventsWorker.drain_all(timeout=5)


@contextlib.contextmanager
def local_server(workspace: Path) -> Iterator[str]:
    """Prefect's server for this process alone, on a free port of 127.0.0.1; yields its API URL.

    It starts while Prefect is still being imported. Raises UserError with the log's place if it does not start.
    """
    home = Path(os.environ.get("PREFECT_HOME") or prefect_home(workspace))
    log, pids = home / "server.log", home / "pids"
    guard.reap(pids)
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    # What Prefect sets for its embedded server; its console lines may go to the log in full.
    server_env = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "0"}
    server_env |= {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "0"}
    server = guard.spawn(command, name="prefect-server", log=log, pid_dir=pids, env=server_env)
    try:
        import prefect.main  # noqa: F401  takes two seconds: meanwhile the server starts

        _wait_until_ready(url, server, log)
        yield url
    finally:
        server.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, server: guard.Guarded, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach our own 127.0.0.1
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.returncode is not None:
            raise UserError(f"Prefect's server ended with exit code {server.returncode} (see {log}); {WITHOUT}")
        try:
            with opener.open(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise UserError(f"Prefect's server did not answer within {START_SECONDS:.0f} s (see {log}); {WITHOUT}")
