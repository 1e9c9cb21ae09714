"""A small model of characters, trained from scratch on short sums: the base that `model.base = "characters"` names.

An ordinary model folder comes of it: a SmolLM3 (whose configuration says layer by layer where positions are known, so
that one without any position embedding needs no code of ours), a tokenizer with one token a character, and a chat
template that writes turns one after the other. Lee et al. 2025 (arXiv:2502.01612) train theirs the same way and larger.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, SmolLM3Config, SmolLM3ForCausalLM

from flywheel.fingerprint import derive_seed, rng
from flywheel.recipe import CharactersOptions
from flywheel.sums import CHARACTERS, Style, Sum, draw

PAD, END, UNKNOWN = "<pad>", "<end>", "<unknown>"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
WARMUP_STEPS = 50
SETTLED_STEPS = 20
FALL = 0.3
"""Share of the steps over which the learning rate falls to nothing."""
_UNSCORED = -100


# -- the folder ------------------------------------------------------------------------------------


def vocabulary() -> dict[str, int]:
    """The tokens and their numbers: padding, end, what is unknown, then every character of a sum."""
    return {token: i for i, token in enumerate([PAD, END, UNKNOWN, *CHARACTERS])}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    core = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    core.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made


def make_model(options: CharactersOptions) -> SmolLM3ForCausalLM:
    """The untrained model, its weights drawn from `options.seed`."""
    tokens = vocabulary()
    torch.manual_seed(derive_seed(options.seed, "characters", "weights") % 2**32)
    near = [kind == "near" for kind in options.layers]
    config = SmolLM3Config(
        vocab_size=len(tokens),
        hidden_size=options.width,
        intermediate_size=options.inner,
        num_hidden_layers=len(options.layers),
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        no_rope_layers=[int(kind != "nope") for kind in options.layers],  # 1: with RoPE
        max_position_embeddings=2048,
        attention_bias=True,  # with it a head can look some places back, whatever stands there
        tie_word_embeddings=False,
        use_sliding_window=any(near),
        sliding_window=options.window if any(near) else None,
        layer_types=["sliding_attention" if is_near else "full_attention" for is_near in near],
        pad_token_id=tokens[PAD],
        bos_token_id=None,
        eos_token_id=tokens[END],
    )
    model = SmolLM3ForCausalLM(config)
    _draw_weights(model, options)
    return model


@torch.no_grad()
def _draw_weights(model: SmolLM3ForCausalLM, options: CharactersOptions) -> None:
    """Weights of a size that signals keep theirs, and in layers without positions keys equal to queries.

    There a token attends to its own kind from the first step on, as trained models do somewhere (mimetic
    initialisation: Trockman & Kolter 2023, arXiv:2305.09828). With the usual small weights, looking up the digits of a
    place is what a small model spends most of its training on.
    """
    for name, weights in model.named_parameters():
        if weights.dim() == 2:
            size = 1.0 if "embed_tokens" in name else 0.02 if "lm_head" in name else weights.shape[1] ** -0.5
            torch.nn.init.normal_(weights, 0.0, size)
    for layer, kind in zip(model.model.layers, options.layers, strict=True):
        if kind == "nope":
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


def save(model: SmolLM3ForCausalLM, target: Path) -> None:
    """Write the model folder."""
    model.generation_config.eos_token_id = model.config.eos_token_id
    model.generation_config.pad_token_id = model.config.pad_token_id
    model.save_pretrained(target)
    make_tokenizer().save_pretrained(target)


# -- what it learns --------------------------------------------------------------------------------


class Curriculum:
    """Which sums are shown: those of one and two digits, then up to half of all lengths, then all.

    The next ones come when the mean loss of the last `SETTLED_STEPS` steps is under `options.settled`. Shown all
    lengths from the start, so small a model guesses digits for thousands of steps.
    """

    def __init__(self, options: CharactersOptions) -> None:
        self._settled = options.settled
        steps = (2, max(2, options.digits // 2), options.digits) if options.settled else (options.digits,)
        self._longest = sorted({min(digits, options.digits) for digits in steps})
        self._recent: list[float] = []

    @property
    def longest(self) -> int:
        """The digits of the longest sums to show."""
        return self._longest[0]

    def saw(self, loss: float) -> None:
        """Take in a step's loss, in nats a token."""
        self._recent = [*self._recent[-SETTLED_STEPS + 1 :], loss]
        settled = len(self._recent) == SETTLED_STEPS and sum(self._recent) < self._settled * SETTLED_STEPS
        if settled and len(self._longest) > 1:
            del self._longest[0]
            self._recent = []


def rows_at(step: int, longest: int, options: CharactersOptions) -> list[list[Sum]]:
    """The sums of a step, in rows.

    Before all lengths are shown, a row is one sum, all lengths so far are there in equal numbers, and there are more
    sums where they are short. Then rows hold one to `options.packed` sums, whose places have letters of their own, and
    of two lengths drawn for each the longer one is taken.
    """
    chance, style = rng(options.seed, "characters", "sums", step), Style(options.layout, options.hints)
    if longest < options.digits:
        count = options.batch_size * options.digits // longest
        return [[draw(1 + (step + i) % longest, chance, style)] for i in range(count)]
    rows: list[list[Sum]] = []
    while (room := options.batch_size - sum(map(len, rows))) > 0:
        lengths = [
            max(chance.randint(1, longest), chance.randint(1, longest))
            for _ in range(min(room, 1 + len(rows) % options.packed))
        ]
        first = chance.randrange(options.hints) if options.hints else 0
        begins = [first + sum(lengths[:i]) + i for i in range(len(lengths))]  # an answer may have a place more
        rows.append([draw(n, chance, style, first=at) for n, at in zip(lengths, begins, strict=True)])
    return rows


def encoded(rows: Sequence[Sequence[Sum]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of rows of sums, each with its answer and its end, padded at the right; and their targets (-100 where
    there is none: prompts and padding). Both [rows, tokens]."""
    tokens = vocabulary()
    said, scored = [], []
    for row in rows:
        ids: list[int] = []
        targets: list[int] = []
        for one in row:
            answer = [*(tokens[c] for c in one.answer), tokens[END]]
            ids += [*(tokens[c] for c in one.prompt), *answer]
            targets += [_UNSCORED] * len(one.prompt) + answer
        said.append(ids)
        scored.append(targets)
    width = max(map(len, said))
    inputs = torch.tensor([ids + [tokens[PAD]] * (width - len(ids)) for ids in said])
    return inputs, torch.tensor([targets + [_UNSCORED] * (width - len(targets)) for targets in scored])


def rate_at(step: int, options: CharactersOptions) -> float:
    """The learning rate: up, level, down (Hu et al. 2024, arXiv:2404.06395)."""
    left = (options.steps - step) / max(1.0, FALL * options.steps)
    return options.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS, left)


# -- training --------------------------------------------------------------------------------------


def pretrain(options: CharactersOptions, target: Path, work: Path) -> float:
    """Train from scratch and write the folder `target`; return the mean loss of the last tenth (nats a token).

    `work` keeps the newest checkpoint: called again after a kill, with the same options, the training goes on from it
    and comes to the same weights. Raises FloatingPointError where the loss is no finite number.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make_model(options).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=options.weight_decay)
    work.mkdir(parents=True, exist_ok=True)
    done, losses = _resume(work, model, optimiser)
    curriculum = Curriculum(options)
    for loss in losses:
        curriculum.saw(loss)
    for step in range(done, options.steps):
        inputs, targets = (tensor.to(device) for tensor in encoded(rows_at(step, curriculum.longest, options)))
        losses.append(_step(model, optimiser, inputs, targets, rate_at(step, options)))
        curriculum.saw(losses[-1])
        if losses[-1] != losses[-1]:
            raise FloatingPointError(f"the loss is no number at step {step}; lower model.characters.learning_rate")
        if (step + 1) % 100 == 0:
            mean = sum(losses[-100:]) / len(losses[-100:])
            sys.stderr.write(f"step {step + 1}/{options.steps} digits {curriculum.longest} loss {mean:.4f}\n")
        if (step + 1) % options.save_steps == 0:
            _checkpoint(work, step + 1, model, optimiser, losses)
    save(model.eval().cpu(), target)
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def _step(
    model: SmolLM3ForCausalLM,
    optimiser: torch.optim.Optimizer,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    rate: float,
) -> float:
    logits = model(input_ids=inputs[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=_UNSCORED)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return float(loss.detach())


def _checkpoint(
    work: Path, step: int, model: SmolLM3ForCausalLM, optimiser: torch.optim.Optimizer, losses: list[float]
) -> None:
    part = work / "checkpoint.part"
    state: dict[str, Any] = {"step": step, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save(state | {"losses": losses}, part)
    os.replace(part, work / "checkpoint.pt")


def _resume(work: Path, model: SmolLM3ForCausalLM, optimiser: torch.optim.Optimizer) -> tuple[int, list[float]]:
    file = work / "checkpoint.pt"
    if not file.is_file():
        return 0, []
    state = torch.load(file, weights_only=True, map_location=next(model.parameters()).device)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["losses"]


def main() -> None:
    """Make one model; `flywheel.models` calls this."""
    parser = argparse.ArgumentParser(prog="python -m flywheel.training.characters")
    parser.add_argument("options", help="CharactersOptions as JSON")
    parser.add_argument("target", type=Path)
    parser.add_argument("work", type=Path)
    given = parser.parse_args()
    options = CharactersOptions.model_validate(json.loads(given.options))
    sys.stderr.write(f"loss {pretrain(options, given.target, given.work):.4f}\n")


if __name__ == "__main__":
    main()
