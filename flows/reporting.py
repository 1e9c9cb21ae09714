"""Shows a run in Prefect: log lines, artifacts and events, posted so that the server can never hold it up."""

from __future__ import annotations

import contextvars
import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event
from prefect.exceptions import PrefectException

from flywheel.progress import Reporter
from flywheel.report.summary import funnel_rows, markdown
from flywheel.scope import Scope
from flywheel.view import RunView

LOGGER = logging.getLogger("flywheel.run")
PROGRESS_SECONDS = 5.0  # between two posts of one progress artifact; each costs the server 10-20 ms
CLOSING_SECONDS = 75.0
"""How long a finished run waits for the server to take the next of what is still to be posted: a server on SQLite can
stand still for the 60 seconds after which two of its own transactions stop waiting for each other."""


class Publisher:
    """Makes calls to Prefect's API in a thread of its own, in order; what fails is logged once and left."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[contextvars.Context, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="flywheel-prefect", daemon=True)
        self._warned = False
        self._taken = 0  # calls that the server has taken
        self._thread.start()

    def post(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Queue a call; it runs with the caller's context, so it belongs to the caller's flow and task run."""
        self._calls.put((contextvars.copy_context(), partial(call, *args, **options)))

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Wait for the calls still queued, until the server has taken none for `seconds`.

        A slow server gets everything, one that hangs or is gone holds the run up this long. The thread ends with the
        process in any case.
        """
        self._calls.put(None)
        taken, since = self._taken, time.monotonic()
        while self._thread.is_alive() and time.monotonic() - since < seconds:
            self._thread.join(min(0.1, seconds))
            if self._taken != taken:
                taken, since = self._taken, time.monotonic()

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            context, call = item
            try:
                context.run(call)
                self._taken += 1
            # RuntimeError: the run ended under a call that was still queued, and its client is closed.
            except (httpx.HTTPError, PrefectException, OSError, RuntimeError) as error:
                if not self._warned:
                    self._warned = True
                    context.run(LOGGER.warning, "Prefect does not take what is reported to it: %r; going on", error)


@dataclass
class _Progress:
    """The newest state under one label, and what Prefect knows of it."""

    done: int = 0
    total: int = 0
    unit: str = ""
    posted: float = float("-inf")
    pending: bool = False
    artifact: UUID | None = None


@dataclass
class PrefectReporter:
    """Passes everything on to `inner` (the console's reporter, or `Silent`) and shows it in Prefect as well.

    Log lines go through the logger `flywheel.run`, which Prefect stores where its setting
    `PREFECT_LOGGING_EXTRA_LOGGERS` names `flywheel`. Artifact keys begin with the run folder's name.
    """

    inner: Reporter
    directory: Path
    publisher: Publisher = field(default_factory=Publisher)
    _progress: dict[str, _Progress] = field(default_factory=dict)

    def stage(self, name: str, round_index: int | None, state: str, info: dict[str, Any]) -> None:
        """Log the stage and its counts."""
        self.inner.stage(name, round_index, state, info)
        place = "" if round_index is None else f"round {round_index} · "
        counts = ", ".join(f"{key} {value}" for key, value in info.items())
        LOGGER.info("%s%s · %s%s", place, name, state, f": {counts}" if counts else "")

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        """Post a progress artifact, at most every five seconds a label."""
        self.inner.progress(label, done, total, unit)
        entry = self._progress.setdefault(label, _Progress())
        entry.done, entry.total, entry.unit = done, total, unit
        now = time.monotonic()
        if entry.pending or (done < total and now - entry.posted < PROGRESS_SECONDS):
            return
        entry.pending, entry.posted = True, now
        self.publisher.post(self._post_progress, label, entry)

    def row(self, row: dict[str, Any]) -> None:
        """Pass it on; Prefect gets the whole table, see `table`."""
        self.inner.row(row)

    def message(self, text: str) -> None:
        """Log a line for people."""
        self.inner.message(text)
        LOGGER.info("%s", text)

    def table(self, rows: list[dict[str, Any]]) -> None:
        """Post all generations so far (`Run.generation_rows`) as a new version of the run's table artifact."""
        self.publisher.post(
            create_table_artifact,
            [table_row(row) for row in rows],
            key=self.key("generations"),
            description=f"Generations of {self.directory}",
        )

    def gate(self, round_index: int, decision: dict[str, Any]) -> None:
        """Publish what the gate of a round decided: its markdown, and the events others can automate on."""
        accepted = bool(decision["accepted"])
        verdict = "accepted" if accepted else "rejected"
        lines = [f"## Round {round_index}: candidate {verdict}", "", *(f"- {reason}" for reason in decision["reasons"])]
        others = [c["words"] for c in decision["checks"] if c["words"] not in decision["reasons"]]
        lines += ["", "Its other lines:", "", *(f"- {words}" for words in others)] if others else []
        self.publisher.post(
            create_markdown_artifact,
            "\n".join(lines),
            key=self.key("gate"),
            description=f"Gate of round {round_index}: {verdict}",
        )
        payload = {"round": round_index, "generation": round_index + 1, "reasons": decision["reasons"]}
        self.event("flywheel.round.completed" if accepted else "flywheel.round.rejected", payload)
        if accepted:
            self.event("flywheel.model.promoted", payload)

    def round(self, scope: Scope) -> None:
        """Post a round's funnel: sampled, right, distinct, kept, and why the others were dropped."""
        self.publisher.post(
            create_table_artifact,
            funnel_rows(scope),
            key=self.key(f"round-{scope.round}"),
            description=f"Round {scope.round} of {self.directory}: from samples to examples",
        )

    def event(self, name: str, payload: dict[str, Any]) -> None:
        """Emit an event whose resource is this run's folder."""
        resource = {
            "prefect.resource.id": f"flywheel.run.{self.directory.name}",
            "prefect.resource.name": self.directory.name,
            "flywheel.directory": str(self.directory),
        }
        self.publisher.post(emit_event, name, resource=resource, payload=payload)

    def report(self, run: RunView, path: Path) -> None:
        """Sum the run up, and link its report. The link opens where the run's disk is."""
        self.publisher.post(
            create_markdown_artifact,
            f"{markdown(run)}\n\nThe whole report: `{path.absolute()}`",
            key=self.key("summary"),
            description=f"Summary of {self.directory}",
        )
        self.publisher.post(
            create_link_artifact,
            path.absolute().as_uri(),
            link_text=path.name,
            key=self.key("report"),
            description=f"Report of {self.directory}",
        )

    def key(self, what: str) -> str:
        """An artifact key: lowercase letters, digits and dashes, as Prefect asks."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.directory.name}-{what}".lower()).strip("-")

    def _post_progress(self, label: str, entry: _Progress) -> None:
        entry.pending = False  # first, so that whatever comes from now on is posted by a later call
        percent = 100.0 * entry.done / entry.total if entry.total else 100.0
        text = f"{label}: {entry.done} of {entry.total} {entry.unit}"
        if entry.artifact is None:
            entry.artifact = cast(UUID, create_progress_artifact(percent, key=self.key(label), description=text))
        else:
            update_progress_artifact(entry.artifact, percent, description=text)


def table_row(row: dict[str, Any]) -> dict[str, Any]:
    """One generation for Prefect's table: shares with three decimals, the interval in one column."""

    def share(value: Any) -> str:
        return "" if value is None else f"{value:.3f}"

    interval = "" if row.get("pass_1_low") is None else f"[{share(row['pass_1_low'])}, {share(row['pass_1_high'])}]"
    shown: dict[str, Any] = {
        "generation": row["generation"],
        "status": row.get("status", "") + (" (champion)" if row.get("champion") else ""),
    }
    for name in ("sampled", "correct", "kept", "distinct_paths"):
        shown[name] = "" if row.get(name) is None else row[name]
    shown["pass@1"] = share(row.get("pass_1"))
    shown["interval"] = interval
    shown[f"pass@{row.get('k', 'k')}"] = share(row.get("pass_k"))
    for name in ("tokens", "seconds"):
        shown[name] = "" if row.get(name) is None else round(row[name])
    return shown
