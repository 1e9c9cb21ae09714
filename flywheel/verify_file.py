"""`flywheel verify`: one verifier over a file of completions, in constant memory, row by row in the file's order."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flywheel import plugins, protocols
from flywheel.errors import ProblemError
from flywheel.recipe import VerifySection
from flywheel.types import Outcome, Problem, Sample, Verdict
from flywheel.verify import VerifierPool
from flywheel.verify_places import PIPE, disk_errors, opened, refuse_place, written
from flywheel.verify_rows import ADDED, problem_key, read_rows, standing_together, to_problem

CHUNK = 64
"""Rows handed to the pool at once."""
CHUNK_CHARACTERS = 1 << 20
"""Characters of rows after which a chunk is full."""


@dataclass
class Tally:
    """What was counted: rows by outcome, input columns that were replaced, wall time."""

    outcomes: Counter[str] = field(default_factory=Counter)
    replaced: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def nothing_judged(self) -> bool:
        """Whether all rows came out as errors."""
        return self.outcomes[Outcome.ERROR] == sum(self.outcomes.values())

    def lines(self) -> list[str]:
        """The summary for people."""
        total = sum(self.outcomes.values())
        width = max(len(outcome) for outcome in Outcome)
        lines = [
            f"{outcome:<{width}}  {self.outcomes[outcome]:>9,}  {self.outcomes[outcome] / max(total, 1):>6.1%}"
            for outcome in Outcome
        ]
        rate = total / self.seconds if self.seconds > 0 else 0.0
        lines.append(f"{'rows':<{width}}  {total:>9,}  in {self.seconds:.1f} s, {rate:,.0f} rows/s")
        if self.replaced:
            lines.append(f"the input's own {', '.join(sorted(self.replaced))} were replaced")
        return lines


def verify_file(
    section: VerifySection, source: str, out: str, progress: Callable[[int, int], None] | None = None
) -> Tally:
    """Judge each row of `source` and write it to `out` with its verdict.

    Both are JSONL files; `-` is standard input or output. All rows are read and checked before the first is judged,
    and `out` appears when the last one is written: an interruption leaves what was there before. Where the verifier
    judges all completions of a problem together, rows of one problem (the same `problem_id`, or else the same prompt
    and answer) must stand together. `progress` is called with rows done and rows in all. Raises ProblemError for a row
    that cannot be judged, with its line number, UserError for places that cannot be read or written, PluginError for
    the verifier.
    """
    group = protocols.traits(plugins.make_able_verifier(section.verifier, section.options)).group
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(opened(source))
        if out != PIPE:
            refuse_place(source, Path(out))
        shown = "standard input" if source == PIPE else source
        rows = read_rows(lines, shown)
        total = sum(1 for _ in (standing_together(rows) if group else rows))
        if not total:
            raise ProblemError(f"{shown} has no rows")
        lines.seek(0)
        pool = VerifierPool(section)
        stack.callback(pool.close)
        target = stack.enter_context(written(out))
        tally, begun = Tally(), time.monotonic()
        window = 4 * section.workers
        for row, verdict, seconds in judged(pool, read_rows(lines, shown), window=window, group=group):
            tally.replaced |= row.keys() & set(ADDED)
            tally.outcomes[verdict.outcome] += 1
            with disk_errors(out):
                target.write(json.dumps(with_verdict(row, verdict, seconds)).encode() + b"\n")
            if progress is not None:
                progress(sum(tally.outcomes.values()), total)
        tally.seconds = time.monotonic() - begun
        with disk_errors(out):
            target.flush()
    return tally


def with_verdict(row: dict[str, Any], verdict: Verdict, seconds: float) -> dict[str, Any]:
    """A row and, at its end, the columns of `ADDED`; columns of its own with these names give way."""
    kept = {name: value for name, value in row.items() if name not in ADDED}
    values = (verdict.outcome, verdict.score, verdict.answer, verdict.detail, verdict.isolation, round(seconds, 6))
    return kept | dict(zip(ADDED, values, strict=True))


# -- judging ----------------------------------------------------------------------------------------


Judged = tuple[dict[str, Any], Verdict, float]


def judged(pool: VerifierPool, rows: Iterator[dict[str, Any]], *, window: int, group: bool = False) -> Iterator[Judged]:
    """Each row with its verdict and the seconds that took, in order, with at most `window` chunks under way."""
    waiting: deque[tuple[list[dict[str, Any]], Future[list[Verdict]]]] = deque()
    seconds: dict[str, float] = {}

    def heard(verdicts: Sequence[Verdict], each: float) -> None:
        seconds.update((verdict.sample_id, each) for verdict in verdicts)

    def finished() -> Iterator[Judged]:
        chunk, future = waiting.popleft()
        for row, verdict in zip(chunk, future.result(), strict=True):
            yield row, verdict, seconds.pop(verdict.sample_id)

    count = 0
    for chunk in _chunks(rows, group):
        problems: dict[str, Problem] = {}
        samples = []
        for row in chunk:
            count += 1
            key = problem_key(row) if group else str(count)
            problem = problems.setdefault(key, to_problem(row, f"problem-{count}"))
            samples.append(Sample(f"row-{count}", problem.id, 0, 0, 0, row["completion"], "", 0, 1.0, "", "policy"))
        waiting.append((chunk, pool.submit(list(problems.values()), samples, heard)))
        if len(waiting) >= window:
            yield from finished()
    while waiting:
        yield from finished()


def _chunks(rows: Iterator[dict[str, Any]], group: bool) -> Iterator[list[dict[str, Any]]]:
    """Rows in chunks that end where they are full; with `group`, only between two problems."""
    chunk: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        full = len(chunk) >= CHUNK or size >= CHUNK_CHARACTERS
        if full and not (group and problem_key(row) == problem_key(chunk[-1])):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str))
    if chunk:
        yield chunk
