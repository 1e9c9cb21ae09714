"""`flywheel verify`: one verifier over a file of completions, in constant memory, row by row in the file's order."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from flywheel import plugins
from flywheel.errors import ProblemError, UserError
from flywheel.recipe import VerifySection
from flywheel.types import Message, Outcome, Problem, Sample, Verdict
from flywheel.verify import VerifierPool

ADDED = ("outcome", "score", "extracted", "detail", "isolation", "seconds")
"""The columns that the output has beside the input's own."""
PIPE = "-"
"""Standard input, or standard output."""
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
    group = plugins.traits(plugins.make_verifier(section.verifier, section.options)).group
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(_opened(source))
        if out != PIPE:
            _refuse_place(source, Path(out))
        shown = "standard input" if source == PIPE else source
        rows = read_rows(lines, shown)
        total = sum(1 for _ in (standing_together(rows) if group else rows))
        if not total:
            raise ProblemError(f"{shown} has no rows")
        lines.seek(0)
        pool = TimedPool(section)
        stack.callback(pool.close)
        target = stack.enter_context(_written(out))
        tally, begun = Tally(), time.monotonic()
        window = 4 * section.workers
        for row, verdict, seconds in judged(pool, read_rows(lines, shown), window=window, group=group):
            tally.replaced |= row.keys() & set(ADDED)
            tally.outcomes[verdict.outcome] += 1
            with _disk_errors(out):
                target.write(json.dumps(with_verdict(row, verdict, seconds)).encode() + b"\n")
            if progress is not None:
                progress(sum(tally.outcomes.values()), total)
        tally.seconds = time.monotonic() - begun
        with _disk_errors(out):
            target.flush()
    return tally


def with_verdict(row: dict[str, Any], verdict: Verdict, seconds: float) -> dict[str, Any]:
    """A row and, at its end, the columns of `ADDED`; columns of its own with these names give way."""
    kept = {name: value for name, value in row.items() if name not in ADDED}
    values = (verdict.outcome, verdict.score, verdict.answer, verdict.detail, verdict.isolation, round(seconds, 6))
    return kept | dict(zip(ADDED, values, strict=True))


# -- rows -------------------------------------------------------------------------------------------


def read_rows(lines: IO[bytes], shown: str, needs: Sequence[str] = ("completion",)) -> Iterator[dict[str, Any]]:
    """The rows of JSONL; blank lines are passed over. Raises ProblemError naming the line that is no row.

    Each has a text in the columns that it `needs`, and no other kind of value where a problem has a text.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _object(line, f"{shown} line {number}")
            _check_columns(row, needs, f"{shown} line {number}")
            yield row


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ProblemError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where} is not JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:  # nested too deep, or an integer too long to convert
        raise ProblemError(f"{where} is not JSON that can be read: {error}") from None
    if not isinstance(row, dict):
        raise ProblemError(f"{where} holds a {type(row).__name__}; every row must be a JSON object")
    return row


def _check_columns(row: dict[str, Any], needs: Sequence[str], where: str) -> None:
    for name in needs:
        if name not in row:
            raise ProblemError(f"{where} lacks the column {name!r}; it has {', '.join(list(row)[:8]) or 'nothing'}")
        if not isinstance(row[name], str):
            raise ProblemError(f"{where}: {name!r} is a {type(row[name]).__name__}; it must be a text")
    for name in ("prompt", "solution"):
        if not isinstance(row.get(name), (str, type(None))):
            raise ProblemError(f"{where}: {name!r} is a {type(row[name]).__name__}; it must be a text")
    _messages(row, where)


def _messages(row: dict[str, Any], where: str) -> list[Message] | None:
    given = row.get("messages")
    if given is None:
        return None
    texts = isinstance(given, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in given
    )
    if not texts:
        raise ProblemError(f"{where}: 'messages' must be a list of objects with a role and a content, both text")
    return [{"role": m["role"], "content": m["content"]} for m in given]


def problem_key(row: dict[str, Any]) -> str:
    """What rows of one problem have in common."""
    given = row.get("problem_id")
    return json.dumps(given if given is not None else [row.get(n) for n in ("prompt", "messages", "answer")])


def standing_together(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows as they come. Raises ProblemError where a problem's rows are scattered: a group is judged at once."""
    seen: set[bytes] = set()
    last = ""
    for row in rows:
        key = problem_key(row)
        if key != last:
            mark = hashlib.blake2b(key.encode(), digest_size=12).digest()
            if mark in seen:
                raise ProblemError(f"rows of the problem {key[:60]} do not stand together; sort the file by problem")
            seen.add(mark)
            last = key
        yield row


def to_problem(row: dict[str, Any], id: str) -> Problem:
    """A row as the problem that its completion answers: what is no field of a problem goes to `meta`."""
    fields = ("completion", "prompt", "answer", "solution", "messages", *ADDED)
    answer = row.get("answer")
    return Problem(
        id=id,
        prompt=row.get("prompt") or "",
        answer=answer if isinstance(answer, str) else "" if answer is None else json.dumps(answer),
        solution=row.get("solution"),
        messages=_messages(row, id),
        meta={name: value for name, value in row.items() if name not in fields},
    )


def read_problems(path: str) -> list[Problem]:
    """The problems of a JSONL file, whose rows need no completion. Raises ProblemError."""
    with _opened(path) as lines:
        rows = list(read_rows(lines, path, needs=()))
    return [to_problem(row, str(row.get("id") or row.get("task_id") or f"row-{i}")) for i, row in enumerate(rows, 1)]


# -- judging ----------------------------------------------------------------------------------------


class TimedPool(VerifierPool):
    """A pool that also says how long each verdict took: the time since its worker's last one, without loading.

    Verdicts that a verifier gives together share that time, so that all of them add up to what the workers worked.
    """

    def __init__(self, section: VerifySection) -> None:
        self._clock = threading.local()  # one thread serves one worker
        self.seconds: dict[str, float] = {}
        super().__init__(section)

    def _judge(self, worker: Any, batch: Any) -> bool:
        self._clock.since = time.monotonic()
        return super()._judge(worker, batch)

    def _note(self, *what: Any) -> None:
        super()._note(*what)
        self._clock.since = time.monotonic()

    def _finish(self, job: Any, *what: Any) -> None:
        now = time.monotonic()
        for sample in job.samples:
            self.seconds[sample.id] = (now - self._clock.since) / len(job.samples)
        self._clock.since = now
        super()._finish(job, *what)


Judged = tuple[dict[str, Any], Verdict, float]


def judged(pool: TimedPool, rows: Iterator[dict[str, Any]], *, window: int, group: bool = False) -> Iterator[Judged]:
    """Each row with its verdict and the seconds that took, in order, with at most `window` chunks under way."""
    waiting: deque[tuple[list[dict[str, Any]], list[Sample], Future[list[Verdict]]]] = deque()

    def finished() -> Iterator[Judged]:
        chunk, samples, future = waiting.popleft()
        for row, sample, verdict in zip(chunk, samples, future.result(), strict=True):
            yield row, verdict, pool.seconds.pop(sample.id)

    count = 0
    for chunk in _chunks(rows, group):
        problems: dict[str, Problem] = {}
        samples = []
        for row in chunk:
            count += 1
            key = problem_key(row) if group else str(count)
            problem = problems.setdefault(key, to_problem(row, f"problem-{count}"))
            samples.append(Sample(f"row-{count}", problem.id, 0, 0, 0, row["completion"], "", 0, 1.0, "", "policy"))
        waiting.append((chunk, samples, pool.submit(list(problems.values()), samples)))
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


# -- files ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    """The input, to be read twice; standard input is kept in a file without a name for that."""
    if source != PIPE:
        try:
            handle = Path(source).expanduser().open("rb")
        except OSError as error:
            raise ProblemError(f"{source} cannot be read: {error.strerror}") from None
        with handle:
            if not handle.seekable():
                raise ProblemError(f"{source} is a pipe; give it as standard input: flywheel verify … -")
            yield handle
        return
    with tempfile.TemporaryFile() as kept:
        with _disk_errors(tempfile.gettempdir()):
            shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        yield kept


def _refuse_place(source: str, out: Path) -> None:
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file's name")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.absolute().parent}")
    if source != PIPE and out.exists() and out.samefile(Path(source).expanduser()):
        raise UserError(f"--out {out} is the input itself; give another file")


@contextlib.contextmanager
def _written(out: str) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is whole; standard output, a pipe or a device as it comes."""
    if out == PIPE:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if Path(out).exists() and not Path(out).is_file():  # a rename would put a file in the place of /dev/null
        with _disk_errors(out):
            stream = open(out, "wb")  # noqa: SIM115 - closed two lines below
        with stream:
            yield stream
        return
    place = Path(out).resolve()
    with _disk_errors(out):
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            with _disk_errors(out):
                handle.flush()
                os.fchmod(handle.fileno(), _usual_mode(place))
                os.fsync(handle.fileno())
        os.replace(name, place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _usual_mode(place: Path) -> int:
    """The mode a new file would get, or that of the one which is replaced; mkstemp's own is for its owner only."""
    if place.exists():
        return place.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


@contextlib.contextmanager
def _disk_errors(place: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror}") from None
