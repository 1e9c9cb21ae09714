"""A policy that somebody else wrote (`policy.name = "file.py:Name"`), held to what it promises."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel.errors import PluginError
from flywheel.foreign import told
from flywheel.plugins import load_class
from flywheel.policy import Completion, Policy, Request


def check_theirs(name: str, options: Mapping[str, Any]) -> None:
    """Raise PluginError where a name leads to no policy, or the policy does not take the options; opens nothing."""
    try:
        signature = inspect.signature(load_class(name, "policy"))
    except ValueError:  # a class of C that does not tell
        return
    try:
        signature.bind(Path(), seed=0, **options)
    except TypeError as error:
        raise PluginError(
            f"policy {name!r} is called with (model_path, seed=…, **policy.options), and with policy.options = "
            f"{dict(options)!r} that fails: {error}"
        ) from None


class TheirPolicy:
    """Passes requests on; what the other class raises, or yields that is no completion, is a PluginError."""

    def __init__(self, name: str, model_path: Path, seed: int, options: Mapping[str, Any]) -> None:
        self.name = name
        with told(f"policy {name!r}"):
            self._own: Policy = load_class(name, "policy")(model_path, seed=seed, **options)
        self.digest: str | None = getattr(self._own, "digest", None)

    def generate(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """The other's completions, request by request."""
        asked = list(requests)
        known = {request.id for request in asked}
        with told(f"policy {self.name!r}"):
            for completions in self._own.generate(asked):
                for completion in completions:
                    if not isinstance(completion, Completion) or completion.request_id not in known:
                        raise PluginError(
                            f"policy {self.name!r} yielded {str(completions)[:80]!r}; it must yield lists of "
                            "flywheel.Completion with the request_id of a request"
                        )
                yield completions

    def close(self) -> None:
        """Close the other one."""
        with told(f"policy {self.name!r}"):
            self._own.close()

    def interrupt(self) -> None:
        """Interrupt the other one, if it can be."""
        if callable(interrupt := getattr(self._own, "interrupt", None)):
            interrupt()
