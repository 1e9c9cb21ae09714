"""Where problems are read from: a generator (reasoning-gym's or a plug-in), local files, or a `datasets` data set.

Each source is an iterator of rows; a row knows where it stands, so that every complaint can say so.
"""

from __future__ import annotations

import difflib
import gzip
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel import plugins
from flywheel.errors import ProblemError
from flywheel.foreign import told
from flywheel.recipe import ProblemSource

HUB_SECONDS = 10.0
"""How long the hub may take to answer before it counts as out of reach."""
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source. `where` names it for people: `train.jsonl line 12`."""

    where: str
    fields: Mapping[str, Any]


def read_source(source: ProblemSource) -> Iterator[Row]:
    """The rows of a source, in its order. Raises ProblemError where it is missing, empty or malformed."""
    readers = {"reasoning_gym": _reasoning_gym, "generator": _generated, "file": _files, "datasets": _data_set}
    rows = readers[source.source](source)
    first = next(rows, None)
    if first is None:
        raise ProblemError(f"{describe(source)} is empty; give it at least one problem")
    return itertools.chain([first], rows)


def describe(source: ProblemSource) -> str:
    """A source's name for people."""
    if source.source == "file":
        return ", ".join(_paths(source)) or "problems.path"
    return f"{source.source} {source.name!r}"


# -- generators -------------------------------------------------------------------------------------


def _generated(source: ProblemSource) -> Iterator[Row]:
    """A plug-in's problems, as far as it goes: the caller takes as many as differ."""
    if source.count is None:
        raise ProblemError(f"generator {source.name!r} may go on without end: set problems.count")
    generator = plugins.make_generator(source.name, source.parameters)
    with told(f"generator {source.name!r}"):
        for index, fields in enumerate(generator.rows(source.seed)):
            if not isinstance(fields, Mapping):
                raise ProblemError(f"generator {source.name!r} yields {str(fields)[:40]!r}; each row must be a mapping")
            yield Row(f"{source.name} problem {index}", fields)


def _reasoning_gym(source: ProblemSource) -> Iterator[Row]:
    """A task's problems without end (as far as the task goes): the caller takes as many as differ."""
    reserved = sorted({"seed", "size"} & set(source.parameters))
    if reserved:
        raise ProblemError(f"problems.parameters has {reserved}; use problems.seed and problems.count")
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ProblemError(
            f"reasoning_gym cannot be imported ({error}); install it: pip install reasoning-gym"
        ) from None
    if source.name not in DATASETS:
        near = difflib.get_close_matches(source.name, DATASETS, n=3)
        raise ProblemError(
            f"reasoning_gym has no task {source.name!r}; {'near: ' + ', '.join(near) if near else 'see its gallery'}"
        )
    if source.count is None:
        raise ProblemError(f"reasoning_gym {source.name!r} generates without end: set problems.count")
    try:
        # A problem depends on the seed and its index alone, so asking for more than needed costs nothing.
        tasks = reasoning_gym.create_dataset(
            source.name, seed=source.seed, size=4 * source.count + 1000, **source.parameters
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise ProblemError(
            f"reasoning_gym {source.name!r} does not take the parameters {source.parameters!r}: {error}"
        ) from None
    for index in range(len(tasks)):
        entry = tasks[index]
        known = entry.get("metadata") or {}
        fields = {"id": f"{source.name}-{index:05d}", "prompt": entry["question"], "answer": entry["answer"]}
        fields |= {"task": source.name, "index": index}
        if "difficulty" in known:
            fields["difficulty"] = known["difficulty"]
        yield Row(f"{source.name} problem {index}", fields)


# -- files ------------------------------------------------------------------------------------------


def _paths(source: ProblemSource) -> list[str]:
    return [source.path] if isinstance(source.path, str) else list(source.path or [])


def _files(source: ProblemSource) -> Iterator[Row]:
    paths = _paths(source)
    if not paths:
        raise ProblemError('problems.source = "file" needs problems.path: one path or a list of them')
    for name in paths:
        path = Path(name).expanduser()
        if not path.is_file():
            raise ProblemError(f"problem file {name} is missing; the path is relative to {Path.cwd()}")
        suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is None:
            raise ProblemError(f"problem file {name} is none of {', '.join(SUFFIXES)}; rename or convert it")
        with _readable(name):
            yield from {".json": _json, ".parquet": _parquet}.get(suffix, _jsonl)(path)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ProblemError(f"problem file {name} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ProblemError(f"problem file {name} cannot be read: {error}") from None


def _jsonl(path: Path) -> Iterator[Row]:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig") as lines:  # as Windows writes it, with a mark at the start
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _object(f"{path} line {number}", _parsed(line, f"{path} line {number}"))


def _json(path: Path) -> Iterator[Row]:
    content = _parsed(path.read_text(encoding="utf-8-sig"), str(path))
    if not isinstance(content, list):
        raise ProblemError(f"{path} holds a JSON {type(content).__name__}; it must be a list of objects")
    for number, item in enumerate(content, 1):
        yield _object(f"{path} item {number}", item)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where} is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ProblemError(f"{where} is not JSON that can be read: it nests too deep") from None


def _object(where: str, item: Any) -> Row:
    if not isinstance(item, dict):
        raise ProblemError(f"{where} holds {str(item)[:40]!r}; every problem must be a JSON object")
    return Row(where, item)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches():
                for item in batch.to_pylist():
                    number += 1
                    yield Row(f"{path} row {number}", item)
    except pyarrow.ArrowException as error:
        raise ProblemError(f"problem file {path} is not Parquet that can be read: {error}") from None


# -- datasets ---------------------------------------------------------------------------------------


def _data_set(source: ProblemSource) -> Iterator[Row]:
    import datasets
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    shown = f"datasets {source.name!r}" + (f" ({source.config})" if source.config else "")
    if source.name.startswith((".", "/", "~")) and not Path(source.name).expanduser().is_dir():
        raise ProblemError(f"{shown}: there is no folder {source.name}; the path is relative to {Path.cwd()}")
    try:
        loaded = _load(source)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise ProblemError(f"{shown} is not there: {_first_line(error)}. A local folder works as a name too") from None
    except (ConnectionError, HfHubHTTPError) as error:
        raise ProblemError(
            f"{shown} cannot be fetched: no connection to the hub ({_first_line(error)}). "
            'Give a local folder as problems.name, or use problems.source = "file"'
        ) from None
    except (ValueError, KeyError, OSError, HFValidationError, datasets.exceptions.DatasetsError) as error:
        raise ProblemError(f"{shown}, split {source.hub_split!r}, cannot be read: {_first_line(error)}") from None
    for index, item in enumerate(loaded):
        yield Row(f"{source.name} {source.hub_split} row {index}", item)


def _load(source: ProblemSource) -> Any:
    """A folder written by `save_to_disk`, a folder of data files, or a data set of the hub."""
    import datasets

    folder = Path(source.name).expanduser()
    if not folder.is_dir():
        with _offline_if_unreachable():
            return datasets.load_dataset(source.name, source.config, split=source.hub_split)
    if not (folder / "dataset_dict.json").is_file() and not (folder / "state.json").is_file():
        return datasets.load_dataset(str(folder), source.config, split=source.hub_split)
    saved = datasets.load_from_disk(str(folder))
    if isinstance(saved, datasets.DatasetDict):
        if source.hub_split not in saved:
            raise ValueError(f"it has the splits {', '.join(saved)}")
        return saved[source.hub_split]
    return saved


@contextmanager
def _offline_if_unreachable() -> Iterator[None]:
    """Without a way to the hub, work from its cache at once; left alone, its client retries for half a minute."""
    import datasets
    import httpx
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    try:
        if not any(before):
            httpx.head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except httpx.TransportError:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
