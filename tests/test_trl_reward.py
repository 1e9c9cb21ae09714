"""Any verifier inside TRL, and back."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import flywheel
from flywheel import Outcome, PluginError, Problem, StageError, to_trl
from flywheel.judgements import to_judgement
from flywheel.plugins import make_verifier
from flywheel.trl_reward import name_and_options


@dataclass(frozen=True)
class Local:
    """Cannot be reached from a worker by name alone, but from this file."""

    word: str = "yes"

    def verify(self, problem: Problem, completion: str) -> bool | None:
        return None if not completion else completion == self.word


def chat(text: str, role: str = "assistant") -> list[dict[str, Any]]:
    return [{"role": role, "content": text}]


def test_it_is_called_as_the_trainer_calls_it() -> None:
    logged: dict[str, Any] = {}
    with to_trl("math") as reward:
        found = reward(
            prompts=["1+1?"] * 4,
            completions=[r"\boxed{2}", r"\boxed{3}", "", r"\boxed{2}"],
            completion_ids=[[1], [2], [], [3]],
            answer=["2", "2", "2", ""],
            level=[1, 2, 3, 4],
            trainer_state=object(),
            log_extra=lambda column, values: logged.update({column: values}),
            log_metric=lambda name, value: logged.update({name: value}),
        )
        assert found == [1.0, 0.0, 0.0, None]
        assert reward.__name__ == "math"
        assert logged["math_outcome"] == ["correct", "wrong", "no_answer", "error"]
        assert "no value" in logged["math_detail"][3] and logged["math/error_share"] == 0.25
        assert reward(prompts=[], completions=[]) == []


def test_conversational_rows_and_another_answer_column() -> None:
    with to_trl("exact", {"ignore_case": True}, answer="solution") as reward:
        prompts = [chat("capital of France?", "user"), chat("of Peru?", "user")]
        parts = [{"role": "assistant", "content": [{"type": "text", "text": "Lima"}]}]
        assert reward(prompts, [chat("PARIS"), parts], solution=["Paris", "Lima"]) == [1.0, 1.0]
        assert reward(["?"], ["42"], solution=[42]) == [1.0]


def test_columns_reach_the_verifier_as_meta(tmp_path: Path) -> None:
    file = tmp_path / "sees.py"
    file.write_text(
        "class Sees:\n    def verify(self, problem, completion):\n"
        "        return problem.meta == {'level': 3} and problem.messages[0]['role'] == 'user'\n"
    )
    with to_trl(f"{file}:Sees") as reward:
        assert reward([chat("?", "user")], ["x"], level=[3], answer=["x"], trainer_state=None) == [1.0]
        assert reward.__name__ == "Sees"


def test_an_instance_is_made_again_in_the_workers() -> None:
    with to_trl(make_verifier("exact", {"ignore_case": True})) as reward:
        assert reward(["?"] * 2, ["PARIS", "rome"], answer=["paris"] * 2) == [1.0, 0.0]
    own = make_verifier(f"{__file__}:Local", {"word": "no"})
    name, options = name_and_options(own)
    assert (name, options) == (f"{Path(__file__)}:Local", {"word": "no"})
    with to_trl(own) as reward:
        assert reward(["?"] * 3, ["no", "yes", ""]) == [1.0, 0.0, 0.0]


def test_what_a_worker_cannot_make_is_refused_in_one_line() -> None:
    @dataclass
    class Hidden:
        def verify(self, problem: Problem, completion: str) -> bool:
            return True

    @dataclass
    class Bound:
        thing: object = object()

        def verify(self, problem: Problem, completion: str) -> bool:
            return True

    Bound.__qualname__ = "Bound"
    for verifier, says in ((Hidden(), "cannot import it"), (Bound(), "no plain data"), (object(), "no dataclass")):
        with pytest.raises(PluginError, match=says):
            to_trl(verifier)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="unknown verifier 'mth'"):
        to_trl("mth")
    with pytest.raises(PluginError, match="options go with a verifier's name"):
        to_trl(Local(), {"word": "x"})


def test_a_verifier_that_hangs_or_dies_costs_one_reward(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "import os, time\nclass Odd:\n    def verify(self, problem, completion):\n"
        "        if completion == 'hang': time.sleep(60)\n        if completion == 'die': os._exit(1)\n"
        "        if completion == 'raise': raise ValueError\n        return 0.5\n"
    )
    with to_trl(f"{file}:Odd", deadline_seconds=0.5) as reward:
        assert reward(["?"] * 4, ["x", "hang", "die", "raise"]) == [0.5, 0.0, None, None]


def test_columns_of_another_length_are_refused() -> None:
    with to_trl("exact") as reward:
        with pytest.raises(ValueError, match="1 values of 'answer' for 2 completions"):
            reward(["?"] * 2, ["a", "b"], answer=["a"])
        with pytest.raises(ValueError, match="'prompts'"):
            reward(["?"], ["a", "b"], answer=["a", "b"])


def test_threads_share_one_reward_function() -> None:
    with to_trl("exact") as reward, ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda i: reward(["?"], [str(i)], answer=[str(i - i % 2)]), range(40))
        assert list(found) == [[float(i % 2 == 0)] for i in range(40)]


def test_closing_ends_its_processes() -> None:
    reward = to_trl("exact")
    pid = reward._pool._forker._process.pid
    reward.close()
    reward.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(StageError, match="closed"):
        reward(["?"], ["a"], answer=["a"])


def test_a_program_that_never_closes_it_ends_all_the_same() -> None:
    program = """
from flywheel import to_trl
reward = to_trl("exact")
print(reward(["?"], ["a"], answer=["a"]), reward._pool._forker._process.pid)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.startswith("[1.0]") and ran.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(ran.stdout.split()[-1]), 0)


def test_there_and_back_gives_the_same_outcomes(tmp_path: Path) -> None:
    """A verifier as a TRL reward function as a verifier: NO_ANSWER alone turns into WRONG, which no reward can say."""
    file = tmp_path / "there.py"
    file.write_text("from flywheel import to_trl\n\nmath = to_trl('math', workers=1)\n")
    back = make_verifier("trl", {"function": f"{file}:math"})
    cases = [("2", r"\boxed{2}"), ("2", r"\boxed{3}"), (r"\frac12", r"\boxed{0.5}"), ("2", ""), ("", r"\boxed{2}")]
    expected = [Outcome.CORRECT, Outcome.WRONG, Outcome.CORRECT, Outcome.WRONG, Outcome.ERROR]
    found = [to_judgement(back.verify(Problem(id="p", prompt="?", answer=a), c)) for a, c in cases]
    assert [j.outcome for j in found] == expected


def test_it_is_exported_without_weight() -> None:
    assert {"to_trl", "check_verifier"} <= set(flywheel.__all__)
    with pytest.raises(AttributeError, match="no attribute 'to_nothing'"):
        flywheel.to_nothing  # noqa: B018 - the access is the test
