"""The mean of models of one shape, tensor by tensor, and the mixture of two, which is one.

Fine-tuned and original weights, averaged linearly, lie on a path of low loss and often do better than either end
(WiSE-FT: Wortsman et al. 2022, arXiv:2109.01903); so do checkpoints of one lineage (model soups: Wortsman et al. 2022,
arXiv:2203.05482), and Llama 3 averages its models at every stage (arXiv:2407.21783, section 4.1.5). All models are
read at once as streams and added up in float32, so memory stays at a few megabytes and the mean is rounded only once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from flywheel.errors import ModelError
from flywheel.policy import toy
from flywheel.training.weights import (
    CHUNK,
    FLOATS,
    Tensor,
    counterpart,
    decoded,
    encoded,
    pieces,
    same_bytes,
    tensors,
)


def average(models: Sequence[tuple[Path, float]], target: Path) -> None:
    """Write the folder `target`: the mean of model folders with their weights, which sum to 1.

    Each number is worked out in float32 (float64 where all have it) and stored in the first model's dtype; all other
    files are the first model's. The folder appears whole or not at all. Raises ModelError where the models are not of
    one shape, or have weights that are not safetensors.
    """
    part = target.parent / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    first = models[0][0]
    if (first / toy.FILE).is_file():
        toy.write_model(part, toy.mean_of([(toy.read_model(folder), weight) for folder, weight in models]))
    else:
        _average_files(models, part)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)


def interpolate(champion: Path, candidate: Path, alpha: float, target: Path) -> None:
    """Write the folder `target`: the champion's weights moved by `alpha` of the way to the candidate's.

    Every weight is (1 - alpha) · champion + alpha · candidate; dtypes and other files are the candidate's.
    """
    average([(candidate, alpha), (champion, 1.0 - alpha)], target)


def _average_files(models: Sequence[tuple[Path, float]], target: Path) -> None:
    first, weights = models[0][0], [weight for _, weight in models]
    ours, *others = [tensors(folder) for folder, _ in models]
    for file in sorted(first.iterdir()):
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copyfile(file, target / file.name)
    for shard in sorted({t.file for t in ours.values()}):
        mine = sorted((t for t in ours.values() if t.file == shard), key=lambda t: t.start)
        with open(shard, "rb") as source, open(target / shard.name, "wb") as out:
            out.write(source.read(min((t.start for t in mine), default=shard.stat().st_size)))
            for tensor in mine:
                members = [tensor, *(counterpart(tensor, other, ours) for other in others)]
                with ExitStack() as stack:
                    handles = [stack.enter_context(open(member.file, "rb")) for member in members]
                    out.writelines(_mean(members, handles, weights))


def _mean(members: Sequence[Tensor], handles: Sequence[IO[bytes]], weights: Sequence[float]) -> Iterator[bytes]:
    ours = members[0]
    if any(member.dtype not in FLOATS for member in members):
        for member in members[1:]:
            if not same_bytes(ours, member):
                raise ModelError(
                    f"{ours.name} holds {ours.dtype} in {ours.file} and {member.dtype} in {member.file}, and they "
                    f"differ; {', '.join(FLOATS)} can be mixed"
                )
        yield from pieces(ours, handles[0], CHUNK)
        return
    streams = [
        pieces(member, handle, CHUNK * np.dtype(FLOATS[member.dtype]).itemsize)
        for member, handle in zip(members, handles, strict=True)
    ]
    precise = all(member.dtype == "F64" for member in members)
    for chunks in zip(*streams, strict=True):
        values = [decoded(chunk, member.dtype) for chunk, member in zip(chunks, members, strict=True)]
        total = np.zeros(values[0].shape, np.float64 if precise else np.float32)
        for weight, value in zip(weights, values, strict=True):
            total += total.dtype.type(weight) * value
        yield encoded(total, ours.dtype)
