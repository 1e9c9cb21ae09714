"""The lock of a run's folder: one process spins a run, and one that is refused leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from flywheel import store
from flywheel.errors import RunError

_TRIES = 100


class Lock:
    """An flock on `lock` in the run's folder: one process spins a run. The kernel drops it with the process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._handle: int | None = None

    def acquire(self) -> None:
        """Make the folder if need be and take the lock, or raise RunError that names the holder."""
        for _ in range(_TRIES):
            if (handle := self._taken()) is not None:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
                self._handle = handle
                return
        raise RunError(f"{self.path} cannot be made, or is taken away again and again; give another --run-dir")

    def _taken(self) -> int | None:
        """A handle that holds the lock; None where a run that was refused has just taken file or folder away."""
        with store.disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 64).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise RunError(
                f"{self.path.parent} is locked by process {holder}, which is working on this run; "
                "wait for it, end it, or give another --run-dir"
            ) from None
        if os.fstat(handle).st_nlink:  # nobody has unlinked it between the opening and the lock
            return handle
        os.close(handle)
        return None

    def discard(self, folders: Sequence[Path]) -> None:
        """Give the lock back and take it away, with those of `folders` (inner ones first) that are empty then.

        Without effect where the lock is not held.
        """
        if self._handle is None:
            return
        self.path.unlink(missing_ok=True)
        self.release()
        for folder in folders:
            try:
                folder.rmdir()
            except OSError:  # it has something in it, which another process may just have put there
                return

    def release(self) -> None:
        """Give the lock back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
