"""Where installed packages lie on disk, so that the sandbox can show just these."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def folders(distributions: Sequence[str]) -> list[str]:
    """The top-level folders and files of installed distributions and of all they need, sorted.

    Raises ValueError for one that is not installed.
    """
    waiting, seen, found = list(distributions), set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in distributions:
                raise ValueError(f"packages: {name!r} is not installed") from None
            continue  # an optional need
        for file in distribution.files or []:
            if file.parts[0] not in ("..", "bin") and len(file.parts) > 1:
                found.add(str(Path(str(distribution.locate_file(file.parts[0])))))
            elif file.suffix in (".py", ".so"):
                found.add(str(Path(str(distribution.locate_file(file)))))
        needs = (Requirement(text) for text in distribution.requires or [])
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return sorted(found)
