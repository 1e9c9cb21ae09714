"""A policy for a plug-in: an engine of its own, or an endpoint, apart from the run's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flywheel import guard
from flywheel.errors import FlywheelError, PluginError
from flywheel.models import cache_folder, model_digest, resolve_base
from flywheel.policy import Policy, opening
from flywheel.recipe import ModelSection, OpenAIOptions, PolicySection

_digests: dict[tuple[tuple[str, int, int], ...], str] = {}


def open_policy(
    model: str,
    *,
    engine: str = "vllm",
    endpoint: str = "",
    options: Mapping[str, Any] | None = None,
    dtype: str = "bfloat16",
    chat_template: str | None = None,
    seed: int = 0,
    max_model_len: int | None = None,
) -> Policy:
    """Start serving `model` (a hub id, a folder, a `.gguf` file) and return when it can be sampled.

    `engine` is a policy's name as in a recipe, `options` are that policy's. With `endpoint`, the base URL of
    an OpenAI-compatible server, nothing is loaded: `model` is the name it serves, "" for its only one.
    `max_model_len` is the longest prompt plus completion in tokens. An engine writes to the log folder of
    the model cache, and ends with this process. Raises PluginError for options that do not fit, ModelError,
    EngineError or EndpointError where it does not start.
    """
    settings = dict(options or {})
    try:
        if endpoint:
            from flywheel.policy.openai import OpenAIPolicy

            return OpenAIPolicy(OpenAIOptions(**{"endpoints": [endpoint], "model": model or None, **settings}), Path())
        section = ModelSection.model_validate({"base": model, "dtype": dtype, "chat_template": chat_template})
        place = engine if engine in opening.BUILT_IN else "options"
        policy = PolicySection.model_validate({"name": engine, place: settings})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PluginError(f"a policy cannot be opened: {where} = {first['input']!r}: {first['msg']}") from None
    logs = cache_folder() / "logs"
    guard.reap(logs / "pids")  # a verifier's worker ends by SIGKILL, and so its engine's guard leaves its note behind
    folder = resolve_base(section, toy_options=policy.toy)
    return opening.open_policy(
        policy,
        section,
        folder,
        seed=seed,
        max_model_len=max_model_len,
        log=logs / f"own-{folder.name}.log",
        pid_dir=logs / "pids",
    )


def model_folder(model: str, *, dtype: str = "bfloat16") -> Path:
    """The folder of a model by hub id, folder or `.gguf` file, fetched or converted if need be. Raises ModelError."""
    return resolve_base(ModelSection.model_validate({"base": model, "dtype": dtype}))


def model_lack(model: str) -> str | None:
    """Why a model is not to be had, where it is not: what a verifier's `lacks` says of its own."""
    try:
        model_folder(model)
    except FlywheelError as error:
        return str(error)
    return None


def model_identity(model: str, *, dtype: str = "bfloat16") -> str:
    """The digest of a model's files: what a verdict depends on that the model made. Raises ModelError."""
    return folder_identity(model_folder(model, dtype=dtype))


def folder_identity(folder: Path) -> str:
    """The digest of a model folder's files. Raises ModelError if it is not there.

    Files are read again only when the size or time of one has changed: keys ask for this many times a round.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    stamp = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    if stamp not in _digests:
        _digests[stamp] = model_digest(folder)
    return _digests[stamp]
