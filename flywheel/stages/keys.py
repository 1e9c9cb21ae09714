"""What the stages' keys are made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel import samplers, store
from flywheel.fingerprint import file_digest
from flywheel.manifest import stage_key
from flywheel.mix import rounds_kept
from flywheel.plan import Plan
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


def filter_inputs(scope: Scope) -> dict[str, Any]:
    """The verdicts, and the model to be trained where examples must fit it."""
    run = scope.run
    student = run.starting_generation(round_index(scope)) if run.recipe.filter.fit else None
    asked: dict[str, Any] = (
        {} if student is None else {"student": run.model_digest(student), "max_length": run.recipe.train.max_length}
    )
    if run.recipe.correction.k:
        asked["correction"] = run.recipe.correction.template  # an example is the whole conversation
    return {"verdicts": key_of(scope, "verify"), **asked}


def plan_settings(scope: Scope) -> dict[str, Any]:
    """What a plan follows from: sampling and hints, and the filter's cap where it says how much is enough."""
    settings = sections("sampling", "hints", "correction")(scope)
    sampling = scope.run.recipe.sampling
    if sampling.budget.mode == "adaptive" and sampling.budget.enough is None:
        settings["filter"] = {"cap": scope.run.recipe.filter.cap}
    if scope.run.recipe.propose.kind:
        settings["propose"] = {"ask": scope.run.recipe.propose.ask}
    return settings


def propose_settings(scope: Scope) -> dict[str, Any]:
    """What is proposed and how, where problems come from, and what counts as a copy of a held-out one."""
    recipe = scope.run.recipe
    share = {"contamination_share": recipe.filter.contamination_share}
    asked = sections("model", "policy")(scope) if recipe.propose.kind == "model" else {}
    return {"propose": recipe.propose.key(), "problems": recipe.problems.key(), "filter": share, **asked}


def propose_inputs(scope: Scope) -> dict[str, Any]:
    """The problems that the run began with, what stood before the round, and the weights that write."""
    run = scope.run
    inputs: dict[str, Any] = {"problems": run.facts["problems"]["sha256"], "before": previous_round(scope)}
    if run.recipe.propose.kind == "model":
        inputs["model"] = run.model_digest(run.policy_generation(round_index(scope)))
    return inputs


def propose_files(scope: Scope) -> tuple[str, ...]:
    """What was proposed and refused, and what the policy wrote."""
    written = ("proposals.parquet",) if scope.run.recipe.propose.kind == "model" else ()
    return ("problems.parquet", "propose.json", *written)


def _proposed(scope: Scope) -> dict[str, Any]:
    """The round's own problems, where it has some. Those of earlier rounds stand before it."""
    return {"proposed": key_of(scope, "propose")} if scope.run.recipe.propose.kind else {}


def plan_inputs(scope: Scope) -> dict[str, Any]:
    """The problems, what stood before the round, its sweep, and the files that reword prompts."""
    sampling = scope.run.recipe.sampling
    inputs: dict[str, Any] = {"problems": scope.run.facts["problems"]["sha256"], "before": previous_round(scope)}
    inputs |= _proposed(scope)
    if sampling.sweep.temperatures:
        inputs["sweep"] = key_of(scope, "sweep")
    for name, path in (("paraphrases", sampling.paraphrases), ("few_shot", sampling.few_shot.path)):
        if path:
            inputs[name] = file_digest(Path(path))
    return inputs


def sample_settings(scope: Scope) -> dict[str, Any]:
    """How a round samples; where sampling is training as well, how it trains and is rewarded."""
    settings = sections("model", "policy", "sampling")(scope)
    if scope.run.recipe.train.objective == "grpo":
        settings |= adjusted_sections("train", "verify")(scope)
        options = scope.recipe.train.grpo
        if options.loss == "bnpo":
            settings["micro_batch"] = options.micro_batch  # a mean over each forward pass's tokens
    return settings


def sample_inputs(scope: Scope) -> dict[str, Any]:
    """The plan and the weights that answer; the verifiers too, where what is asked next depends on them."""
    run = scope.run
    if run.recipe.train.objective == "grpo":
        start = run.model_digest(run.starting_generation(round_index(scope)))
        return {"plan": key_of(scope, "plan"), "start": start, "verifiers": verifiers(scope)}
    plan = Plan.from_json(store.read_json(scope.folder / "plan.json"))
    inputs: dict[str, Any] = {
        "plan": key_of(scope, "plan"),
        "model": run.model_digest(run.policy_generation(round_index(scope))),
    }
    others = [
        samplers.identity(run.recipe, run.recipe.sampling.extra[source.extra])
        if source.extra >= 0
        else run.model_digest(run.generation(source.generation))
        for source in plan.sources[1:]
    ]
    if others:
        inputs["others"] = others
    if plan.decided_by_verdicts:
        inputs["verifiers"] = verifiers(scope)
    return inputs


def sweep_settings(scope: Scope) -> dict[str, Any]:
    """How temperatures are tried, and what counts as a right and distinct completion."""
    recipe = scope.run.recipe
    names = ("sweep", "top_p", "top_k", "max_tokens", "stop")
    asked = {name: value for name, value in recipe.sampling.key().items() if name in names}
    kept = {name: value for name, value in recipe.filter.key().items() if name in ("cap", "min_score")}
    pool = (
        {"propose": {"ask": recipe.propose.ask}}
        if recipe.propose.kind and recipe.sampling.sweep.split == "train"
        else {}
    )
    return {**sections("model", "policy")(scope), "sampling": asked, "filter": kept, **pool}


def sweep_inputs(scope: Scope) -> dict[str, Any]:
    """The problems, what stood before the round, the weights and the verifiers."""
    run = scope.run
    return {
        "problems": run.facts["problems"]["sha256"],
        "before": previous_round(scope),
        "model": run.model_digest(run.policy_generation(round_index(scope))),
        "verifiers": verifiers(scope),
        **_proposed(scope),
    }


def train_inputs(scope: Scope) -> dict[str, Any]:
    """The examples a round trains on, and the weights it starts from."""
    run, index = scope.run, round_index(scope)
    if scope.recipe.train.objective == "grpo":
        return {"samples": key_of(scope, "sample")}
    averaged = [run.model_digest(g) for g in generations_to_average(scope)]
    return {
        "examples": {str(i): key_of(run.round(i), "filter") for i in rounds_to_learn(scope)},
        "start": run.model_digest(run.starting_generation(index)),
        **({"averaged": averaged} if averaged else {}),
        **({"general": run.facts.get("general")} if scope.recipe.mix.general else {}),
    }


def generations_to_average(scope: Scope) -> list[Generation]:
    """The accepted generations that a round's candidate is averaged with, the newest first."""
    average = scope.recipe.train.average
    others = average.generations - 1 if average else 0
    before = [g for g in scope.run.generations() if g.index <= round_index(scope) and g.status == "accepted"]
    return before[::-1][:others]


def evaluate_inputs(scope: Scope) -> dict[str, Any]:
    """What an evaluation rests on: problems, weights, verifiers; a candidate's also on its round and on its rivals."""
    run = scope.run
    inputs = {
        "problems": run.facts["problems"]["sha256"],
        "model": run.model_digest(scope.model(scope.generation)),
        "verifiers": verifiers(scope),
    }
    if scope.round is not None:
        compared = {name: key_of(run.evaluation_of(g), "evaluate") for name, g in compared_with(scope).items()}
        inputs |= {"round": key_of(scope.whole, "filter"), "compared": compared}
        if observer := run.recipe.verify.observer:
            inputs["observer"] = run.verifier_identity(observer)
    return inputs


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

    They do not name the champion: a generation's test samples stay valid when another becomes it.
    """
    run = scope.run
    model = run.model_digest(scope.model(plan.generation))
    samples = stage_key({"plan": plan.as_json(), "model": model, "seed": run.recipe.seed})
    return samples, stage_key({"samples": samples, "verifiers": verifiers(scope)})


def finale_files(scope: Scope) -> tuple[str, ...]:
    """What the finale leaves: metrics, and the rows of base and champion."""
    measured = sorted({0, scope.run.champion().index})
    names = [f"generation_{g:03d}_{rows}.parquet" for g in measured for rows in ("samples", "verdicts")]
    return ("metrics.json", *names)
