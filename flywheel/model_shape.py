"""A model's shape from its config.json alone: how many parameters it has, and what a token's keys and values take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel import models
from flywheel.errors import ModelError
from flywheel.recipe import CharactersOptions, LoraOptions, ModelSection
from flywheel.sums import CHARACTERS

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes of a number."""
_GATED = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "smollm3", "olmo2", "granite"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder with gated feed-forward layers. Sizes are numbers of entries; `tied` says that the output matrix is the
    embedding's."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool

    @property
    def linear(self) -> list[tuple[int, int]]:
        """Inputs and outputs of a layer's matrices."""
        own, kv = self.heads * self.head, self.kv_heads * self.head
        attention = [(self.hidden, own), (self.hidden, kv), (self.hidden, kv), (own, self.hidden)]
        return [*attention, (self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden)]

    @property
    def parameters(self) -> int:
        """All parameters, biases left out (they are under a thousandth)."""
        layer = sum(i * o for i, o in self.linear) + 2 * self.hidden
        return self.layers * layer + self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden

    def adapters(self, lora: LoraOptions) -> int:
        """Parameters of low-rank adapters on all matrices of all layers."""
        return self.layers * sum(lora.rank * (i + o) for i, o in self.linear)

    def kv_bytes(self, dtype: str) -> int:
        """Bytes that the keys and values of one token take."""
        return 2 * self.layers * self.kv_heads * self.head * BYTES[dtype]


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape that a `config.json` describes. Raises ModelError for a kind of model whose shape is not known here."""
    kind = str(config.get("model_type"))
    if kind not in _GATED:
        raise ModelError(f"the shape of a {kind!r} model is not known; known: {', '.join(sorted(_GATED))}")
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return Shape(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", kind.startswith("gemma"))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"its config.json does not say the model's shape ({type(error).__name__}: {error})") from None


def known_shape(model: ModelSection) -> Shape:
    """The shape of a recipe's base from what is on this disk. Raises ModelError, saying what is not known, where there
    is no config.json of it here."""
    if model.base == models.CHARACTERS:
        return _of_characters(model.characters)
    path = config_file(model)
    if path is None and model.base == models.EMBEDDED:
        raise ModelError(f"{model.base!r} has not been converted on this disk yet; the first `flywheel run` does that")
    if path is None:
        raise ModelError(
            f"there is no config.json of {model.base!r} on this disk; fetch it with "
            f"`hf download {model.base} config.json`, or give a folder as model.base"
        )
    try:
        return shape_of(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise ModelError(f"{path} is not JSON") from None


def _of_characters(made: CharactersOptions) -> Shape:
    """The shape that `flywheel.training.characters` makes."""
    return Shape(
        layers=len(made.layers),
        hidden=made.width,
        inner=made.inner,
        heads=made.heads,
        kv_heads=made.heads,
        head=made.width // made.heads,
        vocabulary=len(CHARACTERS) + 3,  # padding, end, unknown
        tied=False,
    )


def config_file(model: ModelSection) -> Path | None:
    """Where the config.json of a recipe's base lies: in its folder, among converted models, or in the hub's cache."""
    folder = Path(model.base).expanduser()
    if (folder / "config.json").is_file():
        return folder / "config.json"
    if model.base == models.EMBEDDED or folder.suffix == ".gguf":
        stem = folder.stem.lower() if folder.suffix == ".gguf" else model.base
        made = sorted((models.cache_folder() / "models").glob(f"{stem}*/config.json"))
        return made[0] if made else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model.base, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
