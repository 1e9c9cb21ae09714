"""Where `flywheel verify` reads and writes: files, pipes, standard input and output; whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from flywheel.errors import ProblemError, UserError

PIPE = "-"
"""Standard input, or standard output."""


@contextlib.contextmanager
def opened(source: str) -> Iterator[IO[bytes]]:
    """The input, to be read twice; standard input is kept in a file without a name for that. Raises ProblemError."""
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
        with disk_errors(tempfile.gettempdir()):
            shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        yield kept


def refuse_place(source: str, out: Path) -> None:
    """Raise UserError where `out` cannot become a file of results."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file's name")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.absolute().parent}")
    if source != PIPE and out.exists() and out.samefile(Path(source).expanduser()):
        raise UserError(f"--out {out} is the input itself; give another file")


@contextlib.contextmanager
def written(out: str) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is whole; standard output, a pipe or a device as it comes."""
    if out == PIPE:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if Path(out).exists() and not Path(out).is_file():  # a rename would put a file in the place of /dev/null
        with disk_errors(out):
            stream = open(out, "wb")  # noqa: SIM115 - closed two lines below
        with stream:
            yield stream
        return
    place = Path(out).resolve()
    with disk_errors(out):
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            with disk_errors(out):
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
def disk_errors(place: str) -> Iterator[None]:
    """Turn what the disk refuses into UserError; a reader that has gone stays a BrokenPipeError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror}") from None
