"""`flywheel check` finds each kind of broken verifier, and passes the ones that are sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flywheel import PluginError, Problem, ProblemError, check_verifier
from flywheel.plugins import known_verifiers
from flywheel.recipe import VerifySection
from flywheel.verifiers import sandbox
from flywheel.verifiers.sandbox import SandboxError
from tests.broken_verifiers import BROKEN


def isolated() -> str | None:
    """The sandbox's level on this machine."""
    try:
        return str(sandbox.choose(sandbox.Level.LANDLOCK))
    except SandboxError:
        return None


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("broken") / "broken.py"
    file.write_text(BROKEN)
    return str(file)


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


@pytest.mark.parametrize("name", ["SleepsAtJunk", "SlowModel"])
def test_what_the_clock_ended_is_said_and_is_no_fault(broken: str, name: str) -> None:
    report = check_verifier(f"{broken}:{name}", section=VerifySection(deadline_seconds=1.0, workers=4))
    assert report.violations == report.undecided == []
    (hostile,) = [f for f in report.findings if f.invariant.endswith("never an error")]
    assert "but out of time at junk" in hostile.detail


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
