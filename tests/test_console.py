"""The console: readable at 100 columns, silent to broken pipes, free of control codes outside a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flywheel import console
from flywheel.console import Console, table_lines
from flywheel.figures import duration, share, short

ROW: dict[str, Any] = {
    "generation": 1,
    "round": 0,
    "status": "accepted",
    "champion": True,
    "sampled": 1536,
    "correct": 1021,
    "distinct_paths": 843,
    "kept": 611,
    "pass_1": 0.241,
    "pass_1_low": 0.198,
    "pass_1_high": 0.286,
    "pass_k": 1.0,
    "k": 8,
    "tokens": 1_311_000,
    "seconds": 298.4,
}
BASE = ROW | {"generation": 0, "status": "base", "champion": False, "sampled": None, "correct": None, "kept": None}


def feed(view: Console) -> None:
    """A short run, as the loop tells it."""
    view.stage("evaluate", None, "start", {})
    view.progress("base · evaluate generation 0 on dev", 0, 800, "samples")
    view.progress("base · evaluate generation 0 on dev", 800, 800, "samples")
    view.stage("evaluate", None, "done", {"samples": 800, "tokens": 45_200, "pass_at": {"1": 0.1}})
    view.row(BASE)
    view.stage("train", 0, "start", {})
    view.progress("round 0 · train", 3, 10, "steps")
    view.message("reasons look like [+.010, +.075]")
    view.stage("train", 0, "done", {"rows": 611})
    view.row(ROW)


def test_plain_lines_outside_a_terminal() -> None:
    out = io.StringIO()
    with Console(out) as view:
        feed(view)
    text = out.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    assert text.splitlines() == [
        "evaluate: start",
        "evaluate: done (samples 800, tokens 45,200)",
        "gen  status      sampled  correct   paths    kept         dev pass@1    pass@8   tokens     time",
        "  0  base              –        –     843       –  .241 [.198, .286]      1.00    1.31M    4m58s",
        "round 0 · train: start",
        "reasons look like [+.010, +.075]",
        "round 0 · train: done (rows 611)",
        "  1  accepted      1,536    1,021     843     611  .241 [.198, .286]      1.00    1.31M    4m58s",
    ]


def test_progress_lines_are_rare_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    with Console(out) as view:
        for second in range(100):
            clock[0] = float(second)
            view.progress("round 0 · sample", second, 100, "samples")
    assert out.getvalue().splitlines() == [f"round 0 · sample: {n} of 100 samples ({n}%)" for n in (30, 60, 90)]


def test_a_reader_that_has_gone_does_not_end_the_run(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; sys.path.insert(0, sys.argv[1]); import test_console as t\n"
        "with t.Console() as view:\n"
        "    for _ in range(50): t.feed(view); time.sleep(0.01)\n"
        "pathlib.Path(sys.argv[2]).write_text('went on')"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "end")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (0, b"")
    assert (tmp_path / "end").read_text() == "went on"


@pytest.mark.parametrize("width", [100, 80])
def test_a_terminal_shows_rows_that_stay_and_bars_that_go(width: int) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_console as t\nwith t.Console() as view: t.feed(view)"
    )
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(width), "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent)], stdout=child, stderr=child, env=environment
    )
    os.close(child)
    seen = b""
    while True:
        select.select([parent], [], [], 30)
        try:
            chunk = os.read(parent, 65536)
        except OSError:  # Linux says EIO when the other side has closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(parent)
    assert process.wait(timeout=30) == 0, seen
    text = seen.decode()
    assert "\x1b[" in text
    assert "reasons look like [+.010, +.075]" in text
    assert "accepted" in text
    assert text.rstrip().endswith("\x1b[?25h"), "the cursor must come back"


def test_the_table_fits_100_columns_and_marks_the_champion() -> None:
    lines = table_lines([BASE, ROW])
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if "*" in line] == [lines[2]]
    assert table_lines([]) == []


def test_figures() -> None:
    rates = [share(v) for v in (0.0, 0.2414, 0.9994, 0.9996, -0.02, None)]
    assert rates == [".000", ".241", ".999", "1.00", "-.020", "–"]
    assert [short(v) for v in (0, 999, 1000, 45_240, 999_949, 999_950, None)] == [
        "0", "999", "1.0k", "45.2k", "999.9k", "1.00M", "–",
    ]  # fmt: skip
    assert [short(v) for v in (20_549_000, 999_499_999, 999_500_000, 1_331_740_000)] == [
        "20.5M",
        "999M",
        "1.00G",
        "1.33G",
    ]
    assert [duration(v) for v in (0.4, 59.6, 298.4, 3599.7, 7620, None)] == [
        "0s",
        "1m00s",
        "4m58s",
        "1h00m",
        "2h07m",
        "–",
    ]
