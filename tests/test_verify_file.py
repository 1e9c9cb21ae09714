"""`flywheel verify`: every row once, in order, or one line that says why not and nothing written."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import ProblemError
from flywheel.cli import main
from flywheel.recipe import VerifySection
from flywheel.verify_file import verify_file
from flywheel.verify_rows import ADDED, read_rows, standing_together, to_problem

OWN = """
import os, time

class Own:
    def verify(self, problem, completion):
        if completion == "hang": time.sleep(60)
        if completion == "die": os._exit(1)
        if completion == "sees":
            return {"score": 1.0, "answer": problem.prompt, "detail": ",".join(sorted(problem.meta))}
        return completion == problem.answer

class Vote:
    label_free = True
    def verify(self, problem, completion):
        return self.verify_group(problem, [completion])[0]
    def verify_group(self, problem, completions):
        total = len(completions)
        return [{"score": completions.count(c) / total, "detail": str(total)} for c in completions]
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".part")]


def test_rows_keep_their_order_and_columns(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = {"é": [1, None, {"x": 0.5}], "nul": "\x00", "lone": "\ud800"}
    rows = [{"completion": str(i % 3), "answer": str(i % 2), "i": i, **odd} for i in range(300)]
    out = tmp_path / "out.jsonl"
    assert main(["verify", f"{own}:Own", str(write(tmp_path / "in.jsonl", rows)), "--out", str(out)]) == 0
    found = read(out)
    assert [{k: v for k, v in row.items() if k not in ADDED} for row in found] == rows
    assert all(list(row)[-6:] == list(ADDED) for row in found)
    assert [row["outcome"] for row in found] == ["correct" if i % 3 == i % 2 else "wrong" for i in range(300)]
    assert all(row["isolation"] == "worker" and row["seconds"] >= 0 for row in found)
    said = capsys.readouterr()
    assert "correct          100   33.3%" in said.out and "rows             300" in said.out and "rows/s" in said.out
    assert leftovers(tmp_path) == []


def test_what_a_verifier_needs_reaches_it(own: str, tmp_path: Path) -> None:
    row = {
        "completion": "sees",
        "prompt": "def f():",
        "entry_point": "f",
        "test": "assert f()",
        "id": 7,
        "outcome": "old",
    }
    out = tmp_path / "out.jsonl"
    tally = verify_file(VerifySection(verifier=f"{own}:Own"), str(write(tmp_path / "in.jsonl", [row])), str(out))
    (found,) = read(out)
    assert (found["extracted"], found["detail"]) == ("def f():", "entry_point,id,test")
    assert found["outcome"] == "correct" and found["id"] == 7
    assert tally.replaced == {"outcome"} and "outcome were replaced" in tally.lines()[-1]


def test_a_row_that_hangs_or_dies_costs_itself(own: str, tmp_path: Path) -> None:
    rows = [{"completion": c, "answer": "x"} for c in ("x", "hang", "x", "die", "y")]
    out = tmp_path / "out.jsonl"
    command = ["verify", f"{own}:Own", str(write(tmp_path / "in.jsonl", rows)), "--out", str(out), "--deadline", "0.5"]
    assert main([*command, "--workers", "1"]) == 0
    found = read(out)
    assert [row["outcome"] for row in found] == ["correct", "timeout", "correct", "error", "wrong"]
    assert found[1]["seconds"] >= 0.5 > found[4]["seconds"]


def test_where_no_row_can_be_judged_the_exit_code_says_so(own: str, tmp_path: Path) -> None:
    for completions, code in (("die", "die"), 1), (("die", "x"), 0):
        source = write(tmp_path / "in.jsonl", [{"completion": c, "answer": "x"} for c in completions])
        assert (
            main(["verify", f"{own}:Own", str(source), "--out", str(tmp_path / "out.jsonl"), "--workers", "1"]) == code
        )
        assert len(read(tmp_path / "out.jsonl")) == len(completions), "they are written all the same"


def test_options_are_the_verifiers(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"completion": "YES", "answer": "yes"}, {"completion": "3", "answer": 3}])
    out = tmp_path / "out.jsonl"
    assert main(["verify", "exact", str(source), "--out", str(out), "--option", "ignore_case=true"]) == 0
    assert [row["outcome"] for row in read(out)] == ["correct", "correct"]


BAD = [
    (b'{"completion": "x"}\n{"completion": 3}\n', "line 2: 'completion' is a number; it must be a text"),
    (b'{"completion": "x"}\n\n{"answer": "x"}\n', "line 3 lacks the column 'completion'; it has answer"),
    (b'{"completion": "x"\n', "line 1 is not JSON"),
    (b'["x"]\n', "line 1 holds a list; every row must be a JSON object"),
    (b'{"completion": "x"}\n\xff\xfe\n', "line 2 is not UTF-8 text"),
    (b"[" * 100_000 + b"\n", "line 1 is not JSON that can be read"),
    (b'{"completion": "x", "n": ' + b"9" * 5000 + b"}\n", "line 1 is not JSON that can be read"),
    (b'{"completion": "x", "prompt": 3}\n', "line 1: 'prompt' is a number; it must be a text"),
    (b'{"completion": "x", "messages": [{"role": "user"}]}\n', "line 1: 'messages' must be a list of objects"),
    (b"\n\n", "has no rows"),
    (b"", "has no rows"),
]


@pytest.mark.parametrize(("content", "says"), BAD)
def test_a_bad_row_is_one_line_and_nothing_is_written(
    content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(content)
    out.write_text("kept\n")
    assert main(["verify", "exact", str(source), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert says in said.err and said.err.count("\n") == 1 and said.out == ""
    assert out.read_text() == "kept\n" and leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "mth", "{in}", "--out", "{out}"], "unknown verifier 'mth'"),
        (["verify", "exact", "nowhere.jsonl", "--out", "{out}"], "nowhere.jsonl cannot be read: No such file"),
        (["verify", "exact", "{in}", "--out", "{in}"], "is the input itself"),
        (["verify", "exact", "{in}", "--out", "{tmp}/link"], "is the input itself"),
        (["verify", "exact", "{in}", "--out", "{tmp}"], "is a folder"),
        (["verify", "exact", "{in}", "--out", "{tmp}/no/out"], "there is no folder"),
        (["verify", "exact", "{in}", "--out", "{out}", "--option", "patern=x"], "did you mean 'pattern'?"),
        (["verify", "exact", "{in}", "--out", "{out}", "--option", "pattern"], "not of the form name=value"),
        (["verify", "exact", "{in}", "--out", "{out}", "--workers", "0"], "--workers: '0' is no whole number"),
        (["verify", "exact", "{in}", "--out", "{out}", "--deadline", "-1"], "--deadline -1.0"),
        (["verify", "exact", "{tmp}", "--out", "{out}"], "cannot be read: Is a directory"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.jsonl", [{"completion": "x", "answer": "x"}])
    (tmp_path / "link").symlink_to(source)
    places = {"in": str(source), "out": str(tmp_path / "out.jsonl"), "tmp": str(tmp_path)}
    try:
        code: object = main([a.format(**places) for a in arguments])
    except SystemExit as leaving:  # the parser's own way out
        code = leaving.code
    assert code == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and said.startswith("flywheel: ")
    assert read(source) == [{"completion": "x", "answer": "x"}]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b'{"completion": "x"}', b'{"completion": ""}', b"null"]), max_size=6
    )
)
def test_any_bytes_are_rows_or_a_problem_with_its_line(chunks: list[bytes]) -> None:
    lines = [c.replace(b"\n", b" ") for c in chunks]
    try:
        rows = list(read_rows(io.BytesIO(b"\n".join(lines)), "f"))
    except ProblemError as error:
        number = int(str(error).removeprefix("f line ").partition(":")[0].partition(" ")[0])
        assert lines[number - 1].strip()
    else:
        assert len(rows) == sum(bool(line.strip()) for line in lines)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["answer", "id", "meta", "verifier", "x", "score"]), json_values), st.text())
def test_any_row_makes_a_problem(row: dict[str, Any], completion: str) -> None:
    line = json.dumps({**row, "completion": completion}).encode()
    (read_back,) = read_rows(io.BytesIO(line), "f")
    problem = to_problem(read_back, "p")
    assert isinstance(problem.answer, str) and problem.verifier == "" and problem.id == "p"
    assert problem.meta == {k: v for k, v in row.items() if k not in ("answer", "score")}


def test_a_groups_rows_are_judged_together_and_must_stand_together(own: str, tmp_path: Path) -> None:
    rows = [{"completion": c, "problem_id": p} for p, said in (("a", "xxy" * 40), ("b", "xz")) for c in said]
    out = tmp_path / "out.jsonl"
    section = VerifySection(verifier=f"{own}:Vote")
    verify_file(section, str(write(tmp_path / "in.jsonl", rows)), str(out))
    found = read(out)
    assert {(r["problem_id"], r["completion"]): round(r["score"], 3) for r in found} == {
        ("a", "x"): 0.667,
        ("a", "y"): 0.333,
        ("b", "x"): 0.5,
        ("b", "z"): 0.5,
    }
    assert {r["detail"] for r in found} == {"120", "2"}
    with pytest.raises(ProblemError, match="do not stand together"):
        verify_file(section, str(write(tmp_path / "in.jsonl", [rows[0], rows[-1], rows[1]])), str(out))
    assert read(out) == found
    assert len(list(standing_together(iter([{"prompt": "p"}, {"prompt": "p"}, {"prompt": "q"}])))) == 3


def flywheel(*arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flywheel.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


def test_standard_input_and_output(tmp_path: Path) -> None:
    process = flywheel("verify", "exact", "-", "--out", "-", stdin=subprocess.PIPE)
    out, err = process.communicate(b'{"completion": "x", "answer": "x"}\n{"completion": "y", "answer": "x"}\n', 60)
    assert process.returncode == 0, err
    assert [json.loads(line)["outcome"] for line in out.splitlines()] == ["correct", "wrong"]
    assert b"rows/s" in err
    process = flywheel("verify", "exact", "-", "--out", "-", stdin=subprocess.PIPE)
    out, err = process.communicate(b'{"completion": "x", "answer": "x"}\n{]\n', 60)
    assert (process.returncode, out) == (2, b"") and b"standard input line 2 is not JSON" in err


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_half_file_and_no_process(own: str, tmp_path: Path, how: signal.Signals) -> None:
    rows = [{"completion": "x", "answer": "x"}] * 100 + [{"completion": "hang", "answer": "x"}] * 20
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    out.write_text("kept\n")
    process = flywheel("verify", f"{own}:Own", str(source), "--out", str(out), "--deadline", "60")
    try:
        ends = time.monotonic() + 60
        while not leftovers(tmp_path) and time.monotonic() < ends:
            time.sleep(0.02)
        assert leftovers(tmp_path)
        started = [p for child in children_of(process.pid) for p in (child, *children_of(child))]
        process.send_signal(how)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert err.decode().strip().endswith("stopped; nothing was written")
    assert out.read_text() == "kept\n" and leftovers(tmp_path) == []
    ends = time.monotonic() + 10
    while any(map(alive, started)) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not any(map(alive, started))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Rows are objects of a few kilobytes here; were all of them kept, there would be 4,000 more at the end."""
    row = {"completion": "x", "answer": "x", "padding": ["p" * 10] * 100}
    source = write(tmp_path / "in.jsonl", [row] * 4000)
    most = 0

    def watch(done: int, total: int) -> None:
        nonlocal most
        if done % 1000 == 0:
            most = max(most, sum(1 for o in gc.get_objects() if type(o) is dict and "padding" in o))

    verify_file(VerifySection(verifier="exact", workers=1), str(source), str(tmp_path / "out.jsonl"), watch)
    assert 0 < most < 1500
    assert len(read(tmp_path / "out.jsonl")) == 4000


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"completion": "x", "answer": "x"}])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        text = thread.submit(pipe.read_text)
        verify_file(VerifySection(verifier="exact"), str(source), str(pipe))
        assert json.loads(text.result(30))["outcome"] == "correct"
    assert pipe.is_fifo() and leftovers(tmp_path) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"completion": "x", "answer": "x"}])
    (tmp_path / "real.jsonl").write_text("old\n")
    (tmp_path / "out.jsonl").symlink_to("real.jsonl")
    verify_file(VerifySection(verifier="exact"), str(source), str(tmp_path / "out.jsonl"))
    assert (tmp_path / "out.jsonl").is_symlink()
    assert read(tmp_path / "real.jsonl")[0]["outcome"] == "correct"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"completion": "x", "answer": "x"}])
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "flywheel.cli", "verify", "exact", str(source), "--out", "-"]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert process.returncode == 2 and b"cannot write -: No space left" in process.stderr
