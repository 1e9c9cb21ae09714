"""Drawing tokens from logits on a CPU: inversion of the distribution function, in two levels.

vLLM's CPU sampler makes one random number for every token of the vocabulary of every sequence (the Gumbel-max trick).
Inversion needs one for each sequence: a softmax, the sums of blocks of the vocabulary, then a search among the
blocks and one inside the block found. The distribution is the same; benchmarks/sampling.py shows what it saves.
(L. Devroye, Non-Uniform Random Variate Generation, 1986, section III.2.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BLOCK = 256
"""Tokens of the vocabulary whose probabilities are summed for the first search."""


def draw(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """One token for each row of `logits` (shape [rows, vocabulary], any float dtype), as int64 of shape [rows].

    `uniforms` has shape [rows], float64, from [0, 1). A token of probability zero (a logit of minus infinity) is never
    drawn. Sums are kept in float64, so rounding moves a probability by less than float32 itself does.
    """
    return _search(_weights(logits), uniforms)


def _weights(logits: torch.Tensor) -> torch.Tensor:
    """The probabilities, filled up with zeros to whole blocks; shape [rows, blocks x BLOCK]."""
    import torch

    weights = torch.softmax(logits, dim=-1, dtype=torch.float32)
    return torch.nn.functional.pad(weights, (0, -logits.shape[1] % BLOCK)) if logits.shape[1] % BLOCK else weights


def _search(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    import torch

    rows = weights.shape[0]
    blocks = weights.view(rows, -1, BLOCK)
    before = blocks.sum(dim=-1).double().cumsum(dim=-1)
    wanted = uniforms.unsqueeze(1) * before[:, -1:]
    block = _first_above(before, wanted)
    # What is left of the uniform number inside the block.
    wanted = wanted - torch.where(block > 0, before.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks[torch.arange(rows), block.squeeze(1)].double().cumsum(dim=-1)
    return (block * BLOCK + _first_above(inside, wanted)).squeeze(1)


def _first_above(cumulative: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The first column whose sum exceeds `wanted`; rounding must not lead past the last one that adds anything."""
    import torch

    below_all = torch.nextafter(cumulative[:, -1:], torch.zeros_like(cumulative[:, -1:]))
    return torch.searchsorted(cumulative, torch.minimum(wanted, below_all), right=True)


def install(worker: Any, drawn: dict[str, list[float]]) -> bool:
    """Have a vLLM CPU worker draw with `draw`; False where its settings ask for what only vLLM's own way gives.

    Requests with a seed of their own get their number from their own generator, as in vLLM. The log-probability
    (nats) of every token drawn is appended to `drawn` under the id that its request was added with. It is looked up
    among weights that are there anyway; vLLM's own log-probabilities pass over the vocabulary thrice more.
    """
    import torch
    from vllm.v1.sample import sampler as sampling
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    # Where log-probabilities are asked for, vLLM compiles this one at its first call: a minute, and a C++ compiler.
    sampling.batched_count_greater_than = _count_not_less
    runner = worker.model_runner
    sampler = runner.sampler.topk_topp_sampler
    if sampler.logprobs_mode not in ("raw_logprobs", "raw_logits") or sampler.use_fp64_gumbel:
        return False

    def forward(
        logits: torch.Tensor, generators: dict[int, torch.Generator], k: torch.Tensor | None, p: torch.Tensor | None
    ) -> tuple[torch.Tensor, None]:
        uniforms = torch.rand(logits.shape[0], dtype=torch.float64)
        for row, generator in generators.items():
            uniforms[row] = torch.rand(1, dtype=torch.float64, generator=generator)
        weights = _weights(apply_top_k_top_p(logits, k, p))
        tokens = _search(weights, uniforms)
        _record(runner, weights.gather(1, tokens.unsqueeze(1)).squeeze(1).log().tolist(), drawn)
        return tokens, None

    sampler.forward = forward
    return True


def _count_not_less(values: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
    """How many of each row's values are at least `least` (shape [rows, 1]): the rank of a token."""
    return (values >= least).sum(-1)


def _record(runner: Any, logprobs: list[float], drawn: dict[str, list[float]]) -> None:
    """Keep what was drawn for each request of a step, but for those whose prompt is not read to its end yet."""
    requests = runner.input_batch.req_ids
    if len(requests) != len(logprobs):
        return  # a step in which a row is no request of its own; the completions then count too few and give none
    for name, logprob, discarded in zip(requests, logprobs, runner.discard_request_mask.np.tolist(), strict=False):
        if not discarded:
            drawn.setdefault(name.partition("-")[0], []).append(logprob)  # vLLM makes ids its own by a suffix
