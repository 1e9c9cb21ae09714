"""Models' weights as they lie on disk: which tensors a folder's safetensors files hold, and their numbers as a stream.

A safetensors file is eight bytes with the length of a JSON header (little-endian), the header, and the tensors' bytes;
the header gives each tensor's dtype, shape, and place among those bytes. Torch is not needed for any of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from flywheel.errors import ModelError

CHUNK = 1 << 18
"""Numbers, or bytes, that are read at once."""
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""The dtypes that can be mixed, as numpy reads them."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies: `start` and `length` in bytes of the file."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int


def tensors(folder: Path) -> dict[str, Tensor]:
    """Where each tensor of a model folder lies, over all its shards. Raises ModelError where it has no safetensors."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with open(file, "rb") as handle:
                size = int.from_bytes(handle.read(8), "little")
                header: dict[str, Any] = json.loads(handle.read(size))
            header.pop("__metadata__", None)
            for name, at in header.items():
                start, end = at["data_offsets"]
                found[name] = Tensor(name, file, at["dtype"], tuple(at["shape"]), 8 + size + start, end - start)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{file} is no safetensors file: {error!r}") from None
    if not found:
        raise ModelError(f"{folder} has no .safetensors weights, which is what can be mixed")
    return found


def counterpart(tensor: Tensor, theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> Tensor:
    """Another model's tensor of that name, or of one tied to it: some files hold shared weights once, some twice."""
    other = theirs.get(tensor.name)
    if other is None:
        twins = (t for t in ours.values() if t.name in theirs and t.shape == tensor.shape and same_bytes(t, tensor))
        other = next((theirs[t.name] for t in twins), None)
    if other is None or other.shape != tensor.shape:
        found = "nothing" if other is None else f"shape {list(other.shape)}"
        raise ModelError(
            f"{tensor.name} has shape {list(tensor.shape)} in {tensor.file.parent} and {found} in the other "
            "model; only models of one shape can be mixed"
        )
    return other


def same_bytes(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same bytes of the same dtype."""
    if (a.dtype, a.length) != (b.dtype, b.length):
        return False
    with open(a.file, "rb") as one, open(b.file, "rb") as two:
        return all(x == y for x, y in zip(pieces(a, one, CHUNK), pieces(b, two, CHUNK), strict=True))


def pieces(tensor: Tensor, handle: IO[bytes], size: int) -> Iterator[bytes]:
    """A tensor's bytes, at most `size` at a time."""
    for offset in range(0, tensor.length, size):
        handle.seek(tensor.start + offset)
        yield handle.read(min(size, tensor.length - offset))


def decoded(data: bytes, dtype: str) -> np.ndarray:
    """Stored numbers as float32, or as float64 where that is how they are stored."""
    stored = np.frombuffer(data, FLOATS[dtype])
    if dtype == "BF16":  # the upper half of a float32
        return (stored.astype("<u4") << 16).view("<f4")
    return stored if dtype == "F64" else stored.astype("<f4")


def encoded(values: np.ndarray, dtype: str) -> bytes:
    """Numbers as they are stored."""
    if dtype != "BF16":
        return values.astype(FLOATS[dtype]).tobytes()
    bits = values.astype("<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even, as torch does
    return np.where(np.isnan(values), 0x7FC0, rounded).astype("<u2").tobytes()
