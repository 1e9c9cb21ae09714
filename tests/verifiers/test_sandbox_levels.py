"""Which level is taken, and when none is."""

from __future__ import annotations

import pytest

from flywheel.verifiers import sandbox
from flywheel.verifiers.sandbox import levels

Level, Limits = sandbox.Level, sandbox.Limits


@pytest.mark.parametrize(
    ("broken", "least", "taken"),
    [
        ([], "landlock", "namespaces"),
        (["namespaces"], "landlock", "landlock"),
        (["namespaces"], "unsafe", "landlock"),
        (["namespaces", "landlock"], "unsafe", "unsafe"),
        (["namespaces"], "namespaces", None),
        (["namespaces", "landlock"], "landlock", None),
    ],
)
def test_the_best_level_that_works_or_none(
    monkeypatch: pytest.MonkeyPatch, broken: list[str], least: str, taken: str | None
) -> None:
    found = {level: "it is broken" if level in broken else "" for level in Level}
    monkeypatch.setattr(levels, "self_test", lambda: found)
    if taken is None:
        with pytest.raises(sandbox.SandboxError) as caught:
            levels.choose(Level(least))
        assert "it is broken" in str(caught.value) and "min_level" in str(caught.value)
        assert "\n" not in str(caught.value)
    else:
        assert levels.choose(Level(least)) == taken


def test_a_limit_is_above_zero() -> None:
    with pytest.raises(ValueError, match="memory_bytes = 0"):
        Limits(memory_bytes=0)
