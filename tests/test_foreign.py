"""Other people's code in our process: what it raises becomes one line that says where."""

from __future__ import annotations

import pytest

from flywheel.errors import EngineError, PluginError, ProblemError
from flywheel.foreign import told
from flywheel.problem_sources import read_source
from flywheel.recipe import ProblemSource


def test_what_escapes_is_told_with_its_place():
    with (
        pytest.raises(PluginError, match=r"policy 'x' raised ZeroDivisionError: .*test_foreign.py line \d+\)"),
        told("policy 'x'"),
    ):
        1 / 0  # noqa: B018


@pytest.mark.parametrize("error", [EngineError("died"), KeyboardInterrupt()])
def test_errors_of_ours_and_interrupts_pass(error):
    with pytest.raises(type(error)) as caught, told("policy 'x'"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("raise RuntimeError('boom')", PluginError, "raised RuntimeError: boom"),
        ("return None", PluginError, "raised TypeError"),
        ("yield 5", ProblemError, "yields '5'; each row must be a mapping"),
        ("yield {'prompt': '1', 'answer': '1'}; raise OSError('gone')", PluginError, "raised OSError: gone"),
    ],
)
def test_a_generator_that_fails_is_one_line(tmp_path, body, kind, words):
    (tmp_path / "mine.py").write_text(f"class Mine:\n    def rows(self, seed):\n        {body}\n")
    source = ProblemSource(source="generator", name=f"{tmp_path / 'mine.py'}:Mine", count=3)
    with pytest.raises(kind, match=words):
        list(read_source(source))
