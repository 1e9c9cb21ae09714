"""Verifiers and policies by name: the door through which other people's code comes in.

A name is one of three things: a registered one (`math`), a class in an importable module
(`pkg.mod:Name`), or a class in a file (`file.py:Name`). Registered names come from the entry-point
groups `flywheel.verifiers` and `flywheel.policies`; the built-in ones stand there like anyone's.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from flywheel.errors import PluginError
from flywheel.fingerprint import digest, file_digest
from flywheel.types import Judgement, Outcome, PathKind, Problem

Kind = Literal["verifier", "policy"]
GROUPS: dict[Kind, str] = {"verifier": "flywheel.verifiers", "policy": "flywheel.policies"}
METHODS: dict[Kind, str] = {"verifier": "verify", "policy": "generate"}

LONGEST_TEXT = 500
"""Characters of an answer or a detail that are kept: verdicts are rows, not documents."""

RIGHT = 1.0 - 1e-9
"""A bare number is a right answer from here on; partial credit stays partial."""


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

    `deadline_outcome = "error"` says that a missed deadline is no completion's fault, because what the
    verifier waits for (a server, an engine) can be slow by itself; otherwise it is `timeout`, which counts
    as not correct.

    `paths` says what the reasoning path of a right answer is: "equations" (else its words; the default),
    "code" (a Python program up to names, comments and layout), or "text" (its words).

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


@dataclass(frozen=True, slots=True)
class Traits:
    """How a verifier wants to be called, and what it needs; see `Verifier`. `at_once`: completions in one go."""

    group: bool = False
    batch: bool = False
    concurrent: bool = False
    exclusive: bool = False
    at_once: int = 1
    deadline_outcome: Outcome = Outcome.TIMEOUT
    paths: PathKind = PathKind.EQUATIONS


def traits(verifier: Verifier) -> Traits:
    """What an instance's methods and attributes say of how it wants to be called."""
    group, batch = (callable(getattr(verifier, name, None)) for name in ("verify_group", "verify_batch"))
    concurrent = not batch and inspect.iscoroutinefunction(verifier.verify)
    most = getattr(verifier, "batch_size", 32) if batch else getattr(verifier, "concurrency", 16) if concurrent else 1
    missed = getattr(verifier, "deadline_outcome", Outcome.TIMEOUT)
    if missed not in (Outcome.TIMEOUT, Outcome.ERROR):
        raise PluginError(f"deadline_outcome = {missed!r} of {type(verifier).__name__}; known: timeout, error")
    exclusive = bool(getattr(verifier, "exclusive", False))
    paths = getattr(verifier, "paths", PathKind.EQUATIONS)
    if paths not in set(PathKind):
        known = ", ".join(PathKind)
        raise PluginError(f"paths = {paths!r} of {type(verifier).__name__}; known: {known}")
    return Traits(group, batch, concurrent, exclusive, max(1, int(most)), Outcome(missed), PathKind(paths))


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
    return sorted({e.name for e in entry_points(group=GROUPS[kind])})


def _registered(name: str, kind: Kind) -> type:
    found: dict[str, EntryPoint] = {e.value: e for e in entry_points(group=GROUPS[kind], name=name)}
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
    module_name = f"flywheel_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None  # always so for an existing .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their own module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise PluginError(f"{kind} {name!r}: cannot import {file}: {type(error).__name__}: {error}") from error
    return module


def _class_in(module: types.ModuleType, attribute: str, name: str, kind: Kind) -> type:
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise PluginError(f"{kind} {name!r}: {module.__name__} has no {attribute!r}") from None
    if not (isinstance(found, type) and callable(getattr(found, METHODS[kind], None))):
        raise PluginError(f"{kind} {name!r}: {attribute} is not a class with a {METHODS[kind]}() method")
    return found


# -- from a class to an instance --------------------------------------------------------------------


def make_verifier(name: str, options: Mapping[str, Any]) -> Verifier:
    """A verifier with its options set. Raises PluginError for an unknown option or a value that does not fit."""
    cls = load_verifier(name)
    try:
        made = cls(**_checked_options(cls, name, options))
    except (TypeError, ValueError) as error:
        raise PluginError(f"verifier {name!r} does not take the options {dict(options)!r}: {error}") from error
    return typing.cast(Verifier, made)


def _checked_options(cls: type, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls):
        return dict(options)
    known = [f.name for f in dataclasses.fields(cls) if f.init]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
            raise PluginError(f"verifier {name!r} has no option {option!r}; {hint}")
    return {option: _checked_value(cls, name, option, value) for option, value in options.items()}


def _checked_value(cls: type, name: str, option: str, value: Any) -> Any:
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
        raise PluginError(f"verifier {name!r}: option {option} = {value!r}: {first[0].lower()}{first[1:]}") from None


def label(cls: type) -> tuple[str, str]:
    """A verifier class's name and version as they stand in verdicts."""
    return str(getattr(cls, "name", cls.__name__)), str(getattr(cls, "version", ""))


# -- what a verdict depends on ----------------------------------------------------------------------


def verifier_identity(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a verdict depends on beside the completion: name, version, options, and a digest of the source.

    The digest covers the file of the class and the files of its own package that it imports, so an edited
    verifier never passes for the one whose verdicts are on disk. What the verifier's own `identity()`
    returns is added under that name. Raises PluginError.
    """
    cls = load_verifier(name)
    made = make_verifier(name, options)
    shown, version = label(cls)
    found = {"name": shown, "version": version, "options": dict(options), "source": _source_digest(cls)}
    return found | _own_identity(name, made)


def _own_identity(name: str, verifier: Verifier) -> dict[str, Any]:
    identity = getattr(verifier, "identity", None)
    if identity is None:
        return {}
    try:
        told = identity()
        digest(told)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"verifier {name!r}: identity(): {type(error).__name__}: {error}") from error
    return {"identity": told}


def _source_digest(cls: type) -> str:
    source = inspect.getsourcefile(cls)
    if source is None:
        raise PluginError(f"verifier {cls.__module__}:{cls.__name__} has no source file to tell its versions by")
    files = _own_imports(Path(source), _package_of(cls.__module__))
    return hashlib.sha256("".join(file_digest(f) for f in sorted(files)).encode()).hexdigest()


def _package_of(module_name: str) -> str:
    return str(getattr(sys.modules[module_name], "__package__", "") or "")


def _own_imports(file: Path, package: str) -> set[Path]:
    """`file` and the modules of its own package that it imports, directly or through one another.

    A sub-package that is imported counts whole: its modules may also be loaded by name, in a process of its own.
    """
    seen: set[Path] = set()
    ahead = [file]
    root = file.parent
    while ahead:
        current = ahead.pop()
        if current in seen:
            continue
        seen.add(current)
        if not package:
            continue
        for stem in _imported_siblings(current, package):
            if (root / f"{stem}.py").is_file():
                ahead.append(root / f"{stem}.py")
            elif (root / stem / "__init__.py").is_file():
                ahead += (root / stem).rglob("*.py")
    return seen


def _imported_siblings(file: Path, package: str) -> set[str]:
    """The first names below `package` that a file's imports lead to; strings that spell one count as well.

    A module that is started in a process of its own is named in a string: `"pkg.sibling:function"`.
    """
    stems: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 1 or module == package or module.startswith(f"{package}."):
                inner = module if node.level == 1 else module[len(package) + 1 :]
                stems |= {inner.split(".")[0]} if inner else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            stems |= {a.name[len(package) + 1 :].split(".")[0] for a in node.names if a.name.startswith(f"{package}.")}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{package}."):
            stems.add(re.split(r"[.:]", node.value[len(package) + 1 :])[0])
    return stems


# -- from what a plug-in returns to a judgement -----------------------------------------------------


def to_judgement(value: Any) -> Judgement:
    """A judgement from whatever a verifier returned.

    True is correct, False wrong, None nothing to judge. A number in [0, 1] is a score, and correct only
    where it is 1: a verifier for which less is enough says so with a Judgement or a mapping. A mapping has
    `outcome` or `score` (or both), and may have `answer` and `detail`. NaN, infinities, scores outside
    [0, 1] and all other values are ERROR, with the value in `detail`.
    """
    if isinstance(value, Judgement):
        return _judgement(value.outcome, value.score, value.answer, value.detail)
    if value is None:
        return Judgement(Outcome.NO_ANSWER, 0.0)
    if isinstance(value, bool):
        return Judgement(Outcome.CORRECT if value else Outcome.WRONG, 1.0 if value else 0.0)
    if isinstance(value, (int, float)):
        return _from_score(value, None, "")
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if type(value).__module__ in ("numpy", "torch"):
        return _from_array(value)
    return broken(f"returned {type(value).__name__} {_short(repr(value))}, which is no judgement")


def broken(detail: str) -> Judgement:
    """The judgement for a verifier that failed: ERROR, never "wrong"."""
    return Judgement(Outcome.ERROR, 0.0, None, clean(detail))


def clean(text: str) -> str:
    """One short line that any file format can carry: no line breaks, NULs or lone surrogates."""
    kept = text[: LONGEST_TEXT + 1].encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
    return _short(" ".join(kept.split()))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _from_array(value: Any) -> Judgement:
    try:
        return to_judgement(value.item())
    except (ValueError, RuntimeError) as error:  # more than one element
        return broken(f"returned {type(value).__name__}, which is no single number: {error}")


def _from_mapping(value: Mapping[Any, Any]) -> Judgement:
    answer, detail = value.get("answer"), value.get("detail", "")
    if "outcome" in value:
        outcome = value["outcome"]
        default = 1.0 if outcome == Outcome.CORRECT else 0.0
        return _judgement(outcome, value.get("score", default), answer, detail)
    if "score" in value:
        return _from_score(value["score"], answer, detail)
    return broken(f"returned a mapping with neither 'outcome' nor 'score': {_short(repr(sorted(map(str, value))))}")


def _from_score(score: Any, answer: Any, detail: Any) -> Judgement:
    right = isinstance(score, (int, float)) and score >= RIGHT
    return _judgement(Outcome.CORRECT if right else Outcome.WRONG, score, answer, detail)


def _judgement(outcome: Any, score: Any, answer: Any, detail: Any) -> Judgement:
    try:
        known = Outcome(outcome)
    except ValueError:
        return broken(f"returned the outcome {outcome!r}; known: {', '.join(Outcome)}")
    if not isinstance(score, (int, float)) or not math.isfinite(score) or not 0.0 <= score <= 1.0:
        return broken(f"returned the score {score!r}; a score is a number from 0 to 1")
    shown = None if answer is None else clean(str(answer))
    return Judgement(known, float(score), shown, clean(str(detail)))
