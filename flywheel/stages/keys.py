"""What the keys of several stages are made from; what a single one's follows from stands in its own module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flywheel.manifest import stage_key
from flywheel.mix import rounds_kept
from flywheel.plan_types import Plan
from flywheel.scope import Scope
from flywheel.types import Generation


def round_index(scope: Scope) -> int:
    """The round a scope stands for. Raises ValueError for the base and the finale."""
    if scope.round is None:
        raise ValueError(f"{scope.label} is not a round")
    return scope.round


def key_of(scope: Scope, stage: str) -> str | None:
    """The key of a stage that is done in a scope, or None."""
    entry = scope.manifest.get(stage)
    return entry.key if entry else None


def verifiers(scope: Scope) -> dict[str, Any]:
    """Identities of the verifiers in use, as they are now: an edited verifier makes a new key.

    With them the limits that they judge under, where the recipe sets any: a completion that is a timeout under one
    deadline is right under another.
    """
    run, verify = scope.run, scope.run.recipe.verify
    names = {p.verifier or verify.verifier for p in run.frozen_problems}
    names |= {verify.verifier} if run.recipe.propose.kind else set()
    fields = {name: type(verify).model_fields[name].default for name in ("deadline_seconds", "memory_gib")}
    limits = {name: getattr(verify, name) for name, usual in fields.items() if getattr(verify, name) != usual}
    return {name: run.verifier_identity(name) for name in sorted(names)} | ({"(limits)": limits} if limits else {})


def sections(*names: str) -> Callable[[Scope], dict[str, Any]]:
    """A function that gives the named recipe sections' keys."""

    def settings(scope: Scope) -> dict[str, Any]:
        return {name: getattr(scope.run.recipe, name).key() for name in names}

    return settings


def adjusted_sections(*names: str) -> Callable[[Scope], dict[str, Any]]:
    """As `sections`, with what the round's plan changed after a rejection."""

    def settings(scope: Scope) -> dict[str, Any]:
        recipe = scope.recipe
        return {name: getattr(recipe, name).key() for name in names}

    return settings


def rounds_to_learn(scope: Scope) -> list[int]:
    """The rounds whose examples a round reads: those that `data.keep` names, and round 0 where `mix.base` asks for it.

    Rounds whose candidate was rejected are left out, unless `data.rejected` keeps them.
    """
    recipe = scope.recipe
    asked = {*rounds_kept(recipe, round_index(scope)), *([0] if recipe.mix.base else [])}
    return sorted(asked - rounds_left_out(scope))


def rounds_left_out(scope: Scope) -> set[int]:
    """The rounds before this one whose examples no round may learn any more."""
    if scope.run.recipe.data.rejected != "leave_out":
        return set()
    return {r.index for r in scope.run.history() if r.accepted is False and r.index < round_index(scope)}


def previous_round(scope: Scope) -> Any:
    """What stood before a round: the key of the base's evaluation, or the last round's, and what its gate decided.

    The decision counts, not the settings that led to it: runs whose gates agree have rounds in common.
    """
    run, index = scope.run, round_index(scope)
    if not index:
        return key_of(run.baseline(), "evaluate")
    entry = run.round(index - 1).manifest.get("gate")
    if entry is None:
        return None
    rejected = run.rejected_before(index) if run.recipe.gate.adjust else []
    return {
        "evaluate": key_of(run.round(index - 1), "evaluate"),
        "accepted": entry.info["accepted"],
        "alpha": entry.info.get("alpha"),
        "rejected": [[r.index, *r.failed] for r in rejected],
    }


def proposed(scope: Scope) -> dict[str, Any]:
    """The round's own problems, where it has some. Those of earlier rounds stand before it."""
    return {"proposed": key_of(scope, "propose")} if scope.run.recipe.propose.kind else {}


def compared_with(scope: Scope) -> dict[str, Generation]:
    """A candidate's rivals: the base, the champion that it wants to replace, the generation evaluated before it."""
    run, index = scope.run, round_index(scope)
    lineage = [g for g in run.generations() if g.index <= index]
    previous = [g for g in lineage if key_of(run.evaluation_of(g), "evaluate")][-1]
    return {"base": lineage[0], "champion": run.policy_generation(index), "previous": previous}


def sampling_settings(scope: Scope) -> dict[str, Any]:
    """How held-out problems are asked; `sampling` counts only where it is shared with rounds."""
    settings = sections("model", "policy", "evaluate")(scope)
    sampling = scope.run.recipe.sampling
    return {**settings, "sampling": {"max_tokens": sampling.max_tokens, "stop": sampling.stop}}


def held_out_keys(scope: Scope, plan: Plan) -> tuple[str, str]:
    """The keys of a generation's held-out samples and of their verdicts.

    They do not name the champion: a generation's test samples stay valid when another becomes it. What is asked stands
    in them by content, since ids may be a file's own and mean another problem in another run.
    """
    run = scope.run
    ingredients = {
        "plan": plan.as_json(),
        "problems": [run.problem_by_id[problem_id].digest() for problem_id in plan.problems],
        "settings": sections("model", "policy")(scope),
        "model": run.model_digest(scope.model(plan.generation)),
        "seed": run.recipe.seed,
    }
    samples = stage_key(ingredients)
    return samples, stage_key({"samples": samples, "verifiers": verifiers(scope)})
