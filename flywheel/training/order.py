"""In which order examples are trained on: a plan for the whole training, made from position before it begins.

A resumed training takes the same plan and skips what is done, so it sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from flywheel.fingerprint import rng

Step = list[list[int]]
"""One optimiser step: for each micro-batch the positions of its examples (an empty one keeps processes in step)."""


def steps_in(rows: int, *, epochs: float, batch_size: int) -> int:
    """Optimiser steps of a training over so many examples: at least one, and none where there is no example."""
    return max(1, round(epochs * math.ceil(rows / batch_size))) if rows else 0


def plan_steps(problems: Sequence[str], *, epochs: float, batch_size: int, slots: int, seed: int) -> list[Step]:
    """Every step of a training over examples whose problems are `problems`, each step in `slots` micro-batches.

    Problems come in a new order each epoch, and the examples of one problem stay together, so that they can share
    their prompt. The last step of an epoch may be short. At least one step is made.
    """
    members: dict[str, list[int]] = {}
    for position, problem in enumerate(problems):
        members.setdefault(problem, []).append(position)
    wanted = steps_in(len(problems), epochs=epochs, batch_size=batch_size)
    steps: list[Step] = []
    epoch = 0
    while len(steps) < wanted:
        chance = rng(seed, "training order", epoch)
        groups = [chance.sample(group, len(group)) for group in members.values()]
        chance.shuffle(groups)
        order = [position for group in groups for position in group]
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        steps += [deal(batch, slots) for batch in batches]
        epoch += 1
    return steps[:wanted]


def deal(batch: Sequence[int], slots: int) -> Step:
    """Cut a batch into `slots` runs of nearly equal length, neighbours together."""
    edges = [round(i * len(batch) / slots) for i in range(slots + 1)]
    return [list(batch[a:b]) for a, b in pairwise(edges)]


def micro_batches(batch_size: int, micro_batch: int, processes: int) -> int:
    """How many micro-batches a step has: enough for `micro_batch` examples each, and the same number a process."""
    return math.ceil(batch_size / (micro_batch * processes)) * processes
