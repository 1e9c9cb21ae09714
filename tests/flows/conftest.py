"""One Prefect server for all tests of this folder; tests/conftest.py has set its home before Prefect is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.recipe import Recipe, load_recipe

# Tasks are also run without a flow here, and Prefect warns of each log line of theirs.
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")

TINY = ("problems.count=40", "problems.dev=8", "problems.test=8", "evaluate.resamples=100")


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API URL of a server that lasts as long as the test session, and no longer than it, however that ends.

    Prefect's own test harness leaves its server behind where pytest, or xdist's process, is killed.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flywheel.flows.local import drain, local_server

    with (
        local_server(tmp_path_factory.mktemp("prefect")) as url,
        # A flow waits a second at its end for its heartbeat thread.
        temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield url
        drain()


@pytest.fixture
def toy() -> Recipe:
    """A whole run in a second or two."""
    return load_recipe("toy", TINY)


@pytest.fixture
def settled() -> Any:
    """Wait until Prefect has stored what was sent to it: `settled(lambda: rows())` returns the first true value."""
    import time

    def wait(look: Any, seconds: float = 20.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := look()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    return wait


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[2]
