"""A small model of characters, made on the spot: its shape, and the short sums that it learns before round 0."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flywheel.recipe.section import Count, Section, knob


class CharactersOptions(Section):
    """What `model.base = "characters"` is made from: a SmolLM3 of a few layers with one token a character, trained from
    scratch on sums of two numbers of equally many digits, lowest digit first. Made once, then kept."""

    digits: Annotated[int, Field(ge=1, le=100)] = 6
    """The longest sums that it is taught. All that it knows of longer ones it has to teach itself."""
    layout: Literal["rows", "columns"] = "columns"
    """How sums are written: `rows` one number after the other (`53+12=`), `columns` one place after the other
    (`5132=`)."""
    hints: Annotated[int, Field(ge=0, le=110)] = 32
    """How many letters name the places of digits (`51a32b=a`), from a random one on; more than the digits of any sum
    to come. 0 writes digits alone."""
    layers: list[Literal["near", "rope", "nope"]] = Field(["near", "nope", "near"], min_length=1, max_length=64)
    """The transformer layers, from the first. `near` knows positions (RoPE) and sees `window` characters, so that it
    can tell what stands side by side and cannot learn distances that only short sums have; `rope` knows positions and
    sees all; `nope` sees all and knows no positions."""
    window: Annotated[int, Field(ge=2, le=4096)] = 3
    """How many characters a `near` layer sees, itself included."""
    width: Annotated[int, Field(ge=8, le=4096)] = 64
    """Entries of a hidden state."""
    inner: Annotated[int, Field(ge=8, le=16384)] = 128
    """Entries inside a feed-forward layer."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Attention heads; each has `width / heads` entries."""
    steps: Count = 1200
    """Optimiser steps."""
    batch_size: Count = 36
    """Sums a step, no two steps the same."""
    packed: Annotated[int, Field(ge=1, le=32)] = 4
    """Once all lengths are shown, rows hold one to so many sums, one after the other with letters of their own: looking
    up a place then has to hold among as many others as a long sum has. 1 shows them singly."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 3e-3
    """The peak learning rate; it rises for 50 steps and falls to nothing over the last three tenths."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """AdamW's decay."""
    settled: Annotated[float, Field(ge=0.0)] = 0.3
    """Longer sums come when the mean loss of 20 steps, in nats a token, is under this: first sums of one and two
    digits are shown, then up to half of `digits`, then all. Steps with shorter sums have more of them. 0 shows all
    lengths from the start."""
    seed: int = 0
    """From which weights and sums derive."""
    save_steps: Count = knob(200)
    """A checkpoint every so many steps, from which a killed training goes on."""

    @model_validator(mode="after")
    def _shape(self) -> CharactersOptions:
        if self.width % (2 * self.heads):
            raise ValueError(f"width = {self.width} does not make {self.heads} heads of an even width; change either")
        if 0 < self.hints <= self.digits:
            raise ValueError(
                f"hints = {self.hints} letters for sums of {self.digits} digits, whose answers have one more; give more"
            )
        if 0 < self.hints < self.packed * (self.digits + 1):
            raise ValueError(
                f"hints = {self.hints} letters for rows of up to packed = {self.packed} sums, whose answers have up to "
                f"{self.digits + 1} places each: no letter may stand for two places; lower packed or give more letters"
            )
        return self
