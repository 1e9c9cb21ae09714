"""Where an adapted function comes from: found by name without importing it, loaded once, and told apart by digest."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from flywheel import PluginError, import_file

INSTALLED = ("site-packages", "dist-packages")


def locate(function: str) -> tuple[Path, Path]:
    """The file that a function's name leads to, and the folder its absolute imports start from.

    A name is `file.py:name` or `pkg.mod:name`. Nothing but the parents of a namespace package is imported, so a
    recipe is checked without running other people's code here. Raises PluginError.
    """
    place, _, attribute = function.partition(":")
    if not place or not attribute:
        raise PluginError(f"function {function!r} is not of the form 'file.py:name' or 'pkg.mod:name'")
    if place.endswith(".py"):
        file = Path(place).expanduser().resolve()
        if not file.is_file():
            raise PluginError(f"function {function!r}: there is no file {file}")
        return file, file.parent
    top, *rest = place.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError) as error:
        raise PluginError(f"function {function!r}: {error}") from None
    if spec is None:
        raise PluginError(f"function {function!r}: there is no module {top!r}; install it, or give 'file.py:name'")
    if not spec.submodule_search_locations:
        found = [Path(spec.origin or "")] if not rest else []
    else:
        below = [Path(folder, *rest) for folder in spec.submodule_search_locations]
        found = [p for base in below for p in (base / "__init__.py", base.with_suffix(".py"))]
    file = next((p for p in found if p.is_file() and p.suffix == ".py"), Path())
    if not file.name:
        raise PluginError(f"function {function!r}: the module {place} has no Python file")
    return file, file.parents[len(rest) + (file.name == "__init__.py")]


def check(function: str) -> None:
    """Raise PluginError where the file of a function is missing, is no Python, or plainly lacks the name."""
    file, _ = locate(function)
    attribute = function.partition(":")[2].split(".")[0]
    bound = _bound_names(_parsed(file).body)
    if bound is not None and attribute not in bound:
        near = ", ".join(sorted(n for n in bound if not n.startswith("_"))[:8])
        raise PluginError(f"function {function!r}: {file.name} has no {attribute!r}; it has {near or 'nothing'}")


@lru_cache(maxsize=64)
def load(function: str) -> Any:
    """The function itself, imported once a process. Raises PluginError with what its import raised."""
    file, folder = locate(function)
    place, _, attribute = function.partition(":")
    try:
        module = _from_file(file, folder) if place.endswith(".py") else importlib.import_module(place)
        found: Any = module
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise PluginError(f"function {function!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise PluginError(f"function {function!r} is a {type(found).__name__}, which cannot be called")
    return found


def digest(function: str) -> dict[str, str]:
    """What tells versions of a function apart: the digest of its source, and the installed package's version.

    Of your own code it covers the file and all files of yours that it imports, directly or through one another;
    of an installed package the file and the package's version.
    """
    file, root = locate(function)
    installed = any(part in INSTALLED for part in file.parts)
    files = {file} if installed else _with_imports(file, root)
    content = "".join(hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files))
    found = {"function_source": hashlib.sha256(content.encode()).hexdigest()}
    if installed:
        top = function.partition(":")[0].split(".")[0]
        found["function_package"] = ", ".join(f"{d} {version(d)}" for d in packages_distributions().get(top, []))
    return found


def _from_file(file: Path, folder: Path) -> Any:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: a reward file finds its neighbours, and shadows nobody's module
    return import_file(file, "flywheel_adapted")


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise PluginError(f"{file} is no Python that can be read: {error}") from None
    except OSError as error:
        raise PluginError(f"{file} cannot be read: {error.strerror}") from None


def _bound_names(body: list[ast.stmt]) -> set[str] | None:
    """The names that a module's top level binds, or None where only running it would tell."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif not isinstance(node, (ast.Expr, ast.Pass, ast.Assert)):
            return None  # a conditional, a loop, a `with`: it may bind anything
    return None if "*" in names or "__getattr__" in names else names


def _with_imports(file: Path, root: Path) -> set[Path]:
    seen: set[Path] = set()
    ahead = [file]
    while ahead:
        current = ahead.pop()
        if current not in seen:
            seen.add(current)
            ahead += [p for base, dotted in _imports(current, root) for p in _files_of(base, dotted)]
    return seen


def _imports(file: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """Each imported dotted name with the folder that it counts from."""
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            yield from ((root, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= len(file.parents):
            base = file.parents[node.level - 1] if node.level else root
            yield from ((base, ".".join(filter(None, (node.module, alias.name)))) for alias in node.names)


def _files_of(base: Path, dotted: str) -> Iterator[Path]:
    parts = dotted.split(".")
    for length in range(1, len(parts) + 1):
        place = base.joinpath(*parts[:length])
        yield from (p for p in (place.with_name(place.name + ".py"), place / "__init__.py") if p.is_file())
