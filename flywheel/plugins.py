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
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from flywheel.errors import PluginError
from flywheel.foreign import told
from flywheel.types import Judgement, Outcome, PathKind, Problem

Kind = Literal["verifier", "policy", "generator"]
GROUPS: dict[Kind, str] = {
    "verifier": "flywheel.verifiers",
    "policy": "flywheel.policies",
    "generator": "flywheel.generators",
}
DEADLINE_SECONDS = 3.0
"""How long one completion may take where neither the recipe nor its verifier says otherwise."""
METHODS: dict[Kind, str] = {"verifier": "verify", "policy": "generate", "generator": "rows"}


@runtime_checkable
class Verifier(Protocol):
    """Judges one completion of one problem.

    Options are the fields of a dataclass; a recipe sets them under `[verify.options]`. Class
    attributes, all optional: `name` and `version` (they stand in every verdict; raise the version when
    verdicts change), `isolation` (what stands between the completion and the machine; `worker` unless
    the verifier brings more). A method `prepare()`, where there is one, does what is slow and needed
    once, such as importing a large library; the verifier calls it itself when it comes to need it, and
    a worker does not count its time against the completion's deadline.

    Further forms, all optional and read from the instance, so that options may decide (`traits`):

    `verify` may be `async def`. A worker then runs up to `concurrency` (16) of its calls side by side on
    one event loop, each with its own deadline.

    `verify_batch(problems, completions)` returns one value a completion, in their order, and agrees
    with `verify`. It gets up to `batch_size` (32) at once and has the deadline of as many single calls.
    Where it raises, hangs, ends the worker or returns another number of values, each member is judged
    by `verify`, alone, so that only the guilty completion pays.

    `verify_group(problem, completions)` gets all samples of one problem and returns one value each: for
    votes and comparisons. It has the deadline of as many single calls; a group that cannot be judged is
    ERROR as a whole, because no single completion is known to be at fault. Such a verifier judges when
    sampling has ended.

    `exclusive = True` says that it brings an engine or a large model of its own: the run ends its own
    engine first, one worker serves it, without a limit on memory and with all processors.

    `deadline_seconds` says how long one completion may take where the recipe does not (3).

    `deadline_outcome = "error"` says that a missed deadline is no completion's fault, because what the
    verifier waits for (a server, an engine) can be slow by itself; otherwise it is `timeout`, which counts
    as not correct.

    `label_free = True` says that it needs no reference answer; only such a verifier can judge problems that the policy
    wrote. `uses_network`, `unsure_is_error`, `problems()` and `example(problem)` are read by `flywheel check` alone
    (docs/verifiers.md).

    `path_kind` says what the reasoning path of a right answer is: "equations" (else its words; the default),
    "code" (a Python program up to names, comments and layout), or "text" (its words).

    `min_votes` says how many completions of a problem a `verify_group` needs for a verdict (1): a recipe that samples
    fewer is refused.

    `lacks()` returns in words what this verifier would need and this machine does not have, such as a program; None
    where it can judge. A run asks it before anything is loaded.

    `unfit(problem)` returns in words why it can judge no completion of a problem, `undecidable(samples)` why so many
    completions of one could get no verdict; None where they can. `answer_is_question = True` says that `answer` states
    what is asked, so that a hint has to show `solution`. A run asks these as well (`flywheel.judgeable`).

    `identity()` returns what verdicts depend on beyond source and options, as JSON-shaped data: the
    digest of a model's weights, an endpoint's name. It becomes part of the verdicts' key.
    """

    def verify(
        self, problem: Problem, completion: str
    ) -> (
        Judgement
        | float
        | bool
        | Mapping[str, Any]
        | Awaitable[Judgement | float | bool | Mapping[str, Any] | None]
        | None
    ):
        """Judge `completion`. True and 1.0 are correct, None means that there was nothing to judge."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Makes problems (`problems.source = "generator"`). Options are the fields of a dataclass, as a verifier's are."""

    def rows(self, seed: int) -> Iterator[Mapping[str, Any]]:
        """Rows as a problem file has them (prompt, answer; id, solution, verifier where there are), the same ones for
        the same seed. They may be without end: `problems.count` takes as many as differ."""
        ...


@dataclass(frozen=True, slots=True)
class Traits:
    """How a verifier wants to be called, and what it needs; see `Verifier`. `at_once`: completions in one go."""

    group: bool = False
    batch: bool = False
    concurrent: bool = False
    exclusive: bool = False
    at_once: int = 1
    deadline_outcome: Outcome = Outcome.TIMEOUT
    path_kind: PathKind = PathKind.EQUATIONS
    min_votes: int = 1
    deadline_seconds: float = DEADLINE_SECONDS


def traits(verifier: Verifier) -> Traits:
    """What an instance's methods and attributes say of how it wants to be called."""
    group, batch = (callable(getattr(verifier, name, None)) for name in ("verify_group", "verify_batch"))
    concurrent = not batch and inspect.iscoroutinefunction(verifier.verify)
    most = getattr(verifier, "batch_size", 32) if batch else getattr(verifier, "concurrency", 16) if concurrent else 1
    missed = getattr(verifier, "deadline_outcome", Outcome.TIMEOUT)
    if missed not in (Outcome.TIMEOUT, Outcome.ERROR):
        raise PluginError(f"deadline_outcome = {missed!r} of {type(verifier).__name__}; known: timeout, error")
    exclusive = bool(getattr(verifier, "exclusive", False))
    kind = getattr(verifier, "path_kind", PathKind.EQUATIONS)
    if kind not in list(PathKind):
        raise PluginError(f"path_kind = {kind!r} of {type(verifier).__name__}; known: {', '.join(PathKind)}")
    votes = int(getattr(verifier, "min_votes", 1)) if group else 1
    deadline = getattr(verifier, "deadline_seconds", DEADLINE_SECONDS)
    if not (isinstance(deadline, int | float) and 0.0 < deadline < float("inf")):
        raise PluginError(f"deadline_seconds = {deadline!r} of {type(verifier).__name__}; it is a number above 0")
    return Traits(
        group,
        batch,
        concurrent,
        exclusive,
        at_once=max(1, int(most)),
        deadline_outcome=Outcome(missed),
        path_kind=PathKind(kind),
        min_votes=votes,
        deadline_seconds=float(deadline),
    )


def label_free(verifier: Verifier) -> bool:
    """Whether an instance says that it judges without a reference answer."""
    return bool(getattr(verifier, "label_free", False))


def lack_of(verifier: Verifier) -> str | None:
    """What an instance says that it lacks on this machine, in one line; None where it lacks nothing or does not say."""
    lacks = getattr(verifier, "lacks", None)
    said = lacks() if callable(lacks) else None
    return " ".join(str(said).split()) if said else None


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


def label(cls: type) -> tuple[str, str]:
    """A verifier class's name and version as they stand in verdicts."""
    return str(getattr(cls, "name", cls.__name__)), str(getattr(cls, "version", ""))
