"""Digests and seeds follow from content and position alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flywheel.fingerprint import canonical_json, derive_seed, digest, folder_digest


def test_equal_content_has_equal_digests_whatever_its_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan")])
def test_what_has_no_stable_text_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        canonical_json({"x": value})


def test_a_seed_is_the_same_in_every_process_and_differs_by_position():
    code = "from flywheel.fingerprint import derive_seed; print(derive_seed(1, 'plan', 2))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == derive_seed(1, "plan", 2)
    assert len({derive_seed(*p) for p in [(1, 23), (12, 3), ("1", 23), (1, 2, 3)]}) == 4
    assert 0 <= derive_seed("x") < 2**63


def test_a_folder_digest_sees_names_and_bytes(tmp_path):
    (tmp_path / "a").write_text("1")
    first = folder_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = folder_digest(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, folder_digest(tmp_path)}) == 3
