"""`flywheel check` finds each kind of broken verifier, and passes the ones that are sound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flywheel import PluginError, Problem, ProblemError, check_verifier
from flywheel.cli import main
from flywheel.plugins import known_verifiers
from flywheel.recipe import VerifySection
from flywheel.verifiers import sandbox
from flywheel.verifiers.sandbox import SandboxError


def isolated() -> str | None:
    """The sandbox's level on this machine."""
    try:
        return str(sandbox.choose(sandbox.Level.LANDLOCK))
    except SandboxError:
        return None


BROKEN = """
import os, random, socket, subprocess, tempfile, threading
from dataclasses import dataclass
from pathlib import Path
from flywheel import Problem

class Sound:
    def verify(self, problem, completion):
        return completion.strip() == problem.answer if completion.strip() else None

class Strict(Sound):
    def verify(self, problem, completion):
        return completion == f"[[{problem.answer}]]"

class Told(Strict):
    def example(self, problem):
        return f"[[{problem.answer}]]"
    @classmethod
    def problems(cls):
        return [Problem(id=str(i), prompt="?", answer=str(i)) for i in range(4)]

class Lenient(Sound):
    def verify(self, problem, completion):
        return completion.strip().isdigit()

class TakesJunk(Sound):
    def verify(self, problem, completion):
        return super().verify(problem, completion) or "\\x00" in completion

class Raises(Sound):
    def verify(self, problem, completion):
        completion.encode()
        return super().verify(problem, completion)

class Moody(Sound):
    calls = 0
    def verify(self, problem, completion):
        Moody.calls += 1
        return {"score": float(super().verify(problem, completion) or False), "answer": str(Moody.calls)}

class Writes(Sound):
    def verify(self, problem, completion):
        Path(tempfile.gettempdir(), "note").write_text("x")
        return super().verify(problem, completion)

class WritesAtImport(Sound):
    def __init__(self):
        open(os.path.expanduser("~/note"), "a").close()

class Removes(Sound):
    def verify(self, problem, completion):
        try: os.remove("/nowhere/at/all")
        except OSError: pass
        return super().verify(problem, completion)

class Connects(Sound):
    def verify(self, problem, completion):
        with socket.socket() as s:
            s.settimeout(0.2)
            try: s.connect(("127.0.0.1", 9))
            except OSError: pass
        return super().verify(problem, completion)

class LooksUp(Sound):
    def verify(self, problem, completion):
        socket.getaddrinfo("127.0.0.1", 80)  # a name would take a while where there is no server to ask
        return super().verify(problem, completion)

class InAThread(Sound):
    def verify(self, problem, completion):
        thread = threading.Thread(target=lambda: open("/nowhere/x", "w"))
        threading.excepthook = lambda *_: None
        thread.start(); thread.join()
        return super().verify(problem, completion)

class Starts(Sound):
    def verify(self, problem, completion):
        subprocess.run(["true"])
        return super().verify(problem, completion)

class LeavesByProcess(Sound):
    isolation = "landlock"
    def verify(self, problem, completion):
        subprocess.run(["touch", os.path.join(tempfile.gettempdir(), "left")])
        return super().verify(problem, completion)

class OwnSandbox(Sound):
    isolation = "landlock"
    def verify(self, problem, completion):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["touch", os.path.join(folder, "gone")])
        return super().verify(problem, completion)

class Judge:
    label_free = True
    uses_network = True
    def verify(self, problem, completion):
        return 0.5

class Async(Sound):
    async def verify(self, problem, completion):
        return completion.strip() == problem.answer if completion.strip() else None

class Batch(Sound):
    def verify_batch(self, problems, completions):
        return [Sound.verify(self, p, c) for p, c in zip(problems, completions)]

class AsyncWrites(Sound):
    async def verify(self, problem, completion):
        Path(tempfile.gettempdir(), "note").write_text("x")
        return completion.strip() == problem.answer

class Sleeps(Sound):
    def verify(self, problem, completion):
        __import__("time").sleep(600)

class SleepsAtJunk(Sound):
    def verify(self, problem, completion):
        if len(completion) > 100: __import__("time").sleep(600)
        return super().verify(problem, completion)

class Unsure:
    label_free = unsure_is_error = True
    def verify(self, problem, completion):
        if len(completion) > 100: return {"outcome": "error", "detail": "cannot say"}
        return 0.5 if completion.strip() else None

class AlwaysUnsure:
    label_free = unsure_is_error = True
    calls = 0
    def verify(self, problem, completion):
        return {"outcome": "error", "detail": "cannot say"}

class UnsureAndRaises(Unsure):
    def verify(self, problem, completion):
        completion.encode()
        return super().verify(problem, completion)

class UnsureAndExits(Unsure):
    def verify(self, problem, completion):
        if "\\ud800" in completion: os._exit(3)
        return super().verify(problem, completion)

class Vote:
    label_free = True
    def verify(self, problem, completion):
        return 1.0
    def verify_group(self, problem, completions):
        return [completions.count(c) / len(completions) for c in completions]
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("broken") / "broken.py"
    file.write_text(BROKEN)
    return str(file)


def states(verifier: str, **settings: Any) -> dict[str, str]:
    """The first words of each invariant that is not held, and how it stands."""
    found = check_verifier(verifier, **settings).findings
    assert all(f.detail for f in found if f.state != "held")
    return {f.invariant.split(" is ")[0].removeprefix("empty, junk, 1 MB, NUL, surrogates: "): f.state for f in found}


HELD = {
    "the reference answer": "held",
    "never an error": "held",
    "never CORRECT": "held",
    "the same input twice gives the same verdict": "held",
    "another problem's answer": "held",
    "nothing": "held",
    "no process": "held",
}


@pytest.mark.parametrize("name", ["Sound", "Told", "Async", "Batch"])
def test_a_sound_verifier_holds_everything(broken: str, name: str) -> None:
    report = check_verifier(f"{broken}:{name}")
    assert report.violations == [] and {f.state for f in report.findings} == {"held"}


@pytest.mark.parametrize(
    ("name", "invariant", "says"),
    [
        ("Strict", "the reference answer is CORRECT", "An example(problem) method"),
        ("Lenient", "another problem's answer", "only 0.0% of"),
        ("TakesJunk", "never CORRECT", "NUL: CORRECT"),
        ("Raises", "never an error", "surrogates: ERROR (UnicodeEncodeError"),
        ("Moody", "the same input twice", "then"),
        ("Writes", "nothing is written", "/tmp/"),
        ("Writes", "nothing is written", "note was left in the temporary folder"),
        ("WritesAtImport", "nothing is written", "note was left in the home folder"),
        ("AsyncWrites", "nothing is written", "note was left"),
        ("Removes", "nothing is written", "os.remove /nowhere/at/all"),
        ("InAThread", "nothing is written", "open /nowhere/x"),
        ("Connects", "nothing is reached over the network", "socket.connect ('127.0.0.1', 9)"),
        ("LooksUp", "nothing is reached over the network", "socket.getaddrinfo 127.0.0.1"),
        ("Starts", "no process is started", "subprocess.Popen"),
        ("LeavesByProcess", "nothing is written", "left was left in the temporary folder"),
    ],
)
def test_each_fault_is_found_and_no_other(broken: str, name: str, invariant: str, says: str) -> None:
    (finding, *others) = check_verifier(f"{broken}:{name}").violations
    assert invariant in finding.invariant and says in finding.detail, finding
    # A verifier that is sure of nothing but one odd form cannot tell answers apart either, and is not blamed for it.
    assert others == []


def test_what_does_not_apply_is_said_and_not_passed_over(broken: str) -> None:
    report = check_verifier(f"{broken}:Judge")
    beside = {f.invariant: f.detail for f in report.findings if f.state == "not applicable"}
    assert report.violations == [] and len(beside) == 4
    assert set(beside.values()) == {
        "it judges without a reference answer (label_free)",
        "it asks a server (uses_network)",
    }
    own = check_verifier(f"{broken}:OwnSandbox")
    assert own.violations == []
    (process,) = [f for f in own.findings if f.state == "not applicable"]
    assert process.invariant == "no process is started" and "landlock" in process.detail
    assert check_verifier(f"{broken}:Vote").violations == []


def test_one_problem_alone_cannot_show_discernment(broken: str) -> None:
    report = check_verifier(f"{broken}:Sound", problems=[Problem(id="p", prompt="?", answer="7")])
    (missing,) = [f for f in report.findings if f.state == "not applicable"]
    assert "two problems whose reference answers differ" in missing.detail
    with pytest.raises(ProblemError, match="no problem to check"):
        check_verifier(f"{broken}:Sound", problems=[])


def test_a_verifiers_own_problems_that_fail_are_its_fault_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(
        "class Bad:\n    def verify(self, problem, completion): return True\n    def problems(self): return 1 / 0\n"
    )
    with pytest.raises(PluginError, match=r"problems\(\) failed: ZeroDivisionError"):
        check_verifier(f"{file}:Bad")


# -- time -------------------------------------------------------------------------------------------


def test_a_verifier_that_never_answers_is_undecided_and_the_check_ends(broken: str) -> None:
    told: list[tuple[str, int, int]] = []
    report = check_verifier(
        f"{broken}:Sleeps",
        section=VerifySection(deadline_seconds=2.0),
        seconds=0.2,
        progress=lambda *what: told.append(what),
    )
    assert {f.state for f in report.undecided} == {"undecided"} and len(report.undecided) >= 3
    assert any("judged in the time given" in f.detail for f in report.undecided)
    assert {what for what, _, _ in told} >= {"loading", "right answers", "hostile texts", "others' answers"}
    assert all(0 <= done <= total for _, done, total in told)


def test_what_there_was_time_for_is_still_found(broken: str) -> None:
    report = check_verifier(f"{broken}:SleepsAtJunk", section=VerifySection(deadline_seconds=20.0), seconds=3.0)
    found = {f.invariant: f for f in report.findings}
    assert found["the reference answer is CORRECT"].state == "held" and report.violations == []
    (hostile,) = [f for name, f in found.items() if name.endswith("never CORRECT")]
    assert "of 14 inputs were judged in the time given" in hostile.detail


# -- verifiers that ask a model -----------------------------------------------------------------------

UNSURE = "at most 5% of ordinary answers are ERROR (verify.max_error_share)"


def test_a_model_may_be_unsure_of_hostile_text_but_not_of_everything(broken: str) -> None:
    report = check_verifier(f"{broken}:Unsure")
    assert report.violations == [] and report.undecided == []
    (held,) = [f for f in report.findings if f.invariant.endswith("never an error")]
    assert held.state == "held" and "unsure of 6 of 14 (unsure_is_error), e.g. junk: ERROR (cannot say)" in held.detail
    weak = check_verifier(f"{broken}:AlwaysUnsure")
    assert [f.invariant for f in weak.violations] == [UNSURE]
    assert "too weak a model" in weak.violations[0].detail
    (beside,) = [f for f in weak.findings if f.invariant.endswith("never an error")]
    assert beside.state == "not applicable" and "decides nothing" in beside.detail


@pytest.mark.parametrize(("name", "says"), [("UnsureAndRaises", "UnicodeEncodeError"), ("UnsureAndExits", "ended")])
def test_to_be_unsure_excuses_neither_raising_nor_crashing(broken: str, name: str, says: str) -> None:
    (fault,) = check_verifier(f"{broken}:{name}").violations
    assert fault.invariant.endswith("never an error") and says in fault.detail


ALONE = ["exact", "math", "proof", "majority"]


@pytest.mark.parametrize("name", ALONE)
def test_built_in_verifiers_hold_with_nothing_else_given(name: str) -> None:
    assert name in known_verifiers()
    assert check_verifier(name).violations == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("all_of", {"parts": [{"verifier": "math"}]}),
        ("any_of", {"parts": [{"verifier": "exact"}, {"verifier": "math"}]}),
        ("weighted", {"parts": [{"verifier": "math"}]}),
    ],
)
def test_votes_and_compositions_hold(name: str, options: dict[str, Any]) -> None:
    assert check_verifier(name, options).violations == []


@pytest.mark.skipif(isolated() is None, reason="no level of the sandbox reaches landlock here")
def test_unit_tests_hold() -> None:
    report = check_verifier("unit_tests")
    assert report.violations == []
    assert [f.invariant for f in report.findings if f.state == "not applicable"] == ["no process is started"]


# -- the command ------------------------------------------------------------------------------------


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
        (["trl"], "does not take the options"),
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
        "import time\n\nclass Slow:\n    def verify(self, problem, completion):\n        time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "flywheel.cli", "check", f"{plugin}:Slow", "--deadline", "60"]
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list(scratch.glob("flywheel-check-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 130
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
