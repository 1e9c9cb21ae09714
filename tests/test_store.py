"""Files of a run: rows come back as they went in, nothing is ever half there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel import store
from flywheel.errors import RunError
from flywheel.types import Dropped, Problem, Sample, Verdict

_text = st.text(max_size=20)
_rows = {
    Problem: st.builds(
        Problem, id=_text, prompt=_text, answer=_text, solution=st.none() | _text,
        messages=st.none() | st.lists(st.fixed_dictionaries({"role": _text, "content": _text}), max_size=2),
        meta=st.dictionaries(_text, st.integers() | _text, max_size=2),
    ),
    Sample: st.builds(
        Sample, id=_text, problem_id=_text, round=st.integers(0, 9), generation=st.integers(0, 9),
        index=st.integers(0, 9), completion=_text,
        finish_reason=_text, tokens=st.integers(0, 9), temperature=st.floats(0, 2), variant=_text,
        origin=_text, logprob=st.none() | st.floats(-9, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row_type", _rows)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(data=st.data())
def test_rows_come_back_as_they_went_in(row_type, tmp_path, data):
    rows = data.draw(st.lists(_rows[row_type], max_size=4))
    store.write_rows(tmp_path / "rows.parquet", row_type, rows)
    assert store.read_rows(tmp_path / "rows.parquet", row_type) == rows


def test_lone_surrogates_and_nul_do_not_break_a_file(tmp_path):
    row = Dropped("a\ud800b", "p\x00", 0, "wrong")
    store.write_rows(tmp_path / "rows.parquet", Dropped, [row])
    assert store.read_rows(tmp_path / "rows.parquet", Dropped) == [Dropped("a\ufffdb", "p\x00", 0, "wrong")]


def test_the_same_rows_are_the_same_bytes(tmp_path):
    rows = [Verdict(f"s{i}", "p", "correct", 1.0, "4", "", "exact", "1", "worker") for i in range(100)]
    for name in "ab":
        store.write_rows(tmp_path / name, Verdict, rows)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "x.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(path, {"a": object()})
    assert store.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot write")])
def test_a_full_or_forbidden_disk_is_one_line(tmp_path, code, words):
    with pytest.raises(RunError, match=words), store.replacing(tmp_path / "x"):
        raise OSError(code, os.strerror(code))


def test_a_really_full_device_is_one_line():
    with pytest.raises(RunError, match="no space left"), store.disk_errors(Path("/dev/full")):
        Path("/dev/full").write_text("x" * 100_000)


def test_parts_survive_and_those_of_another_key_do_not(tmp_path):
    parts = store.Parts(tmp_path / "rows.parts", Dropped, "key 1")
    first, second = Dropped("a", "p", 0, "wrong"), Dropped("b", "p", 0, "wrong")
    parts.append([first])
    parts.append([])
    store.Parts(tmp_path / "rows.parts", Dropped, "key 1").append([second])
    assert store.Parts(tmp_path / "rows.parts", Dropped, "key 1").read() == [first, second]
    assert store.Parts(tmp_path / "rows.parts", Dropped, "key 2").read() == []


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "x.parquet").write_text("not parquet")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(RunError, match="x.parquet"):
        store.read_rows(tmp_path / "x.parquet", Sample)
    with pytest.raises(RunError, match="x.json"):
        store.read_json(tmp_path / "x.json")
