"""Verifiers, policies and generators of problems by name: the door through which other people's code comes in.

A name is one of three things: a registered one (`math`), a class in an importable module
(`pkg.mod:Name`), or a class in a file (`file.py:Name`). Registered names come from the entry-point
groups `flywheel.verifiers`, `flywheel.policies` and `flywheel.generators`; the built-in ones stand there like anyone's.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import sys
import types
import typing
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from flywheel.errors import PluginError
from flywheel.foreign import told
from flywheel.protocols import Generator, Verifier, lack_of

Kind = Literal["verifier", "policy", "generator"]
GROUPS: dict[Kind, str] = {
    "verifier": "flywheel.verifiers",
    "policy": "flywheel.policies",
    "generator": "flywheel.generators",
}
METHODS: dict[Kind, str] = {"verifier": "verify", "policy": "generate", "generator": "rows"}


# -- from a name to a class -------------------------------------------------------------------------


def load_class(name: str, kind: Kind) -> type:
    """The class that a name leads to. Raises PluginError where it leads nowhere, saying what is known."""
    module_name, colon, attribute = name.partition(":")
    if not colon:
        return _registered(name, kind)
    if not module_name or not attribute:
        raise PluginError(f"{kind} {name!r} is not of the form 'pkg.mod:Name' or 'file.py:Name'")
    module = _from_file(module_name, name, kind) if module_name.endswith(".py") else _module(module_name, name, kind)
    return _class_in(module, attribute, name, kind)


def load_verifier(name: str) -> type:
    """The class of a verifier, by any of its three kinds of name. Raises PluginError."""
    return load_class(name, "verifier")


def known_verifiers() -> list[str]:
    """The names of all registered verifiers, built in or installed."""
    return known_names("verifier")


def known_names(kind: Kind) -> list[str]:
    """The registered names of a kind, sorted."""
    return sorted({e.name for e in _registrations(kind, tuple(sys.path))})


@functools.cache  # reading what hundreds of installed packages register takes 40 ms
def _registrations(kind: Kind, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """All that is registered under a kind, by the packages on `path`, which is `sys.path`."""
    return tuple(entry_points(group=GROUPS[kind]))


def _registered(name: str, kind: Kind) -> type:
    found = {e.value: e for e in _registrations(kind, tuple(sys.path)) if e.name == name}
    if len(found) > 1:
        raise PluginError(f"{kind} {name!r} is registered more than once: {', '.join(sorted(found))}; uninstall one")
    if not found:
        known = known_names(kind)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise PluginError(
            f"unknown {kind} {name!r}; known: {', '.join(known) or 'none'}.{hint} "
            "For your own give 'pkg.mod:Name' or 'file.py:Name'"
        )
    value = next(iter(found))
    return load_class(value, kind) if ":" in value else _class_in(_module(value, name, kind), name, name, kind)


def _module(module_name: str, name: str, kind: Kind) -> types.ModuleType:
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        raise PluginError(f"{kind} {name!r}: cannot import {module_name}: {type(error).__name__}: {error}") from error


def _from_file(path: str, name: str, kind: Kind) -> types.ModuleType:
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise PluginError(f"{kind} {name!r}: there is no file {file}")
    try:
        return import_file(file, "flywheel_plugin")
    except Exception as error:
        raise PluginError(f"{kind} {name!r}: cannot import {file}: {type(error).__name__}: {error}") from error


def import_file(file: Path, prefix: str) -> types.ModuleType:
    """The module in a `.py` file, imported once a process under a name made of `prefix`, its stem and its place.

    Raises whatever the file's own code raises.
    """
    name = f"{prefix}_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # always so for an existing .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _class_in(module: types.ModuleType, attribute: str, name: str, kind: Kind) -> type:
    try:
        found = getattr(module, attribute)
    except AttributeError:
        place = name.rpartition(":")[0] or module.__name__
        there = [n for n, value in vars(module).items() if _is_one(value, kind) and value.__module__ == module.__name__]
        known = f"; it has {', '.join(there)}" if there else ""
        raise PluginError(f"{kind} {name!r}: {place} has no {attribute!r}{known}") from None
    if not _is_one(found, kind):
        raise PluginError(f"{kind} {name!r}: {attribute} is not a class with a {METHODS[kind]}() method")
    return found


def _is_one(found: Any, kind: Kind) -> bool:
    return isinstance(found, type) and callable(getattr(found, METHODS[kind], None))


# -- from a class to an instance --------------------------------------------------------------------


def make_verifier(name: str, options: Mapping[str, Any]) -> Verifier:
    """A verifier with its options set. Raises PluginError for an unknown option or a value that does not fit."""
    return typing.cast(Verifier, _made(name, options, "verifier"))


def make_generator(name: str, options: Mapping[str, Any]) -> Generator:
    """A generator of problems with its options set. Raises PluginError as `make_verifier` does."""
    return typing.cast(Generator, _made(name, options, "generator"))


def _made(name: str, options: Mapping[str, Any], kind: Kind) -> object:
    cls = load_class(name, kind)
    checked = _checked_options(cls, name, options, kind)
    with told(f"{kind} {name!r}"):
        try:
            return cls(**checked)
        except (TypeError, ValueError) as error:
            raise PluginError(f"{kind} {name!r} does not take the options {dict(options)!r}: {error}") from error


def make_able_verifier(name: str, options: Mapping[str, Any]) -> Verifier:
    """A verifier with its options set, which lacks nothing here. Raises PluginError, also for what it lacks."""
    made = make_verifier(name, options)
    if lack := lack_of(made):
        raise PluginError(f"verifier {name!r} cannot judge here: {lack}")
    return made


def _checked_options(cls: type, name: str, options: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls):
        return dict(options)
    known = [f.name for f in dataclasses.fields(cls) if f.init]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
            raise PluginError(f"{kind} {name!r} has no option {option!r}; {hint}")
    defaults = (dataclasses.MISSING, dataclasses.MISSING)
    needed = [f.name for f in dataclasses.fields(cls) if f.init and (f.default, f.default_factory) == defaults]
    if missing := [option for option in needed if option not in options]:
        where = f"verify.options, or --option {missing[0]}=…" if kind == "verifier" else "problems.parameters"
        raise PluginError(f"{kind} {name!r} needs the option {missing[0]!r} ({where})")
    return {option: _checked_value(cls, name, option, value, kind) for option, value in options.items()}


def _checked_value(cls: type, name: str, option: str, value: Any, kind: Kind) -> Any:
    # Imported here: workers of a verifier without options start without it.
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    try:
        hint = typing.get_type_hints(cls, include_extras=True)[option]
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (NameError, TypeError, PydanticUserError):
        return value  # an annotation that cannot be checked from outside is the class's own business
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise PluginError(f"{kind} {name!r}: option {option} = {value!r}: {first[0].lower()}{first[1:]}") from None
