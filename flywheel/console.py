"""What `flywheel run` shows: bars while it works and one table row a generation; plain lines where nobody watches."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from flywheel.figures import duration, share, short, whole

PLAIN_SECONDS = 30.0
"""Without a terminal a line of progress comes at most this often, so that a log stays readable."""

STYLES = {"accepted": "green", "rejected": "red", "base": ""}


# -- the table -------------------------------------------------------------------------------------


def with_interval(row: dict[str, Any]) -> str:
    """`.241 [.198, .286]`"""
    if row["pass_1_low"] is None or row["pass_1_high"] is None:
        return share(row["pass_1"])
    return f"{share(row['pass_1'])} [{share(row['pass_1_low'])}, {share(row['pass_1_high'])}]"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of generations: its title, its width in characters, and its text."""

    title: str
    width: int
    text: Callable[[dict[str, Any]], str]


COLUMNS = (
    Column("gen", 3, lambda row: str(row["generation"])),
    Column("status", 10, lambda row: f"{row['status']} *" if row["champion"] else str(row["status"])),
    Column("sampled", 7, lambda row: whole(row["sampled"])),
    Column("correct", 7, lambda row: whole(row["correct"])),
    Column("paths", 6, lambda row: whole(row["distinct_paths"])),
    Column("kept", 6, lambda row: whole(row["kept"])),
    Column("dev pass@1", 17, with_interval),
    Column("pass@k", 8, lambda row: share(row["pass_k"])),
    Column("tokens", 7, lambda row: short(row["tokens"])),
    Column("time", 7, lambda row: duration(row["seconds"])),
)
"""`*` marks the champion, `paths` counts distinct reasoning paths among right answers, `tokens` are generated ones."""


def header(k: int) -> str:
    """The titles of the table, `k` being that of its pass@k."""
    return _line(column.title.replace("@k", f"@{k}") for column in COLUMNS)


def table_row(row: dict[str, Any]) -> str:
    """One generation as a line below `header` (see `flywheel.run.Run.generation_rows` for the fields)."""
    return _line(column.text(row) for column in COLUMNS)


def table_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The whole table; no line at all where no generation has been evaluated yet."""
    return [header(rows[0]["k"]), *map(table_row, rows)] if rows else []


def _line(cells: Iterable[str]) -> str:
    padded = [
        cell.ljust(column.width) if column.title == "status" else cell.rjust(column.width)
        for cell, column in zip(cells, COLUMNS, strict=True)
    ]
    return "  ".join(padded).rstrip()


# -- the reporters ---------------------------------------------------------------------------------


class Console(AbstractContextManager["Console"]):
    """A Reporter for people: bars in a terminal, plain lines in a pipe or a log.

    It never raises and never writes a control code to what is no terminal. Once the reader of a pipe
    has gone it falls silent, so that `flywheel run | head` does not end the run.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._out = sys.stdout if stream is None else stream
        is_terminal = self._out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._view: Bars | Lines = Bars(self._out) if is_terminal else Lines(self._out)
        self._table_begun = self._gone = False

    def __enter__(self) -> Console:
        self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._show(self._view.stop)

    def stage(self, name: str, round_index: int | None, state: str, info: dict[str, Any]) -> None:
        """Show that a stage began or ended."""
        label = name if round_index is None else f"round {round_index} · {name}"
        self._show(self._view.stage, label, state, info)

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        """Move the bar of `label`, or write a line when enough has happened."""
        self._show(self._view.progress, label, done, total, unit)

    def row(self, row: dict[str, Any]) -> None:
        """Add a generation to the table."""
        if not self._table_begun:
            self._table_begun = True
            self._show(self._view.write, header(row["k"]), "bold")
        # Whoever is champion now may not be in the end; the closing lines say who is.
        self._show(self._view.write, table_row({**row, "champion": False}), STYLES.get(row["status"], ""))

    def message(self, text: str) -> None:
        """Write a line."""
        self._show(self._view.write, text)

    def _show(self, draw: Callable[..., None], *what: Any) -> None:
        if self._gone:
            return
        try:
            draw(*what)
        except OSError:  # the pipe's reader has gone, or the terminal has been closed
            self._gone = True
            if self._out is sys.stdout:  # else Python complains once more when it flushes at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())


class Lines:
    """The view for logs: a line a stage, a line of progress now and then."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last: dict[str, float] = {}

    def start(self) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def stage(self, label: str, state: str, info: dict[str, Any]) -> None:
        """`round 1 · sample: done (samples 1,536, tokens 81,222)`; a start only by name."""
        counts = ", ".join(f"{name} {value:,}" for name, value in info.items() if type(value) is int)
        self.write(f"{label}: {state}{f' ({counts})' if counts and state != 'start' else ''}")
        self._last.clear()

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        """`round 1 · sample: 512 of 1,536 samples (33 %)`, at most every half minute."""
        now = time.monotonic()
        if now - self._last.setdefault(label, now) >= PLAIN_SECONDS:
            self._last[label] = now
            self.write(f"{label}: {done:,} of {total:,} {unit} ({done / max(total, 1):.0%})")

    def write(self, text: str, style: str = "") -> None:
        """A line, at once; `style` is for terminals."""
        self._out.write(f"{text}\n")
        self._out.flush()


class Bars:
    """The view for terminals: what is under way moves at the bottom, what is done stays above."""

    def __init__(self, out: TextIO) -> None:
        self._terminal = Terminal(file=out, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            Amount(),
            Rate(),
            TimeRemainingColumn(compact=True),
            console=self._terminal,
            transient=True,
            refresh_per_second=4,
        )
        self._tasks: dict[str, TaskID] = {}
        self._waiting: TaskID | None = None

    def start(self) -> None:
        """Begin to draw."""
        self._progress.start()

    def stop(self) -> None:
        """Take the bars away; the lines stay."""
        self._progress.stop()

    def stage(self, label: str, state: str, info: dict[str, Any]) -> None:
        """A stage that has begun waits under a moving bar until it tells its progress."""
        for task in [*self._tasks.values(), *([] if self._waiting is None else [self._waiting])]:
            self._progress.remove_task(task)
        self._tasks.clear()
        self._waiting = self._progress.add_task(label, total=None, unit="") if state == "start" else None

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        """Move the bar of `label`."""
        if self._waiting is not None:
            self._progress.remove_task(self._waiting)
            self._waiting = None
        if label not in self._tasks:
            # What an earlier attempt finished is no speed of this one.
            self._tasks[label] = self._progress.add_task(label, total=total, completed=done, unit=unit)
        self._progress.update(self._tasks[label], completed=done, total=total)

    def write(self, text: str, style: str = "") -> None:
        """A line above the bars."""
        self._terminal.print(Text(text, style=style), soft_wrap=True)


class Amount(ProgressColumn):
    """`33 %  512/1,536 samples`"""

    def render(self, task: Task) -> Text:
        """The column's text."""
        if task.total is None:
            return Text("")
        amount = f"{int(task.completed):,}/{int(task.total):,} {task.fields['unit']}"
        return Text(f"{task.percentage:3.0f} %  {amount}", style="cyan")


class Rate(ProgressColumn):
    """`37/s`, or the time a stage has taken where it tells no progress."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        if task.total is None:
            return Text(duration(task.elapsed or 0.0), style="dim")
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="dim")
