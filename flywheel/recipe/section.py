"""What every section of a recipe is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0.0)]


def knob(default: Any, **limits: Any) -> Any:
    """A field that changes speed or place, never rows: it is left out of every stage's key."""
    return Field(default, json_schema_extra={"knob": True}, **limits)


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
