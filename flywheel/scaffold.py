"""`flywheel init`: a recipe file with every setting, its documentation and its default, made from `Recipe` itself."""

from __future__ import annotations

import json
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from flywheel.recipe import Recipe, Section

WIDTH = 110

INTRO = """\
A recipe for flywheel. What is commented out with a single # is the default: remove the # and change the value.
What stands without one is there because a run needs it.
Lines with ## are documentation. Begin with [model], [problems] and [verify]; `flywheel show FILE` prints what a
file comes to, `flywheel run FILE` runs it, and `--set section.field=value` overrides for one run. A setting that is
said to change speed only may be changed in the middle of a run; any other is fixed once a run has begun.
"""

NEEDED: dict[tuple[str, ...], int] = {("problems", "count"): 500}
"""What the defaults lack for a run: their generator of problems has no end."""


def recipe_template() -> str:
    """The text of a recipe that runs as it is: every field of `Recipe`, documented, as a commented default."""
    lines = [f"## {line}".rstrip() for line in INTRO.splitlines()]
    return "\n".join([*lines, *_table(Recipe, ())]) + "\n"


def _table(section: type[Section], path: tuple[str, ...]) -> Iterator[str]:
    """The plain fields of a section first, as TOML demands, then its sub-tables."""
    fields = section.model_fields
    subsections = {name: kind for name, info in fields.items() if (kind := _section_type(info.annotation))}
    for name, info in fields.items():
        if name not in subsections:
            yield ""
            yield from _documentation(name, info)
            if (*path, name) in NEEDED:
                yield f"{name} = {toml_value(NEEDED[*path, name])}"
            elif info.get_default(call_default_factory=True) is not None:
                yield f"#{name} = {toml_value(info.get_default(call_default_factory=True))}"
    for name, kind in subsections.items():
        info, place = fields[name], (*path, name)
        yield ""
        if isinstance(info.default, Section):
            yield from _comment(f"{info.description}")
            yield f"[{'.'.join(place)}]"
            yield from _table(kind, place)
        else:
            yield from _example(kind, info, place)


def _example(kind: type[Section], info: FieldInfo, place: tuple[str, ...]) -> Iterator[str]:
    """A table that is absent by default: documentation only, down to its fields."""
    many = typing.get_origin(info.annotation) is list
    yield from _comment(f"{info.description} Not there unless you write it{', once for each' if many else ''}:")
    yield f"## {'[[' if many else '['}{'.'.join(place)}{']]' if many else ']'}"
    for name, field in kind.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        value = "…" if field.is_required() else toml_value(default) if default is not None else "(not set)"
        yield from _comment(f"  {name} = {value}   {field.description}{_limits(field)}", "##       ")


def _documentation(name: str, info: FieldInfo) -> Iterator[str]:
    unset = info.get_default(call_default_factory=True) is None
    yield from _comment(f"{f'{name} (not set): ' if unset else ''}{info.description}{_limits(info)}")


def _comment(text: str, following: str = "## ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="## ", subsequent_indent=following, break_long_words=False)


def _limits(info: FieldInfo) -> str:
    """What values a field takes, and whether it is a knob, as the tail of its documentation."""
    found = list(_ranges(info.annotation)) + [text for item in info.metadata for text in _range(item)]
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("knob"):
        found.append("changes speed only")
    return f" ({'; '.join(dict.fromkeys(found))})" if found else ""


def _ranges(annotation: Any) -> Iterator[str]:
    if typing.get_origin(annotation) is typing.Literal:
        yield f"one of {', '.join(map(str, typing.get_args(annotation)))}"
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, list):
        for part in typing.get_args(annotation):
            yield from _ranges(part)
    elif typing.get_origin(annotation) is typing.Annotated:
        kind, *metadata = typing.get_args(annotation)
        yield from _ranges(kind)
        for item in metadata:
            for inner in getattr(item, "metadata", [item]):
                yield from _range(inner)


def _range(limit: Any) -> Iterator[str]:
    for name, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        value = getattr(limit, name, None)
        if value is not None:
            yield f"{words} {value:,}" if isinstance(value, int) else f"{words} {value:g}"


def _section_type(annotation: Any) -> type[Section] | None:
    """The section that a field holds, plainly, optionally or in a list."""
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def toml_value(value: Any) -> str:
    """A JSON-shaped value as TOML on one line. Raises TypeError for None, which TOML has no word for."""
    if value is None:
        raise TypeError("TOML has no null; leave the field out")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
