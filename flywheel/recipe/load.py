"""Read a recipe: a TOML file, a shipped name or a run's folder, `section.field=value` over it, errors in one line."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from flywheel.errors import RecipeError
from flywheel.recipe.data import VerifySection
from flywheel.recipe.problems import ProblemsSection
from flywheel.recipe.whole import Recipe

OPTIONS_OF: dict[str, tuple[type[BaseModel], dict[str, str]]] = {
    "verify": (
        VerifySection,
        {"verifier": "options", "held_out": "held_out_options", "observer": "observer_options"},
    ),
    "problems": (ProblemsSection, {"source": "parameters", "name": "parameters"}),
}
"""By section: the fields that name a verifier or where problems come from, and the fields with what goes with it."""


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with flywheel, by name."""
    folder = Path(str(resources.files("flywheel") / "recipes"))
    return {p.stem: p for p in sorted(folder.glob("*.toml"))}


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its shipped name, from a TOML file or of a run's folder, with `section.field=value` overrides.

    Raises RecipeError where there is no such recipe, the file is not TOML, or a field does not fit.
    Paths inside a recipe file are relative to the working directory, as the shell's are.
    """
    return validate(apply_overrides(read_recipe(name_or_path), overrides), where=str(name_or_path))


def read_recipe(name_or_path: str | Path, *, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """The raw content of a recipe file, before overrides and validation.

    A file with `extends = "NAME"`, another recipe's name or path, is laid over that one.
    """
    known = shipped_recipes()
    path = known.get(str(name_or_path), Path(name_or_path))
    if (path / "run.json").is_file():
        return _of_a_run(path / "recipe.json")
    if not path.is_file():
        near = difflib.get_close_matches(str(name_or_path), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(
            f"no recipe {str(name_or_path)!r}: {hint}`flywheel recipes` lists the shipped ones, and there is neither a "
            "recipe file nor a run's folder of this name"
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise RecipeError(f"recipe file {path} cannot be read: {error.strerror}") from None
    below = raw.pop("extends", None)
    if below is None:
        return raw
    if not isinstance(below, str) or below in extending:
        raise RecipeError(f"{path}: extends = {below!r} is no other recipe's name or path")
    return lay_over(read_recipe(below, extending=(*extending, below)), raw)


def _of_a_run(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"{path} is not the recipe of a run: {error}") from None


def validate(raw: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """Check raw content against `Recipe`. Raises RecipeError with one line that names each bad field."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_one_line(error)}") from None


def _one_line(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        place = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _known_fields(item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            parts.append(f"unknown field {place}; {hint}")
        elif item["type"] == "missing":
            parts.append(f"{place} is missing")
        elif item["type"] == "model_type":
            known = _known_fields(item["loc"])
            parts.append(f"{place} = {item['input']!r}: this is a section; set its fields: {', '.join(known)}")
        elif item["type"] == "value_error":
            parts.append(f"{place}: {item['ctx']['error']}" if place else str(item["ctx"]["error"]))
        else:
            parts.append(f"{place} = {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return "; ".join(parts)


def _known_fields(loc: Iterable[str | int]) -> list[str]:
    section = _section_at(loc)
    return list(section.model_fields) if section else []


def _section_at(loc: Iterable[str | int]) -> type[BaseModel] | None:
    model: type[BaseModel] = Recipe
    for part in loc:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        args = [annotation, *getattr(annotation, "__args__", ())]
        nested = [a for a in args if isinstance(a, type) and issubclass(a, BaseModel)]
        if not nested:
            return None
        model = nested[0]
    return model


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Deep-merge `section.field=value` settings; a value is read as TOML, and as text where that is what fits.

    Raises RecipeError for a setting that is not of this form.
    """
    changes: dict[str, Any] = {}
    for setting in overrides:
        path, equals, text = setting.partition("=")
        parts = [part.strip() for part in path.split(".")]
        if not equals or not all(parts):
            raise RecipeError(f"--set {setting!r} is not of the form section.field=value")
        nested: Any = _value_for(parts, text.strip())
        for part in reversed(parts):
            nested = {part: nested}
        changes = deep_merge(changes, nested)
    return lay_over(raw, changes)


def _value_for(parts: Sequence[str], text: str) -> Any:
    """The value that a setting's text stands for: as TOML, unless the field takes only the text itself.

    So `filter.by=none` names a choice, `model.system=none` is no prompt at all, and `problems.config=2024` is a name.
    """
    value = parse_value(text)
    section = _section_at(parts[:-1])
    if section is None or parts[-1] not in section.model_fields or isinstance(value, (str, list, dict)):
        return value
    field = section.model_fields[parts[-1]]
    whole: Any = Annotated[field.annotation, field]  # with its range
    taken: TypeAdapter[Any] = TypeAdapter(whole)
    for candidate in (value, text):
        try:
            taken.validate_python(candidate)
        except ValidationError:
            continue
        return candidate
    return value


def parse_value(text: str) -> Any:
    """A TOML value, or the text itself: `3`, `0.5`, `true`, `[1, 2]`, `{a = 1}`, `none`, `words`."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def lay_over(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with `changes` laid over it; what takes another's place (`OPTIONS_OF`) does not take over its options."""
    for section, (model, named) in OPTIONS_OF.items():
        below, above = raw.get(section), changes.get(section)
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            stale = {
                options
                for name, options in named.items()
                if name in above and above[name] != below.get(name, model.model_fields[name].default)
            }
            raw = {**raw, section: {name: value for name, value in below.items() if name not in stale}}
    return deep_merge(raw, changes)


def deep_merge(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with `changes` laid over it, table by table; neither is altered."""
    merged = dict(raw)
    for name, value in changes.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = deep_merge(below, value)
        else:
            merged[name] = value
    return merged


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The fields in which two recipes' contents differ: dotted name, value in `a`, value in `b`."""
    found: list[tuple[str, Any, Any]] = []
    for name in sorted(set(a) | set(b)):
        left, right, place = a.get(name), b.get(name), f"{prefix}{name}"
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{place}.")
        elif left != right:
            found.append((place, left, right))
    return found


def differing_fields(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The dotted names of the fields in which two recipes' contents differ, with both values."""
    return [f"{place} ({left!r} → {right!r})" for place, left, right in differences(a, b)]
