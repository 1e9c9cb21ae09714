"""Other models that answer a share of a round's completions: where their weights lie, and what proves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel import models
from flywheel.policy.opening import check_policy
from flywheel.policy.own import folder_identity
from flywheel.recipe import ModelSection, PolicySection, Recipe, SamplerSection


def policy_section(recipe: Recipe, extra: SamplerSection) -> PolicySection:
    """What samples from an extra sampler's model: its own policy, else the run's.

    At an endpoint it asks for that model by its name, and reloads nothing: no generation is to be served there.
    """
    policy = extra.policy or recipe.policy
    if policy.name != "openai" or extra.model is None:
        return policy
    named = policy.openai.model_copy(update={"model": extra.model, "reload_command": None})
    return policy.model_copy(update={"openai": named})


def model_section(recipe: Recipe, extra: SamplerSection) -> ModelSection:
    """An extra sampler's model, spoken to as the run's own is but for its chat template."""
    named = {"base": extra.model, "chat_template": extra.chat_template}
    return ModelSection.model_validate({**recipe.model.model_dump(), **named})


def check_policies(recipe: Recipe) -> None:
    """Raise PluginError where the run or an extra sampler names a policy that is not there."""
    for policy in [recipe.policy, *(extra.policy for extra in recipe.sampling.extra if extra.policy)]:
        check_policy(policy)


def check_here(recipe: Recipe, extra: SamplerSection) -> None:
    """Raise ModelError where an extra sampler's model would lie on this machine and does not; nothing is fetched."""
    if extra.model is not None and policy_section(recipe, extra).name != "openai":
        models.check_here(model_section(recipe, extra), field="sampling.extra.model")


def model_path(recipe: Recipe, extra: SamplerSection) -> Path:
    """The folder of an extra sampler's model, fetched or converted if need be; nowhere in particular at an endpoint.

    Raises ModelError where there is no such model.
    """
    policy = policy_section(recipe, extra)
    if policy.name == "openai":
        return Path()
    return models.resolve_base(model_section(recipe, extra), toy_options=policy.toy)


def identity(recipe: Recipe, extra: SamplerSection) -> dict[str, Any]:
    """What an extra sampler's completions follow from: the digest of its weights, or the name an endpoint serves."""
    policy = policy_section(recipe, extra)
    found: dict[str, Any] = {"model": extra.model, "policy": policy.key()}
    if policy.name != "openai":
        found["digest"] = folder_identity(model_path(recipe, extra))
    return found
