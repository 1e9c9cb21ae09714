"""The manifest of a folder, and the keys that its entries are made under: which stages are done, and from what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flywheel import store
from flywheel.fingerprint import digest, file_digest, folder_digest


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished stage: the key it was made under, what went into the key, its files, and its clock."""

    key: str
    ingredients: dict[str, Any]
    files: dict[str, dict[str, Any]]
    info: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished: str = ""


class Manifest:
    """`manifest.json` of a folder: which stages are done. It alone holds clocks; no row file does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "manifest.json"

    def entries(self) -> dict[str, Entry]:
        """The finished stages by name, in the order in which they finished."""
        if not self.path.exists():
            return {}
        return {name: Entry(**entry) for name, entry in store.read_json(self.path)["stages"].items()}

    def get(self, stage: str) -> Entry | None:
        """The entry of a stage whose files are all still there, else None."""
        entry = self.entries().get(stage)
        if entry is None or any(not (self.folder / name).exists() for name in entry.files):
            return None
        return entry

    def record(self, stage: str, entry: Entry) -> None:
        """Declare a stage done. Call it last, after its files are in place."""
        self._write({**self.entries(), stage: entry})

    def forget(self, stages: Iterable[str]) -> None:
        """Drop entries and delete their files: the stages count as never run."""
        entries = self.entries()
        dropped = {name: entries.pop(name) for name in list(stages) if name in entries}
        if dropped:
            self._write(entries)
        for entry in dropped.values():
            for name in entry.files:
                store.remove(self.folder / name)

    def _write(self, entries: dict[str, Entry]) -> None:
        store.write_json(self.path, {"stages": {name: asdict(entry) for name, entry in entries.items()}})


def describe(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file, or of all files of a folder."""
    if path.is_dir():
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        return {"bytes": size, "sha256": folder_digest(path)}
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


def stage_key(ingredients: dict[str, Any]) -> str:
    """SHA-256 over what a stage is made from: its name, version, settings, seed and inputs."""
    return digest(ingredients)
