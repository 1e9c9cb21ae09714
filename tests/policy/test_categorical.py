"""The CPU sampler draws what the softmax says, and nothing that it forbids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from flywheel.policy.categorical import BLOCK, draw, install  # noqa: E402 - after the check for torch


def frequencies(logits, draws):
    torch.manual_seed(1)
    uniforms = torch.rand(draws, dtype=torch.float64)
    drawn = draw(logits.expand(draws, -1), uniforms)
    return torch.bincount(drawn, minlength=logits.shape[-1]).double() / draws


@pytest.mark.parametrize("vocabulary", [7, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
def test_draws_as_often_as_the_softmax_says(vocabulary):
    torch.manual_seed(0)
    logits = 2 * torch.randn(1, vocabulary)
    draws = 50_000
    wanted = torch.softmax(logits.double(), -1).squeeze(0)
    got = frequencies(logits, draws)
    assert ((got - wanted).abs() < 5 * (wanted / draws).sqrt() + 1e-4).all()


def test_every_cell_of_the_unit_interval_leads_to_its_token():
    """With equal weights the number u leads to token floor(u x vocabulary), in every block and at every edge."""
    vocabulary = 4 * BLOCK
    middles = (torch.arange(vocabulary, dtype=torch.float64) + 0.5) / vocabulary
    assert draw(torch.zeros(vocabulary, vocabulary), middles).tolist() == list(range(vocabulary))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("allowed", [[0], [5], [BLOCK - 1], [BLOCK], [BLOCK + 3, 2 * BLOCK + 1]])
def test_never_draws_what_is_masked(dtype, allowed):
    logits = torch.full((64, 2 * BLOCK + 9), float("-inf"), dtype=dtype)
    logits[:, allowed] = 1.0
    edges = torch.tensor([0.0, 1e-300, 0.5, 1 - 2**-53] * 16, dtype=torch.float64)
    assert set(draw(logits, edges).tolist()) <= set(allowed)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.floats(-200, 200, width=32) | st.just(float("-inf")), min_size=1, max_size=600),
    st.floats(0, 1, exclude_max=True),
)
def test_any_logits_and_any_number_give_a_token_that_is_possible(values, number):
    logits = torch.tensor([values])
    if not torch.isfinite(logits).any():
        return
    token = draw(logits, torch.tensor([number], dtype=torch.float64)).item()
    assert 0 <= token < len(values)
    assert torch.softmax(logits, -1)[0, token] > 0


@pytest.mark.slow
def test_takes_the_place_of_the_engines_own_sampler():
    pytest.importorskip("vllm")
    from types import SimpleNamespace

    from vllm.v1.sample.sampler import Sampler

    sampler = Sampler()
    runner = SimpleNamespace(
        sampler=sampler,
        input_batch=SimpleNamespace(req_ids=[f"{i}-0a1b2c3d" for i in range(512)]),
        discard_request_mask=SimpleNamespace(np=np.arange(600) == 5),
    )
    kept: dict[str, list[float]] = {}
    assert install(SimpleNamespace(model_runner=runner), kept)
    logits = torch.arange(1000.0).expand(512, -1) / 100
    top_k = torch.full((512,), 3)
    drawn, _ = sampler.topk_topp_sampler(logits.clone(), {}, top_k, None)
    assert set(drawn.tolist()) == {997, 998, 999}
    wanted = torch.log_softmax(torch.tensor([9.97, 9.98, 9.99]), 0)
    assert "5" not in kept, "a prompt that is read in part draws nothing that counts"
    assert len(kept) == 511
    assert all(kept[str(i)] == [pytest.approx(wanted[t - 997].item())] for i, t in enumerate(drawn.tolist()) if i != 5)
    seeded = [
        sampler.topk_topp_sampler(logits.clone(), {7: torch.Generator().manual_seed(3)}, None, None)[0][7].item()
        for _ in range(3)
    ]
    assert len(set(seeded)) == 1, "a request with a seed of its own draws the same each time"
    assert not install(SimpleNamespace(model_runner=SimpleNamespace(sampler=Sampler("processed_logprobs"))), {})
