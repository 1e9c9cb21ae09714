"""Policies for plug-ins: opened by name, refused in words, and models known by their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import flywheel
from flywheel import (
    EndpointError,
    ModelError,
    PluginError,
    Request,
    model_folder,
    model_identity,
    model_lack,
    open_policy,
)
from flywheel.policy.toy import ToyPolicy


def test_a_policy_by_name() -> None:
    policy = open_policy("toy", engine="toy")
    assert isinstance(policy, ToyPolicy)
    request = Request("r", [{"role": "user", "content": "2 + 3 ="}], (0, 1), 1.0, 50)
    ((first, second),) = policy.generate([request])
    assert "answer is" in first.text and second.index == 1
    policy.close()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PluginError, match="retries"):
        open_policy("m", endpoint="http://127.0.0.1:9/v1", options={"retries": "many"})
    with pytest.raises(PluginError, match="batch"):
        open_policy("m", engine="transformers", options={"batch": 3})
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9"):
        open_policy("m", endpoint="http://127.0.0.1:9/v1", options={"retries": 0})
    with pytest.raises(ModelError):
        open_policy("/no/such/folder", engine="transformers")
    with pytest.raises(PluginError, match="unknown policy 'vlm'"):
        open_policy("toy", engine="vlm")


def test_a_model_is_known_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights").write_bytes(b"1" * 100)
    assert model_folder(str(folder)) == folder
    assert model_lack(str(folder)) is None and "no folder" in str(model_lack(str(tmp_path / "none")))
    first = model_identity(str(folder))
    with monkeypatch.context() as patched:
        patched.setattr("flywheel.policy.own.model_digest", lambda _: pytest.fail("nothing has changed"))
        assert model_identity(str(folder)) == first
    (folder / "weights").write_bytes(b"2" * 100)
    os.utime(folder / "weights", ns=(1, 1))
    assert model_identity(str(folder)) != first
    assert flywheel.model_identity is model_identity
