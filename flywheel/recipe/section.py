"""What every section of a recipe is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0.0)]


def knob(default: Any, **limits: Any) -> Any:
    """A field that changes speed or place, never rows: it is left out of every stage's key."""
    return Field(default, json_schema_extra={"knob": True}, **limits)


_NAMED = re.compile(r"(?<![\w}^])\{[a-z_]{3,}\}")
"""What looks like a placeholder, and not like the argument of a LaTeX command (`\\boxed{answer}`), JSON or a set."""


def sent_as_it_stands(text: str, filled: Sequence[str]) -> str | None:
    """What is wrong with a template in which a name in braces would reach the model; None where nothing is.

    `filled` are the names that are filled in. Braces around anything but a bare word are text (`\\frac{1}{2}`,
    `{"a": 1}`, `{ word }`).
    """
    for found in _NAMED.finditer(text):
        if found.group()[1:-1] not in filled:
            known, verb = ", ".join(f"{{{name}}}" for name in filled), "is" if len(filled) == 1 else "are"
            return (
                f"{text!r} has {found.group()}, which would be sent as it stands: only {known} {verb} filled in; "
                f"write {{ {found.group()[1:-1]} }} if braces are meant"
            )
    return None


class Section(BaseModel):
    """A part of the recipe. Unknown fields are refused; the text under a field is its documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    def key(self) -> dict[str, Any]:
        """The settings that can change rows, as JSON-shaped data: what a stage's key is made from."""
        return _without_knobs(self)


def _without_knobs(section: BaseModel) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("knob"):
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            kept[name] = _without_knobs(value)
        elif isinstance(value, (list, tuple)):
            kept[name] = [_without_knobs(v) if isinstance(v, BaseModel) else v for v in value]
        else:
            kept[name] = value
    return kept
