"""docs/verifiers.md says only what is so: its verifier holds, commands print what it shows, its recipes validate."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flywheel.cli import main
from flywheel.plugins import known_verifiers
from flywheel.recipe import validate
from flywheel.verifiers.adapters import reasoning_gym

PAGE = (Path(__file__).resolve().parents[1] / "docs/verifiers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, by the name in their first line, and its rows."""
    for block in blocks("python"):
        (tmp_path / block.partition("\n")[0].removeprefix("# ")).write_text(block)
    rows, _ = blocks("json")
    (tmp_path / "completions.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_times(text: str) -> str:
    lines = (re.sub(r"in [\d.]+ s, [\d,]+ rows/s", "in T", line).rstrip() for line in text.splitlines())
    return "\n".join(lines)


@pytest.mark.usefixtures("folder")
def test_each_command_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^flywheel .+$", PAGE, re.MULTILINE)
    assert len(commands) == len(blocks("text")) == 3
    for command, shown in zip(commands, blocks("text"), strict=True):
        assert main(shlex.split(command)[1:]) == 0
        assert without_times(capsys.readouterr().out) == without_times(shown)
    _, shown = blocks("json")
    first = json.loads(Path("verdicts.jsonl").read_text().splitlines()[0])
    assert first | {"seconds": 0} == json.loads(shown) | {"seconds": 0}


def test_its_programs_run(folder: Path) -> None:
    ran = subprocess.run([sys.executable, "train_grpo.py"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.returncode) == ("[1.0, 0.0]", 0), ran.stderr
    test = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        "test_last_line.py",
    ]
    ran = subprocess.run(test, cwd=folder, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout


def test_its_recipes_validate() -> None:
    recipes = [tomllib.loads(block) for block in blocks("toml")]
    assert {r["verify"]["verifier"] for r in recipes} - {"last_line.py:LastLine"} <= set(known_verifiers())
    for recipe in recipes:
        validate(recipe)


def test_it_lists_the_tasks_that_execute_text() -> None:
    for task in reasoning_gym.LITERALS | reasoning_gym.EXPRESSIONS | set(reasoning_gym.BROKEN):
        assert task in PAGE
