"""How examples are laid out for a forward pass.

The completions of one problem have their prompt in common, and all prompts the head of the chat template. So a row
can be a tree: each shared token stands there once, and every token attends to its own ancestors only. Attention then
sees for each completion exactly what it would see in a row of its own, so loss and gradients are the same; only the
work is less. (The idea of tree attention: SpecInfer, Miao et al. 2023, arXiv:2305.09781, there for decoding.)

    <s> A A ─┬─ p a a a           prompt "<s> A A p" with two completions; the last prompt token stands once a
             └─ p b b             completion, because each copy predicts another first token

A plain row is a tree with one branch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The label of a position that is in no loss."""
_WIDTH_STEP = 16  # widths repeat, so kernels prepared for a shape are used again


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example in tokens. `completion` ends with the stop token; `weight` multiplies its share of the loss."""

    problem: str
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    weight: float = 1.0


@dataclass(slots=True)
class Row:
    """A tree of tokens in one row; `parents[i]` is the place of the token before token i, -1 at the root.

    `targets[i]` is what token i should predict, `IGNORED` for prompt tokens.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, token: int, parent: int, target: int = IGNORED, weight: float = 0.0) -> int:
        """Append a token below `parent` and return its place."""
        self.tokens.append(token)
        self.parents.append(parent)
        self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
        self.targets.append(target)
        self.weights.append(weight)
        return len(self.tokens) - 1

    def is_chain(self) -> bool:
        """Whether every token follows the one before it, so that ordinary causal attention is right."""
        return all(parent == place - 1 for place, parent in enumerate(self.parents))


def tree_row(examples: Iterable[Encoded]) -> Row:
    """The examples in one row, with what their prompts have in common standing once."""
    row = Row()
    known: dict[tuple[int, int], int] = {}
    for example in examples:
        place = -1
        for token in example.prompt[:-1]:
            if (place, token) not in known:
                known[place, token] = row.add(token, place)
            place = known[place, token]
        # The stop token is only ever a target, so it needs no place of its own.
        branch = (example.prompt[-1], *example.completion[:-1])
        for token, target in zip(branch, example.completion, strict=True):
            place = row.add(token, place, target, example.weight)
    return row


def lay_out(examples: Sequence[Encoded], *, share: bool, attention_cost: float) -> list[Row]:
    """Rows for one forward pass: one an example, or with `share` the cheapest division into trees.

    `attention_cost` is what a token pays for each token of its row's width, in units of what it pays anyway: long
    rows share more but attend to more. See `attention_cost_of`.
    """
    plain = [tree_row([example]) for example in examples]
    if not share:
        return plain
    by_problem: dict[str, list[Encoded]] = {}
    for example in examples:
        by_problem.setdefault(example.problem, []).append(example)
    groups = sorted(by_problem.values(), key=_branch_tokens, reverse=True)
    candidates = [plain, *(_divide(groups, rows) for rows in range(1, len(groups) + 1))]
    return min(candidates, key=lambda rows: _cost(rows, attention_cost))


def attention_cost_of(hidden_size: int) -> float:
    """The cost of attending to one token, relative to a token's matrix products, in a Llama-shaped model.

    A layer has about 12·h² weights and attention adds 2·h products for each token attended to, a ratio of 1/(6·h).
    Dense masked attention is slower a product; from 10 times that on, the rows measured on a CPU were equally fast.
    """
    return 10 / (6 * hidden_size)


def _branch_tokens(group: Sequence[Encoded]) -> int:
    return len(group[0].prompt) + sum(len(example.completion) for example in group)


def _divide(groups: Sequence[Sequence[Encoded]], rows: int) -> list[Row]:
    """Longest group first, each to the row that has least."""
    shares: list[list[Encoded]] = [[] for _ in range(rows)]
    loads = [0] * rows
    for group in groups:
        least = loads.index(min(loads))
        shares[least] += group
        loads[least] += _branch_tokens(group)
    return [tree_row(share) for share in shares]


def _cost(rows: Sequence[Row], attention_cost: float) -> float:
    width = _width(rows)
    return len(rows) * width * (1 + attention_cost * width)


def _width(rows: Sequence[Row]) -> int:
    longest = max((len(row.tokens) for row in rows), default=1)
    return max(1, math.ceil(longest / _WIDTH_STEP)) * _WIDTH_STEP


def to_tensors(rows: Sequence[Row], pad_id: int) -> dict[str, torch.Tensor]:
    """The rows as a batch of R rows and W columns: `input_ids`, `position_ids`, `shift_labels` and `loss_weights` are
    (R, W); `attention_mask` is (R, W) for chains and (R, 1, W, W), true where attention may look, for trees.

    No rows at all give one row that is in no loss.
    """
    import torch

    count, width = max(1, len(rows)), _width(rows)
    ids = torch.full((count, width), pad_id)
    positions = torch.zeros((count, width), dtype=torch.long)
    labels = torch.full((count, width), IGNORED)
    weights = torch.zeros((count, width))
    for i, row in enumerate(rows):
        length = len(row.tokens)
        ids[i, :length] = torch.tensor(row.tokens)
        positions[i, :length] = torch.tensor(row.depths)
        labels[i, :length] = torch.tensor(row.targets)
        weights[i, :length] = torch.tensor(row.weights)
    if all(row.is_chain() for row in rows):
        mask = torch.zeros((count, width), dtype=torch.long)
        for i, row in enumerate(rows):
            mask[i, : len(row.tokens)] = 1
        mask[:, 0] = 1  # a row without any token to attend to has no softmax
    else:
        mask = torch.stack([_ancestors(row, width) for row in rows])[:, None]
    return {
        "input_ids": ids,
        "position_ids": positions,
        "attention_mask": mask,
        "labels": labels,  # by this name the trainer counts what the loss is divided by
        "shift_labels": labels,
        "loss_weights": weights,
    }


def _ancestors(row: Row, width: int) -> torch.Tensor:
    import numpy as np
    import torch

    sees = np.eye(width, dtype=bool)  # padding sees itself: a row without any token to attend to has no softmax
    for place, parent in enumerate(row.parents):
        if parent >= 0:
            sees[place] |= sees[parent]
    return torch.from_numpy(sees)


@dataclass(frozen=True)
class Collator:
    """Makes the tensors of a micro-batch, which the data set names by the positions of its examples."""

    examples: Sequence[Encoded]
    pad_id: int
    share: bool
    attention_cost: float

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The tensors of `to_tensors` for all members of `items`."""
        members = [self.examples[place] for item in items for place in item["members"]]
        return to_tensors(lay_out(members, share=self.share, attention_cost=self.attention_cost), self.pad_id)
