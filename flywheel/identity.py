"""What a verdict depends on beside the completion: a verifier's name, version, options and source."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flywheel import plugins, protocols
from flywheel.errors import PluginError
from flywheel.fingerprint import digest, file_digest


def verifier_identity(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a verdict depends on beside the completion: name, version, options, and a digest of the source.

    The digest covers the file of the class and the files of its own package that it imports, so an edited
    verifier never passes for the one whose verdicts are on disk. What the verifier's own `identity()`
    returns is added under that name. Raises PluginError.
    """
    cls = plugins.load_verifier(name)
    made = plugins.make_verifier(name, options)
    shown, version = protocols.label(cls)
    found = {"name": shown, "version": version, "options": dict(options), "source": _source_digest(cls)}
    return found | _own_identity(name, made)


def _own_identity(name: str, verifier: protocols.Verifier) -> dict[str, Any]:
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
        for stem in _imported_siblings(current.read_text(encoding="utf-8"), package):
            if (root / f"{stem}.py").is_file():
                ahead.append(root / f"{stem}.py")
            elif (root / stem / "__init__.py").is_file():
                ahead += (root / stem).rglob("*.py")
    return seen


@functools.lru_cache(maxsize=512)  # by content: every stage asks, and an edit must be seen
def _imported_siblings(source: str, package: str) -> frozenset[str]:
    """The first names below `package` that a source's imports lead to; strings that spell one count as well.

    A module that is started in a process of its own is named in a string: `"pkg.sibling:function"`.
    """
    stems: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 1 or module == package or module.startswith(f"{package}."):
                inner = module if node.level == 1 else module[len(package) + 1 :]
                stems |= {inner.split(".")[0]} if inner else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            stems |= {a.name[len(package) + 1 :].split(".")[0] for a in node.names if a.name.startswith(f"{package}.")}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{package}."):
            stems.add(re.split(r"[.:]", node.value[len(package) + 1 :])[0])
    return frozenset(stems)
