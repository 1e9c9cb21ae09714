"""`flywheel new-verifier` writes a package that installs, passes its own tests, and holds the invariants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.cli import main


def test_the_package_installs_and_passes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    assert main(["new-verifier", "last_line", "--dir", str(source)]) == 0
    written = sorted(str(p.relative_to(source)) for p in source.rglob("*") if p.is_file())
    package = ["README.md", "pyproject.toml", "src/flywheel_last_line/__init__.py", "tests/test_last_line.py"]
    assert written == package
    assert not [p for p in written if "<" in (source / p).read_text().replace("(<", "")]
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(source / "tests"),
        "--rootdir",
        str(source),
    ]
    ran = subprocess.run(tests, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0 and "8 passed" in ran.stdout, ran.stdout + ran.stderr
    check = [sys.executable, "-m", "flywheel.cli", "check", "last_line"]
    ran = subprocess.run(check, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0 and "4 of 4 problems" in ran.stdout and "last_line holds" in ran.stdout, ran.stderr


@pytest.mark.parametrize("name", ["Mine", "my-own", "3rd", "a b", "", "x" * 41, "class", "../x", "mine_", "é"])
def test_bad_names_are_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    assert main(["new-verifier", name, "--dir", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "is no name for a verifier" in said and said.count("\n") == 1 and not folder.exists()


def test_taken_names_and_folders_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-verifier", "math", "--dir", str(tmp_path / "new")]) == 2
    assert "there is a verifier 'math' already" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    assert main(["new-verifier", "mine", "--dir", str(tmp_path / "there")]) == 2
    assert "is there already" in capsys.readouterr().err and list((tmp_path / "there").iterdir()) == []
    (tmp_path / "file").write_text("x")
    assert main(["new-verifier", "mine", "--dir", str(tmp_path / "file" / "below")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
