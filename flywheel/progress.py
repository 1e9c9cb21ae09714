"""What a run tells the world while it works. The loop calls a Reporter; the CLI draws it, Prefect shows it."""

from __future__ import annotations

from typing import Any, Protocol


class Reporter(Protocol):
    """Receives what happens. Every method returns at once and must not raise."""

    def stage(self, name: str, round_index: int | None, state: str, info: dict[str, Any]) -> None:
        """A stage began (`start`), finished (`done`), was found finished (`kept`) or is not needed (`skipped`).
        `round_index` is None for the base evaluation and the finale."""

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        """`done` of `total` units (samples, verdicts, steps) under `label`, e.g. `round 1 · sample`."""

    def row(self, row: dict[str, Any]) -> None:
        """One generation's line of the table (see `flywheel.run.generation_rows` for its fields)."""

    def message(self, text: str) -> None:
        """A line for people."""


class Silent:
    """A Reporter that shows nothing."""

    def stage(self, name: str, round_index: int | None, state: str, info: dict[str, Any]) -> None:
        """Nothing."""

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        """Nothing."""

    def row(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""
