"""The lock of a run's folder."""

from __future__ import annotations

import os

import pytest

from flywheel.errors import RunError
from flywheel.lock import Lock


def test_one_process_at_a_time_holds_the_lock(tmp_path):
    held = Lock(tmp_path)
    held.acquire()
    with pytest.raises(RunError, match=f"locked by process {os.getpid()}"):
        Lock(tmp_path).acquire()
    held.release()
    again = Lock(tmp_path)
    again.acquire()
    again.release()


def test_a_discarded_lock_goes_with_the_folders_that_are_empty(tmp_path):
    inner, outer = tmp_path / "runs" / "mine", tmp_path / "runs"
    lock = Lock(inner)
    lock.acquire()
    (outer / "other").mkdir()
    lock.discard([inner, outer])
    assert [p.name for p in outer.iterdir()] == ["other"]
    lock.discard([outer])  # not held any more
    assert outer.is_dir()


def test_a_lock_that_is_discarded_between_opening_and_locking_is_made_anew(tmp_path, monkeypatch):
    first, second = Lock(tmp_path / "run"), Lock(tmp_path / "run")
    first.acquire()
    opened = os.open

    def as_the_first_one_goes(*arguments, **options):
        handle = opened(*arguments, **options)
        first.discard([tmp_path / "run"])
        return handle

    monkeypatch.setattr("flywheel.lock.os.open", as_the_first_one_goes)
    second.acquire()
    assert (tmp_path / "run" / "lock").read_text() == f"{os.getpid()}\n"
    with pytest.raises(RunError, match="locked"):
        Lock(tmp_path / "run").acquire()
    second.release()


def test_a_lock_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "nowhere" / "lock")
    with pytest.raises(RunError, match="cannot be made"):
        Lock(tmp_path).acquire()
