"""The manifest says what is done: only that whose files are all there."""

from __future__ import annotations

from flywheel import store
from flywheel.manifest import Entry, Manifest, describe
from flywheel.types import Example


def test_the_manifest_forgets_what_lost_its_files(tmp_path):
    manifest = Manifest(tmp_path)
    store.write_rows(tmp_path / "examples.parquet", Example, [])
    entry = Entry("k", {}, {"examples.parquet": describe(tmp_path / "examples.parquet")}, {"n": 1})
    manifest.record("filter", entry)
    assert manifest.get("filter") == entry
    (tmp_path / "examples.parquet").unlink()
    assert manifest.get("filter") is None


def test_forgetting_a_stage_deletes_its_files(tmp_path):
    manifest = Manifest(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    manifest.record("train", Entry("k", {}, {"model": {}}))
    manifest.forget(["train", "gate"])
    assert manifest.entries() == {}
    assert not (tmp_path / "model").exists()
