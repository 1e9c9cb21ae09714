"""`flywheel check` at the command line: its table, its inputs, its mistakes, and being ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.cli import main
from tests.broken_verifiers import BROKEN


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("broken") / "broken.py"
    file.write_text(BROKEN)
    return str(file)


def test_the_command_prints_a_table(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "exact", "--option", "ignore_case=true"]) == 0
    said = capsys.readouterr().out
    assert "the reference answer is CORRECT" in said and said.count("held") == 8 and "exact holds" in said
    assert main(["check", f"{broken}:Raises"]) == 1
    said = capsys.readouterr().out
    assert "violated" in said and "UnicodeEncodeError" in said and "breaks 1 of 8 invariants" in said


def test_the_command_takes_a_recipe_with_its_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(12)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f"""
name = "mine"
[problems]
source = "file"
path = {json.dumps(str(tmp_path / "problems.jsonl"))}
template_share = 1.0
dev = 2
test = 2
[verify]
verifier = "exact"
options = {{ pattern = "#### (.+)" }}
"""
    )
    assert main(["check", str(recipe)]) == 0
    assert "12 of 12 problems" in capsys.readouterr().out


def test_the_command_takes_a_file_of_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"answer": "a"}\n{"answer": "b"}\n')
    assert main(["check", "exact", "--problems", str(problems)]) == 0
    assert "2 of 2 problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mth"], "'mth' is neither a verifier nor a recipe; verifiers: "),
        (["nowhere.py:Name"], "there is no file"),
        (["exact", "--problems", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["exact", "--option", "patern=x"], "did you mean 'pattern'?"),
        (["trl"], "needs the option 'function'"),
        (["exact", "--seconds", "0"], "--seconds 0: it is above 0"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_terminated_check_leaves_no_folder_and_no_process(tmp_path: Path) -> None:
    plugin, scratch = tmp_path / "slow.py", tmp_path / "scratch"
    scratch.mkdir()
    plugin.write_text(
        "import pathlib, time\n\nclass Slow:\n    def verify(self, problem, completion):\n"
        f"        pathlib.Path({str(tmp_path / 'judging')!r}).touch()\n        time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "flywheel.cli", "check", f"{plugin}:Slow", "--deadline", "60"]
    told = tmp_path / "stderr"
    with told.open("wb") as stderr:
        process = subprocess.Popen(
            command, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL, stderr=stderr
        )
    deadline = time.monotonic() + 60
    while not (tmp_path / "judging").exists():
        assert process.poll() is None and time.monotonic() < deadline, told.read_text()
        time.sleep(0.05)
    assert list(scratch.glob("flywheel-check-*"))
    process.terminate()
    assert process.wait(30) == 130, told.read_text()
    assert list(scratch.iterdir()) == []
    ends = time.monotonic() + 20
    while [p for p in Path("/proc").glob("[0-9]*/environ") if str(scratch).encode() in read_bytes(p)]:
        assert time.monotonic() < ends
        time.sleep(0.05)


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
