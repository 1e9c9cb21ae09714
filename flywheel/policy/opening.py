"""Opens the policy that a recipe names."""

from __future__ import annotations

from pathlib import Path

from flywheel.errors import PluginError
from flywheel.plugins import known_names
from flywheel.policy import Policy
from flywheel.policy.hosted import HostedPolicy
from flywheel.policy.theirs import TheirPolicy, check_theirs
from flywheel.recipe import ModelSection, PolicySection

HOSTED = ("vllm", "transformers")
BUILT_IN = (*HOSTED, "openai", "toy")


def open_policy(
    policy: PolicySection,
    model: ModelSection,
    model_path: Path,
    *,
    seed: int,
    max_model_len: int | None,
    log: Path,
    pid_dir: Path,
) -> Policy:
    """Start serving the model in `model_path` and return when it can be sampled.

    `max_model_len` is the longest prompt plus completion that will be asked for, in tokens. An engine
    writes to `log` alone. The policy's `digest` is that of the folder which was loaded (None where an
    endpoint serves it). Raises EngineError, ModelError or EndpointError where it does not start.
    """
    if policy.name == "toy":
        from flywheel.policy.toy import ToyPolicy

        return ToyPolicy(model_path, delay_seconds=policy.toy.delay_seconds)
    if policy.name == "openai":
        from flywheel.policy.openai import OpenAIPolicy

        return OpenAIPolicy(policy.openai, model_path)
    if policy.name in HOSTED:
        job = {"engine": policy.name, "model": model.model_dump(), "path": str(model_path), "seed": seed}
        job |= {"options": getattr(policy, policy.name).model_dump(), "max_model_len": max_model_len}
        return HostedPolicy(job, _places(policy), log=log, pid_dir=pid_dir)
    check_policy(policy)
    return TheirPolicy(policy.name, model_path, seed, policy.options)


def check_policy(policy: PolicySection) -> None:
    """Raise PluginError where a recipe names a policy that is not there, or does not take its options."""
    if policy.name in BUILT_IN:
        return
    if ":" not in policy.name and policy.name not in known_names("policy"):
        known = ", ".join([*BUILT_IN, *known_names("policy")])
        raise PluginError(
            f"unknown policy {policy.name!r}; known: {known}. For your own give 'pkg.mod:Name' or 'file.py:Name'"
        )
    check_theirs(policy.name, policy.options)


def _places(policy: PolicySection) -> list[dict[str, str]]:
    """The environment of each engine process: what it must find set before Python starts, and its devices."""
    if policy.name == "vllm":
        from flywheel.policy.vllm import environments

        return environments(policy.vllm)
    return [{"HF_HUB_OFFLINE": "1"}]
