"""A policy of somebody else's, held to what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.errors import EngineError, PluginError
from flywheel.policy import Request
from flywheel.policy.opening import check_policy
from flywheel.policy.theirs import TheirPolicy
from flywheel.recipe import PolicySection

MINE = """
from flywheel import Completion, EngineError

class Mine:
    digest = "abc"
    def __init__(self, model_path, seed, how="well"):
        self.how = how
        if how == "not at all":
            raise RuntimeError("no server")
    def generate(self, requests):
        for request in requests:
            if self.how == "badly":
                raise ValueError("lost")
            if self.how == "dead":
                raise EngineError("died")
            if self.how == "as text":
                yield ["two"]
            yield [Completion("x" if self.how == "for another" else request.id, 0, "2", "stop", 1)]
    def close(self):
        if self.how == "open":
            raise OSError("stuck")
"""
REQUEST = Request("r", [{"role": "user", "content": "1 + 1"}], 1, 1.0, 8)


@pytest.fixture
def name(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path / 'mine.py'}:Mine"


def made(name, how="well"):
    return TheirPolicy(name, Path(), 0, {"how": how})


def test_its_completions_and_its_digest_pass(name):
    policy = made(name)
    assert [c.text for [c] in policy.generate([REQUEST])] == ["2"]
    assert policy.digest == "abc"
    policy.interrupt()
    policy.close()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("badly", "raised ValueError: lost"),
        ("as text", r"yielded \"\['two'\]\"; it must yield lists of flywheel.Completion"),
        ("for another", "with the request_id of a request"),
    ],
)
def test_what_it_raises_or_yields_wrongly_is_one_line(name, how, words):
    with pytest.raises(PluginError, match=words):
        list(made(name, how).generate([REQUEST]))


def test_it_may_say_itself_that_its_engine_died(name):
    with pytest.raises(EngineError, match="^died$"):
        list(made(name, "dead").generate([REQUEST]))


def test_it_fails_to_open_or_close_in_one_line(name):
    with pytest.raises(PluginError, match="raised RuntimeError: no server"):
        made(name, "not at all")
    with pytest.raises(PluginError, match="raised OSError: stuck"):
        made(name, "open").close()


def test_a_recipe_is_told_before_anything_is_opened(name):
    check_policy(PolicySection(name=name, options={"how": "not at all"}))
    with pytest.raises(PluginError, match="policy.options = {'hwo': 'well'} that fails: .*'hwo'"):
        check_policy(PolicySection(name=name, options={"hwo": "well"}))
    with pytest.raises(PluginError, match="unknown policy 'vlm'; known: vllm"):
        check_policy(PolicySection(name="vlm"))
