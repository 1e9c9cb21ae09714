"""Commands that are interrupted: exit code 130, wherever the interrupt struck."""

import subprocess
import sys

import pytest

from flywheel.__main__ import main

PROGRAM = """
import os, signal, sys, time
from flywheel.interrupts import interrupted, interrupts_by_any_signal
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts_by_any_signal()
STRIKE = "os.kill(os.getpid(), signal.{signal}); time.sleep(30)"
try:
    {how}
except KeyboardInterrupt:
    sys.exit(interrupted("stopped"))
"""


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    "how",
    [
        "os.kill(os.getpid(), signal.{signal}); time.sleep(30)",
        "exec(STRIKE)",  # CPython remembers this one, and would end with -2
    ],
)
def test_an_interrupted_command_ends_with_130_and_one_line(tmp_path, signal, how):
    (tmp_path / "program.py").write_text(PROGRAM.replace("{how}", how).replace("{signal}", signal))
    done = subprocess.run([sys.executable, "-m", "program"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, done.stdout) == (130, "stopped\n", "")


class Interrupted:
    """Finds nothing: an interrupt strikes while the command's modules are looked for."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "flywheel.cli":
            raise KeyboardInterrupt


def test_an_interrupt_while_the_command_still_loads_is_one_line(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "flywheel.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    assert main() == 130
    assert capsys.readouterr().err == "stopped; nothing was begun\n"
