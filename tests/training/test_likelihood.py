"""Likelihoods: batches change nothing, the ratio is what one pass a text says, and the child process gives the same."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from flywheel.errors import StageError
from flywheel.policy.render import load_tokenizer, prompt_ids
from flywheel.recipe import ModelSection
from flywheel.training.contract import encode
from flywheel.training.likelihood import (
    _batches,
    instruction_following_difficulty,
    mean_losses,
    perplexity_ratios,
)
from tests.training.conftest import sums

FLOAT = ModelSection(dtype="float32")


def one_at_a_time(tiny_model, examples):
    """The same ratios by the plainest way: no batch, no padding, all logits."""
    tokenizer = load_tokenizer(tiny_model)
    network = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()

    def loss(context, rest):
        with torch.inference_mode():
            scores = network(torch.tensor([[*context, *rest]])).logits[0].log_softmax(-1)
        return -sum(scores[len(context) + i - 1, t].item() for i, t in enumerate(rest)) / len(rest)

    frame = prompt_ids(tokenizer, [{"role": "user", "content": ""}])
    rows = [encode(tokenizer, e, 2) for e in examples]
    return [math.exp(loss(r.prompt, r.completion) - loss(frame, r.completion)) for r in rows]


def ratios(tiny_model, examples, *, max_length=1024, batch_tokens=200):
    told = []
    scores = perplexity_ratios(
        examples,
        model_path=tiny_model,
        model=FLOAT,
        max_length=max_length,
        batch_tokens=batch_tokens,
        on_progress=lambda done, of: told.append((done, of)),
    )
    assert told[-1][0] == told[-1][1] == len(told)
    return scores


@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_the_ratio_is_that_of_two_plain_forward_passes(tiny_model, batch_tokens):
    examples = sums(3, 4)
    expected = one_at_a_time(tiny_model, examples)
    assert ratios(tiny_model, examples, batch_tokens=batch_tokens) == pytest.approx(expected, rel=1e-4)
    assert len({round(v, 6) for v in expected}) > 6  # the scores tell examples apart


def test_what_training_would_leave_out_is_not_scored(tiny_model):
    examples = sums(2, 2)
    tokenizer = load_tokenizer(tiny_model)
    lengths = [len(r.prompt) + len(r.completion) for r in (encode(tokenizer, e, 2) for e in examples)]
    scores = ratios(tiny_model, examples, max_length=max(lengths) - 1)
    assert [s is None for s in scores] == [n == max(lengths) for n in lengths]


def test_the_child_process_gives_the_same_scores(tiny_model, tmp_path):
    examples = sums(2, 2)
    scores = instruction_following_difficulty(
        examples,
        model_path=tiny_model,
        model=FLOAT,
        max_length=1024,
        batch_tokens=500,
        log=tmp_path / "log",
        pid_dir=tmp_path / "pids",
        on_progress=lambda done, of: None,
    )
    assert scores == pytest.approx(one_at_a_time(tiny_model, examples), rel=1e-4)
    assert list((tmp_path / "pids").glob("*")) == []


def test_a_child_that_fails_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StageError, match=r"filter\.fit ended with exit code 1"):
        instruction_following_difficulty(
            sums(1, 1),
            model_path=tmp_path / "nothing",
            model=FLOAT,
            max_length=1024,
            batch_tokens=500,
            log=tmp_path / "log",
            pid_dir=tmp_path / "pids",
            on_progress=lambda done, of: None,
        )


def test_batches_hold_everything_once_within_their_tokens():
    lengths = [3, 50, 7, 7, 49, 200, 1]
    batches = list(_batches(lengths, 100))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 100 for b in batches)


def test_a_likely_continuation_has_the_smaller_loss(tiny_model):
    network = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    context = (5, 6, 7)
    with torch.inference_mode():
        order = network(torch.tensor([context])).logits[0, -1].argsort()
    best, worst = int(order[-1]), int(order[0])
    losses = mean_losses(
        network, [(context, (best,)), (context, (worst,))], batch_tokens=100, on_progress=lambda *_: None
    )
    assert losses[0] < losses[1]
