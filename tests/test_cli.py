"""The command line: what it prints, its exit codes, and one line for every mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.cli import main
from flywheel.recipe import load_recipe

SMALL = [
    part
    for setting in ("problems.count=40", "problems.dev=8", "problems.test=8", "verify.workers=1", "stop.max_rounds=1")
    for part in ("--set", setting)
]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def flywheel(*arguments: str) -> int:
    return main(list(arguments))


def run_toy(*more: str) -> int:
    return flywheel("run", "toy", *SMALL, "--no-prefect", *more)


def test_a_run_from_start_to_report(capsys):
    assert run_toy() == 0
    shown = capsys.readouterr().out
    assert "champion generation 1" in shown
    assert "test pass@1" in shown and "on 8 untouched problems" in shown
    assert "model    runs/toy/rounds/000/model" in shown
    assert "report   runs/toy/report.html" in shown
    assert Path("runs/toy/report.html").is_file()
    assert "\x1b" not in shown  # not a terminal

    assert run_toy() == 0  # a second time: nothing is done again
    assert "champion generation 1" in capsys.readouterr().out
    assert flywheel("run", "runs/toy", "--no-prefect") == 0  # by its folder
    capsys.readouterr()

    assert flywheel("status", "runs/toy") == 0
    assert "ended: all 1 rounds are done" in capsys.readouterr().out
    assert flywheel("status", "runs/toy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["champion"] == 1
    assert flywheel("report", "runs/toy") == 0
    capsys.readouterr()

    sample = "r000/chain_sum-00000/000"
    ids = [p["id"] for p in json.loads(json.dumps(_samples("runs/toy/rounds/000/samples.parquet")))]
    assert flywheel("trace", "runs/toy", ids[0]) == 0
    assert "verdict     " in capsys.readouterr().out
    assert flywheel("trace", "runs/toy", sample + "x") == 2

    assert flywheel("redo", "filter", "runs/toy", "--round", "0", "--set", "filter.cap=1") == 0
    assert "forgot filter of round 0" in capsys.readouterr().out
    assert flywheel("run", "runs/toy", "--no-prefect") == 0


def _samples(path):
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def one_line(capsys, *arguments: str) -> str:
    assert flywheel(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("flywheel: ")
    assert "Traceback" not in captured.out + captured.err
    return captured.err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.epoch=1", "did you mean 'epochs'"),
        ("sampling.k=0", "sampling.k = 0"),
        ("verify.verifier=mth", "unknown verifier 'mth'; known:"),
        ("verify.verifier=nowhere.py:X", "nowhere.py"),
        ("verify.verifier=flywheel.nothing:X", "flywheel.nothing"),
        ("policy.name=vlm", "toy policy and the toy trainer only work together"),
        ("problems.name=chain_sums", "chain_sums"),
        ("problems.dev=5000", "problems"),
        ("model.base=/nowhere/model", "/nowhere/model"),
        ("model.base=no/such-model", "no/such-model"),
    ],
)
def test_mistakes_in_a_recipe(capsys, setting, words):
    assert words in one_line(capsys, "run", "toy", "--no-prefect", "--set", setting)


def test_an_unknown_policy(capsys):
    line = one_line(capsys, "run", "demo", "--no-prefect", "--set", "policy.name=vlm", "--set", "model.base=toy")
    assert "unknown policy 'vlm'" in line
    assert list(Path().iterdir()) == []  # told before the run begins, so that the same folder takes the right name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "problems.jsonl"),
        ("", "problems.jsonl"),
        ('{"prompt": "1 + 1 =", "answer": "2"}\n{"prompt": \n', "line 2"),
        ('{"prompt": "1 + 1 ="}\n', "answer"),
        ('{"prompt": "1 + 1 =", "answer": ""}\n', "answer"),
        ('{"id": "a", "prompt": "1 + 1 =", "answer": "2"}\n{"id": "a", "prompt": "1 + 2 =", "answer": "3"}\n', "'a'"),
        ('{"prompt": "1 + 1 =", "answer": "2"}\n', "dev"),
    ],
)
def test_mistakes_in_a_problem_file(capsys, content, words):
    if content is not None:
        Path("problems.jsonl").write_text(content)
    settings = ["problems.source=file", "problems.path=problems.jsonl", "problems.count=none"]
    line = one_line(capsys, "run", "toy", "--no-prefect", *[p for s in settings for p in ("--set", s)])
    assert words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: COMMAND; see flywheel --help"),
        (["rnu"], "invalid choice: 'rnu'"),
        (["verify", "math", "x.jsonl"], "the following arguments are required: --out; see flywheel verify --help"),
        (["run", "toy", "--rounds", "none"], "--rounds: 'none' is no whole number from 1 up; see flywheel run --help"),
        (["run", "toy", "--rounds", "0"], "--rounds: '0' is no whole number from 1 up"),
        (["plan", "toy", "--problems", "many"], "--problems: 'many' is no whole number from 1 up"),
        (["plan", "toy", "--right", "half"], "--right: 'half' is no share from 0 to 1"),
        (["plan", "toy", "--length", "nan"], "--length: 'nan' is no share from 0 to 1"),
    ],
)
def test_mistakes_on_the_command_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and words in said and said.startswith("flywheel: ") and said.count("\n") == 1


def test_mistakes_with_runs(capsys):
    assert "no recipe 'dmo'" in one_line(capsys, "run", "dmo", "--no-prefect")
    assert "is not a run" in one_line(capsys, "status", "nowhere")
    assert "is not a run" in one_line(capsys, "trace", "nowhere", "x")
    assert run_toy() == 0
    capsys.readouterr()
    assert "sampling.k (4 → 2)" in one_line(capsys, "run", "toy", *SMALL, "--no-prefect", "--set", "sampling.k=2")
    assert "has not been done" in one_line(capsys, "redo", "train", "runs/toy", "--round", "9")
    assert "give --round N" in one_line(capsys, "redo", "train", "runs/toy")


def test_a_refused_run_leaves_nothing(capsys):
    one_line(capsys, "run", "toy", "--no-prefect", "--set", "verify.verifier=mth")
    assert list(Path().iterdir()) == []
    Path("mine").mkdir()
    one_line(capsys, "run", "toy", "--no-prefect", "--set", "problems.dev=5000", "--run-dir", "mine")
    assert Path("mine").is_dir() and list(Path("mine").iterdir()) == []


def test_a_run_is_a_recipe_by_its_folder(capsys):
    assert run_toy("--rounds", "1") == 0
    capsys.readouterr()
    assert flywheel("show", "runs/toy", "--set", "filter.by=none") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["problems"]["count"] == 40 and shown["filter"]["by"] == "none"
    assert flywheel("plan", "runs/toy", "--device", "t4") == 0
    assert "runs/toy is a run itself" in one_line(capsys, "controls", "toy", "--run-dir", "runs/toy")
    assert "say with --run-dir" in one_line(capsys, "submit", "runs/toy")
    Path("runs/toy/recipe.json").write_text("{")
    assert "runs/toy/recipe.json is not the recipe of a run" in one_line(capsys, "show", "runs/toy")


def test_a_verifier_that_cannot_be_made_is_one_line(capsys):
    Path("mine.py").write_text(
        "class Mine:\n    def __init__(self):\n        raise RuntimeError('no\\nserver')\n"
        "    def verify(self, problem, completion):\n        return True\n"
    )
    line = one_line(capsys, "run", "toy", "--no-prefect", "--set", "verify.verifier=mine.py:Mine")
    assert "verifier 'mine.py:Mine' raised RuntimeError: no server (" in line and "mine.py line 3)" in line
    assert "pattern '((' is no regular expression" in one_line(capsys, "check", "exact", "--option", "pattern=((")


def test_a_command_about_nothing_is_refused(capsys):
    assert "nowhere is not a run's folder" in one_line(capsys, "doctor", "nowhere")
    assert "names no control; known: no_verifier" in one_line(capsys, "controls", "toy", "--arms", ",")


def test_unwritable_places(capsys):
    assert "/proc/run" in one_line(capsys, "run", "toy", *SMALL, "--no-prefect", "--run-dir", "/proc/run")
    assert "cannot make /proc/run: No such file" in one_line(capsys, "run", "toy", "--run-dir", "/proc/run/it")


def test_places_that_cannot_be_read(capsys, monkeypatch):
    def refused(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    Path("mine.toml").write_text("")
    with monkeypatch.context() as closed:
        closed.setattr(Path, "read_text", refused)
        assert "recipe file mine.toml cannot be read: Permission denied" in one_line(capsys, "show", "mine.toml")
    monkeypatch.setattr(Path, "exists", refused)
    assert "mine/run.json: Permission denied; give a place where you may" in one_line(capsys, "status", "mine")


def test_recipes_show_and_init(capsys):
    assert flywheel("recipes") == 0
    assert "demo" in capsys.readouterr().out
    assert flywheel("show", "toy", "--set", "sampling.k=3") == 0
    assert json.loads(capsys.readouterr().out)["sampling"]["k"] == 3
    assert flywheel("init") == 0
    assert load_recipe("recipe.toml")
    assert "is there already" in one_line(capsys, "init")
    assert "is not a folder" in one_line(capsys, "init", "nowhere/recipe.toml")


def test_an_interrupt_leaves_nothing_and_the_same_command_goes_on(tmp_path):
    command = [sys.executable, "-m", "flywheel.cli", "run", "toy", *SMALL, "--no-prefect", "--run-dir", "run"]
    slow = [*command, "--set", "policy.toy.delay_seconds=0.05"]
    process = subprocess.Popen(slow, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run").glob("base/dev_samples.parts/0*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on" in errors and "Traceback" not in errors
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "champion generation 1" in done.stdout
