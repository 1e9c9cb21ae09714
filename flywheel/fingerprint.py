"""Digests and seeds: the same content, or the same position, always gives the same value."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values have equal text.

    Raises TypeError for what JSON cannot carry (sets, objects) and ValueError for NaN and infinities:
    a digest over a value whose text can vary would make a finished stage look unfinished.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def short_digest(value: Any) -> str:
    """The first 16 hex digits of `digest(value)`."""
    return digest(value)[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits. Raises OSError if it cannot be read."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_digest(path: Path) -> str:
    """One digest over the names and bytes of all regular files below a folder, in name order.

    A README.md at its top is left out: a model's card is written after its weights, and says nothing that a model does.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file() and p != path / "README.md")
    return digest([[p.relative_to(path).as_posix(), file_digest(p)] for p in files])


def derive_seed(*position: str | int) -> int:
    """A 63-bit seed from a position such as (run seed, round, problem id, sample index).

    Randomness comes from where a thing stands, never from time or a global, so a resumed run draws
    what the uninterrupted one would have drawn.
    """
    return int.from_bytes(hashlib.sha256(canonical_json(list(position)).encode()).digest()[:8], "big") >> 1


def rng(*position: str | int) -> random.Random:
    """A generator seeded by `derive_seed(*position)`."""
    return random.Random(derive_seed(*position))
