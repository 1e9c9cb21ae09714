"""Policies behind a name: in this process, or in an engine's own that ends with the run."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel import guard_process
from flywheel.errors import EngineError, ModelError, PluginError
from flywheel.models import model_digest, resolve_base
from flywheel.policy import Policy, Request
from flywheel.policy.hosted import HostedPolicy
from flywheel.policy.opening import open_policy
from flywheel.policy.toy import ToyPolicy, write_base
from flywheel.recipe import ModelSection, PolicySection, ToyOptions


def start(folder: Path, model: Path, policy: dict, *, longest: int = 200, **model_settings) -> Policy:
    return open_policy(
        PolicySection.model_validate(policy),
        ModelSection(**model_settings),
        model,
        seed=7,
        max_model_len=longest,
        log=folder / "engine.log",
        pid_dir=folder / "pids",
    )


def ask(number: int, k: int = 4, content: str = "12 + 5 =", **changes) -> Request:
    settings = {"temperature": 1.0, "max_tokens": 24, "seed": number, **changes}
    return Request(f"{number}:0", [{"role": "user", "content": content}], tuple(range(k)), **settings)


def descendants() -> list[int]:
    """Living processes below this one that run under a guard."""
    return [
        p.pid
        for p in guard_process.all_processes()
        if p.parent == os.getpid() and p.session == p.pid and p.state != "Z"
    ]


# -- in this process -------------------------------------------------------------------------------


def test_toy(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "toy", ToyOptions())
    policy = start(tmp_path, folder, {"name": "toy"})
    assert isinstance(policy, ToyPolicy)
    assert policy.digest == model_digest(folder)
    assert [c.index for c in next(policy.generate([ask(1)]))] == [0, 1, 2, 3]


OWN = """
from flywheel.policy import Completion
class Parrot:
    def __init__(self, model_path, *, seed, words=1):
        self.words = words
    def generate(self, requests):
        for r in requests:
            yield [Completion(r.id, i, "squawk " * self.words, "stop", self.words) for i in r.indices]
    def close(self):
        pass
"""


def test_an_own_policy(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    policy = start(tmp_path, tmp_path, {"name": f"{tmp_path}/own.py:Parrot", "options": {"words": 2}})
    ((completion,),) = policy.generate([ask(1, k=1)])
    assert completion.text == "squawk squawk "


def test_an_unknown_policy(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"unknown policy 'vlm'; known: vllm, transformers, openai, toy"):
        start(tmp_path, tmp_path, {"name": "vlm"})


# -- transformers, in a process of its own ---------------------------------------------------------

PLAIN = {"name": "transformers", "transformers": {"batch_size": 6, "device": "cpu"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def hosted(place: Path, tiny_model: Path) -> Iterator[HostedPolicy]:
    policy = start(place, tiny_model, PLAIN, longest=100, dtype="float32")
    assert isinstance(policy, HostedPolicy)
    mine = {child.guarded.pid for child in policy._children}
    yield policy
    policy.close()
    policy.close()
    assert not mine & set(descendants())
    assert not list((place / "pids").iterdir())


@pytest.mark.slow
def test_every_completion_comes_once(hosted: HostedPolicy) -> None:
    requests = [ask(n, k=1 + n % 4, content="x" * n) for n in range(9)]
    groups = {g[0].request_id: g for g in hosted.generate(requests)}
    assert {name: [c.index for c in group] for name, group in groups.items()} == {
        r.id: list(r.indices) for r in requests
    }
    for completion in (c for group in groups.values() for c in group):
        assert completion.finish_reason in ("stop", "length")
        assert 1 <= completion.tokens <= 24
        assert "<|" not in completion.text


@pytest.mark.slow
def test_the_same_requests_get_the_same_completions(hosted: HostedPolicy) -> None:
    first = list(hosted.generate([ask(1), ask(2)]))
    assert first == list(hosted.generate([ask(1), ask(2)]))
    assert first != list(hosted.generate([ask(1), ask(3)]))
    greedy = next(hosted.generate([ask(1, temperature=0.0)]))
    assert len({c.text for c in greedy}) == 1


def test_what_a_model_recommends_is_not_sampled_with(tiny_model: Path, tmp_path: Path) -> None:
    """Qwen2.5-Instruct comes with a repetition penalty; a recipe has none, and vLLM is asked for none."""
    import torch

    from flywheel.policy.transformers import TransformersEngine

    recommending = shutil.copytree(tiny_model, tmp_path / "model")
    settings = json.loads((recommending / "generation_config.json").read_text())
    advice = {"repetition_penalty": 3.0, "min_p": 0.9, "do_sample": True}
    (recommending / "generation_config.json").write_text(json.dumps(settings | advice))
    said = []
    for folder in (tiny_model, recommending):
        engine = TransformersEngine(folder, ModelSection(dtype="float32"), {"device": "cpu"}, max_model_len=None)
        torch.manual_seed(0)
        engine.add([ask(1), ask(2, temperature=0.0)])
        said.append([c for _ in iter(engine.busy, False) for c in engine.step()])
    assert said[0] == said[1] and any(c.tokens > 2 for c in said[0])


@pytest.mark.slow
def test_the_log_probability_is_that_of_what_was_drawn_from(hosted: HostedPolicy) -> None:
    near, far, greedy = (
        next(hosted.generate([ask(1, k=3, **settings)]))
        for settings in ({}, {"temperature": 0.02}, {"temperature": 0.0})
    )
    # 260 tokens of about the same probability at temperature 1; near 0 what is drawn is far likelier.
    assert all(c.logprob is not None and -7.0 < c.logprob < -4.0 for c in near)
    assert all(c.logprob is not None and -4.0 < c.logprob < 0.0 for c in far)
    assert {c.logprob for c in greedy} == {None}, "the likeliest token is not drawn"
    one = next(hosted.generate([ask(1, k=2, top_k=1)]))
    assert [c.logprob for c in one] == pytest.approx([0.0, 0.0], abs=1e-6), "one token is all there is to draw from"


@pytest.mark.slow
def test_the_likeliest_choice_is_the_completion(hosted: HostedPolicy) -> None:
    first = ask(1, k=1, choices=("A", "B", "AB"))
    ((completion,),) = hosted.generate([first])
    assert completion.choice_logprobs is not None and len(completion.choice_logprobs) == 3
    assert sum(map(math.exp, completion.choice_logprobs)) == pytest.approx(1.0, abs=1e-6)
    best = max(range(3), key=completion.choice_logprobs.__getitem__)
    assert completion.text == first.choices[best] and completion.finish_reason == "stop"
    groups = {g[0].request_id: g[0] for g in hosted.generate([first, ask(2, k=1), ask(3, k=1, choices=("x", "y"))])}
    assert groups["1:0"].choice_logprobs == pytest.approx(completion.choice_logprobs, abs=1e-4)
    assert groups["2:0"].choice_logprobs is None and groups["3:0"].text in ("x", "y")
    ((refused,),) = hosted.generate([ask(4, k=1, content="y" * 500, choices=("A", "B"))])
    assert refused.finish_reason == "error"


@pytest.mark.slow
def test_the_weights_are_proven(hosted: HostedPolicy, tiny_model: Path) -> None:
    assert hosted.digest == model_digest(tiny_model)


@pytest.mark.slow
def test_a_prompt_without_room_costs_only_itself(hosted: HostedPolicy) -> None:
    groups = {g[0].request_id: g for g in hosted.generate([ask(1, content="y" * 500), ask(2)])}
    assert {c.finish_reason for c in groups["1:0"]} == {"error"}
    assert {c.finish_reason for c in groups["2:0"]} <= {"stop", "length"}


@pytest.mark.slow
def test_stop_strings_end_a_completion(hosted: HostedPolicy) -> None:
    (plain,) = hosted.generate([ask(1, temperature=0.0, k=1)])
    letter = plain[0].text[3]
    (cut,) = hosted.generate([ask(1, temperature=0.0, k=1, stop=(letter,))])
    assert cut[0].text == plain[0].text[: plain[0].text.index(letter)]
    assert cut[0].finish_reason == "stop"


@pytest.mark.slow
def test_after_an_abandoned_call_the_next_is_whole(hosted: HostedPolicy) -> None:
    abandoned = hosted.generate([ask(n) for n in range(50)])
    next(abandoned)
    abandoned.close()
    groups = list(hosted.generate([ask(n, k=2) for n in (3, 4)]))
    assert sorted((g[0].request_id, len(g)) for g in groups) == [("3:0", 2), ("4:0", 2)]


@pytest.mark.slow
def test_a_killed_engine_is_an_error_and_leaves_nothing(tmp_path: Path, tiny_model: Path) -> None:
    policy = start(tmp_path, tiny_model, PLAIN, dtype="float32")
    try:
        (guarding,) = [p for p in descendants() if p not in _other_guards(policy)]
        (engine,) = [p.pid for p in guard_process.below(guarding)]
        groups = policy.generate([ask(n) for n in range(500)])
        next(groups)
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"the engine ended with exit code 137"):
            list(groups)
    finally:
        policy.close()
    assert not guard_process.find_process(engine)


def _other_guards(policy: HostedPolicy) -> list[int]:
    mine = {child.guarded.pid for child in policy._children}
    return [pid for pid in descendants() if pid not in mine]


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no tokenizer that can be read"):
        start(tmp_path, tmp_path, PLAIN)
    assert not list((tmp_path / "pids").iterdir())


# -- vLLM, in a process of its own -----------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm() -> Path:
    return resolve_base(ModelSection())


@pytest.fixture(scope="module")
def engine(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedPolicy]:
    folder = tmp_path_factory.mktemp("vllm")
    policy = start(folder, smollm, {"name": "vllm", "vllm": {"kv_cache_gib": 0.25, "max_sequences": 16}})
    assert isinstance(policy, HostedPolicy)
    mine = {child.guarded.pid for child in policy._children}
    yield policy
    policy.close()
    assert not mine & set(descendants())


@pytest.mark.slow
def test_vllm_answers_in_words(engine: HostedPolicy, smollm: Path, capfd: pytest.CaptureFixture[str]) -> None:
    requests = [ask(n, k=3, content=f"What is {n} + 2?", max_tokens=32) for n in range(8)]
    first = sorted(engine.generate(requests), key=lambda g: g[0].request_id)
    assert [g[0].request_id for g in first] == [r.id for r in requests]
    assert [[c.index for c in g] for g in first] == [[0, 1, 2]] * 8
    assert len({c.text for g in first for c in g}) > 12, "samples of one prompt differ"
    assert any(str(n + 2) in c.text for n, g in enumerate(first) for c in g)
    assert {c.finish_reason for g in first for c in g} <= {"stop", "length"}
    assert all(c.logprob is not None and -8.0 < c.logprob < 0.0 for g in first for c in g)
    assert engine.digest == model_digest(smollm)
    again = sorted(engine.generate(requests), key=lambda g: g[0].request_id)
    assert again == first, "on a CPU the same requests get the same completions"
    assert capfd.readouterr() == ("", ""), "an engine says nothing to the terminal"


@pytest.mark.slow
def test_vllm_stop_greedy_and_room(engine: HostedPolicy) -> None:
    requests = [
        ask(1, k=2, content="Say: red, green", temperature=0.0, stop=(",",)),
        ask(2, k=2, content="many words " * 500),
        ask(3, k=2, content="Count from 1 to 100.", max_tokens=5),
        ask(4, k=1, content="What is the capital of France?", choices=("Paris", "Parsley", "London")),
    ]
    groups = {g[0].request_id: g for g in engine.generate(requests)}
    assert "," not in groups["1:0"][0].text
    assert groups["1:0"][0].text == groups["1:0"][1].text
    assert groups["1:0"][0].logprob is None, "the likeliest token is not drawn"
    assert {c.finish_reason for c in groups["2:0"]} == {"error"}
    assert {(c.finish_reason, c.tokens) for c in groups["3:0"]} == {("length", 5)}
    (chosen,) = groups["4:0"]
    assert chosen.text == "Paris" and chosen.choice_logprobs is not None and chosen.logprob is None
    assert sum(map(math.exp, chosen.choice_logprobs)) == pytest.approx(1.0, abs=1e-5)
    assert chosen.choice_logprobs[0] > max(chosen.choice_logprobs[1:])
