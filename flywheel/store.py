"""Files of a run: Parquet rows, atomic JSON, parts that survive a kill, and the lock.

The rule all of it serves: a stage is done when its entry stands in `manifest.json` (`flywheel.manifest`), and the
entry is written last. Whatever has no entry is unfinished work that the next run may go on with.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import RunError

Row = TypeVar("Row")

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _columns(row_type: type) -> dict[str, tuple[pa.DataType, bool]]:
    """Column name → (Arrow type, whether values are kept as JSON text) of a row dataclass."""
    hints = typing.get_type_hints(row_type)
    columns = {}
    for f in fields(row_type):
        hint = hints[f.name]
        if isinstance(hint, types.UnionType):
            hint = next(a for a in hint.__args__ if a is not type(None))
        base = hint if isinstance(hint, type) else None
        if base is not None and issubclass(base, str):
            columns[f.name] = (pa.string(), False)
        elif base in _ARROW:
            columns[f.name] = (_ARROW[base], False)
        else:
            columns[f.name] = (pa.string(), True)
    return columns


def arrow_schema(row_type: type) -> pa.Schema:
    """The Arrow schema of a row dataclass; lists and dicts are columns of JSON text."""
    return pa.schema([pa.field(name, kind) for name, (kind, _) in _columns(row_type).items()])


def to_table(row_type: type[Row], rows: Sequence[Row]) -> pa.Table:
    """Rows as an Arrow table. Lone surrogates, which UTF-8 cannot hold, become U+FFFD."""
    arrays = []
    for name, (kind, as_json) in _columns(row_type).items():
        values = [getattr(row, name) for row in rows]
        if as_json:
            values = [None if v is None else json.dumps(v, ensure_ascii=False, sort_keys=True) for v in values]
        if kind == pa.string():
            values = [None if v is None else _storable(str(v)) for v in values]
        arrays.append(pa.array(values, kind))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(row_type))


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def from_table(row_type: type[Row], table: pa.Table) -> list[Row]:
    """The rows of a table that `to_table` made."""
    columns = {}
    for name, (_, as_json) in _columns(row_type).items():
        values = table.column(name).to_pylist()
        columns[name] = [None if v is None else json.loads(v) for v in values] if as_json else values
    return [row_type(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def write_rows(path: Path, row_type: type[Row], rows: Sequence[Row]) -> None:
    """Write rows to a Parquet file, atomically. Raises RunError when the disk is full."""
    with replacing(path) as temporary:
        pq.write_table(to_table(row_type, rows), temporary, compression="zstd")


def read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    """Read rows from a Parquet file. Raises RunError if it is missing or damaged."""
    try:
        return from_table(row_type, pq.read_table(path, schema=arrow_schema(row_type)))
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"cannot read {path}: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Write JSON, atomically and readable. Raises RunError when the disk is full."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises RunError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, synced to disk, when the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a quota or missing rights into a RunError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"no space left on the disk while writing {path}; free some and run the same command again: "
                "what is finished is kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunError(f"cannot write {path}: {error.strerror}; choose another place with --run-dir") from error
        raise


class Parts:
    """Finished pieces of an unfinished file: `samples.parts/000007.parquet`, one file an `append`.

    A piece is there whole or not at all, so whatever a kill interrupts, `read` gives each row once.
    Pieces belong to the stage key they were made under; those of another key are deleted.
    """

    def __init__(self, folder: Path, row_type: type[Any], key: str) -> None:
        self.folder, self.row_type, self.key = folder, row_type, key
        marker = folder / "key"
        if folder.exists() and (not marker.exists() or marker.read_text() != key):
            shutil.rmtree(folder)
        if not folder.exists():
            with replacing(marker) as temporary:
                temporary.write_text(key)
        self._next = 1 + max((int(p.stem) for p in self._files()), default=-1)

    def _files(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("*.parquet") if p.stem.isdigit())

    def append(self, rows: Sequence[Any]) -> None:
        """Keep rows from now on."""
        if rows:
            write_rows(self.folder / f"{self._next:06d}.parquet", self.row_type, rows)
            self._next += 1

    def read(self) -> list[Any]:
        """All rows kept so far, in the order in which they were appended."""
        return [row for path in self._files() for row in read_rows(path, self.row_type)]

    def keep(self, rows: Sequence[Any]) -> None:
        """Have these rows and no others."""
        for path in self._files():
            path.unlink()
        self.append(rows)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """Make `target` the same file or folder of files as `source`, whole or not at all.

    Where it cannot be a hard link it is a copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    remove(temporary)
    remove(target)  # of a process that ended between here and the manifest
    try:
        if source.is_dir():
            shutil.copytree(source, temporary, copy_function=_link_file)
        else:
            _link_file(source, temporary)
        os.replace(temporary, target)
    finally:
        remove(temporary)


def _link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
