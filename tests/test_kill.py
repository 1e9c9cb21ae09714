"""A run killed with SIGKILL again and again ends complete, with nothing doubled, lost, or left running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "kill.py"


@pytest.mark.slow
def test_ten_kills_at_random_moments():
    small = ["problems.count=50", "problems.dev=10", "problems.test=10", "verify.workers=1", "stop.max_rounds=3"]
    command = [sys.executable, str(SCRIPT), *(part for setting in small for part in ("--set", setting))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 kills" in done.stdout and ", 0 things wrong" in done.stdout
    assert done.stdout.count("all processes gone") >= 6
