"""Settings that are each in range and cannot work together: told from the recipe alone, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flywheel.recipe.objectives import objective_conflicts

if TYPE_CHECKING:
    from flywheel.recipe.whole import Recipe


def conflicts(recipe: Recipe) -> Iterator[str]:
    """What cannot work in a recipe, one line each: the fields with their values, why, and the way out."""
    yield from _policy_and_training(recipe)
    yield from _sampling(recipe)
    yield from _filter_and_verifier(recipe)
    yield from _correction(recipe)
    yield from objective_conflicts(recipe)
    yield from _propose(recipe)
    yield from _gate(recipe)
    yield from _characters(recipe)


def _policy_and_training(recipe: Recipe) -> Iterator[str]:
    policy, train, sampling = recipe.policy, recipe.train, recipe.sampling
    if (policy.name == "toy") != (train.backend == "toy"):
        yield (
            f"policy.name = {policy.name!r} with train.backend = {train.backend!r}: "
            "the toy policy and the toy trainer only work together"
        )
    if policy.name == "openai" and policy.openai.reload_command is None:
        yield (
            "policy.name = 'openai' without policy.openai.reload_command: the endpoints serve one fixed model, "
            "so no trained generation could be sampled; give the command that makes them serve {model}"
        )
    if recipe.gate.delete_rejected and train.start_from == "previous" and not recipe.gate.adjust:
        yield (
            "gate.delete_rejected with train.start_from = 'previous' and gate.adjust = false: a round could start "
            "from weights that are gone; leave gate.adjust on (it goes back to the champion), or keep them"
        )
    longest = policy.vllm.max_model_len
    if policy.name == "vllm" and longest is not None and longest <= sampling.max_tokens:
        yield (
            f"policy.vllm.max_model_len = {longest} holds prompt and completion, and sampling.max_tokens = "
            f"{sampling.max_tokens} leaves no room for a prompt; raise the one or lower the other"
        )
    if train.fsdp and train.processes == 1:
        yield (
            "train.fsdp shards over processes, and train.processes = 1 is a single one; raise it to your number of "
            "GPUs, or leave fsdp out"
        )


def _sampling(recipe: Recipe) -> Iterator[str]:
    sampling, budget = recipe.sampling, recipe.sampling.budget
    most = budget.most or sampling.k
    if budget.mode == "adaptive" and budget.enough is not None and budget.enough > most:
        limit = "sampling.budget.most" if budget.most else "sampling.k"
        yield (
            f"sampling.budget.enough = {budget.enough} is more than a problem may get ({limit} = {most}): no problem "
            "could ever have enough; lower enough or raise the limit"
        )
    if not sampling.own and budget.mode == "adaptive":
        yield (
            "sampling.extra with share = 1 and sampling.budget.mode = 'adaptive': waves ask the policy, and a teacher "
            "that answers everything leaves it nothing; take a share under 1 or a fixed budget"
        )
    if not sampling.own and sampling.sweep.temperatures:
        yield (
            "sampling.extra with share = 1 and sampling.sweep.temperatures: the search asks the policy, whose "
            "temperature nothing is sampled at; leave the search out or take a share under 1"
        )
    if sampling.sweep.min_scores and not sampling.sweep.temperatures:
        yield (
            "sampling.sweep.min_scores without sampling.sweep.temperatures: thresholds are tried on the completions of "
            "the temperatures; name at least one"
        )
    several_ways = (
        len(sampling.variants) > 1
        or sampling.paraphrases is not None
        or (sampling.few_shot.count > 0 and sampling.few_shot.orders > 1)
    )
    searched = sampling.sweep.temperatures
    field, temperatures = ("sweep.temperatures", searched) if searched else ("temperatures", sampling.temperatures)
    greedy = max(temperatures) == 0.0 and sampling.spread == 0.0
    if greedy and sampling.own > 1 and not several_ways:
        yield (
            f"sampling.{field} = {temperatures} with k = {sampling.k}: at temperature 0 all "
            "completions of a prompt are the same; set k = 1, a temperature above 0, or several variants"
        )


def _filter_and_verifier(recipe: Recipe) -> Iterator[str]:
    kept, verify = recipe.filter, recipe.verify
    if kept.fit is not None and recipe.train.backend == "toy":
        yield "filter.fit with train.backend = 'toy': the toy has no likelihoods to ask; leave fit out"
    if kept.difficulty and "sft" not in recipe.train.stages:
        yield (
            f"filter.difficulty = {kept.difficulty:g} with train.objective = {recipe.train.objective!r}: weights are "
            "in the loss of SFT alone; leave difficulty out"
        )
    if recipe.hints.k and kept.hinted_share == 0.0:
        yield (
            f"hints.k = {recipe.hints.k} with filter.hinted_share = 0: every hinted completion would be sampled and "
            "dropped; raise the share or leave hints out"
        )
    if verify.held_out is not None and verify.held_out == verify.verifier:
        yield (
            f"verify.held_out = {verify.held_out!r} is verify.verifier itself; leave held_out out, or name another "
            "verifier: options belong to a name"
        )
    if verify.held_out is None and verify.held_out_options:
        yield "verify.held_out_options without verify.held_out; name the verifier that they are for"
    if recipe.train.min_examples == 0 and not recipe.mix.general_least:
        yield (
            "train.min_examples = 0 without mix.general_least: a round in which nothing was right would have nothing "
            "to train on; set mix.general_least, or min_examples = 1"
        )
    if verify.observer is not None and verify.observer == verify.verifier:
        yield (
            f"verify.observer = {verify.observer!r} is verify.verifier itself, which agrees with itself; leave it "
            "out, or name another"
        )
    if verify.observer_options and verify.observer in (None, verify.held_out):
        why = "without verify.observer" if verify.observer is None else "beside verify.held_out of the same name"
        yield f"verify.observer_options {why}: options belong to a name; leave them out"
    labels = [s.label for s in recipe.ood]
    if len(set(labels)) < len(labels):
        yield f"ood: the labels {labels} are not distinct; give each set its own"


def _correction(recipe: Recipe) -> Iterator[str]:
    """Where second attempts would be asked for in vain."""
    if not recipe.correction.k:
        return
    asked = f"correction.k = {recipe.correction.k}"
    if recipe.filter.corrected_share == 0.0:
        yield (
            f"{asked} with filter.corrected_share = 0: every second attempt would be sampled and dropped; raise the "
            "share or leave correction out"
        )
    if recipe.hints.k:
        yield (
            f"{asked} with hints.k = {recipe.hints.k}: both ask again what was wrong, the one without and the other "
            "with the answer in sight; leave one of them out"
        )
    if not recipe.sampling.own:
        yield (
            f"{asked} with sampling.extra of share = 1: what is asked again are the policy's own wrong answers, and a "
            "teacher that answers everything leaves it none; take a share under 1, or leave correction out"
        )
    if recipe.filter.by != "verdict":
        yield (
            f"{asked} with filter.by = {recipe.filter.by!r}: a second attempt is kept for being right, which this "
            "control does not ask; leave correction out of it"
        )


def _propose(recipe: Recipe) -> Iterator[str]:
    """Where new problems could not come from anywhere."""
    propose, problems = recipe.propose, recipe.problems
    if propose.kind is None:
        set_ = [
            name
            for name, value in propose
            if value != type(propose).model_fields[name].get_default(call_default_factory=True)
        ]
        if set_:
            yield f"propose.{set_[0]} without propose.kind: nothing is proposed; set the kind, or leave [propose] out"
        return
    if propose.kind == "schedule" and problems.source in ("file", "datasets"):
        yield (
            f"propose.kind = 'schedule' with problems.source = {problems.source!r}: a schedule asks a generator for "
            "harder problems, and this source has the ones it has; take a generator, or leave [propose] out"
        )
    elif propose.kind == "schedule" and propose.parameter is None:
        yield (
            "propose.kind = 'schedule' without propose.parameter: name the parameter of "
            f"{problems.name!r} that rises from propose.start"
        )
    elif propose.kind == "schedule" and propose.parameter in propose.parameters:
        yield (
            f"propose.parameters sets {propose.parameter!r}, which propose.parameter raises from propose.start; leave "
            "it out of parameters"
        )
    if propose.kind == "model":
        yield from _written(recipe)


def _written(recipe: Recipe) -> Iterator[str]:
    """What takes an answer that problems written by the policy do not have."""
    if recipe.hints.k:
        yield (
            f"hints.k = {recipe.hints.k} with propose.kind = 'model': what the policy writes has no answer to hint at; "
            "leave hints out"
        )
    if recipe.train.objective == "privileged":
        yield (
            "train.objective = 'privileged' with propose.kind = 'model': what the policy writes has no solution that a "
            "teacher could be told; set train.objective = 'sft'"
        )


def _gate(recipe: Recipe) -> Iterator[str]:
    """A gate that would have nothing to decide by, or nothing to repair."""
    gate = recipe.gate
    idle: dict[str, str] = {}
    if not recipe.ood:
        idle["ood"] = "no [[ood]] set"
    if recipe.evaluate.samples == 1:
        idle["pass_k"] = "evaluate.samples = 1"
    if gate.enabled and idle.keys() >= set(gate.lines):
        why = " and ".join(idle[line] for line in gate.lines)
        yield (
            f"gate.lines = {gate.lines} with {why}: nothing would be compared and every candidate accepted; name "
            "another line, or set gate.enabled = false"
        )
    if not gate.enabled and gate.repair != "none":
        yield (
            f"gate.enabled = false with gate.repair = {gate.repair!r}: without the gate no candidate is rejected, so "
            "none is repaired; leave the gate on, or repair out"
        )


def _characters(recipe: Recipe) -> Iterator[str]:
    """Where the model of characters would be asked in a writing that it has not learnt."""
    problems, made = recipe.problems, recipe.model.characters
    if recipe.model.base != "characters":
        return
    if recipe.model.dtype != "float32":
        yield (
            f"model.base = 'characters' with model.dtype = {recipe.model.dtype!r}: 16 bits round away what so small a "
            "model learns; set model.dtype = 'float32'"
        )
    if recipe.model.system:
        yield f"model.base = 'characters' with model.system = {recipe.model.system!r}: it knows sums and no words"
    if problems.source != "generator" or problems.name != "sums":
        yield (
            f"model.base = 'characters' with problems.source = {problems.source!r}, {problems.name!r}: it can read "
            "sums and nothing else; set problems.source = 'generator' and problems.name = 'sums'"
        )
        return
    sources = {"problems": problems, "mix.general_source": recipe.mix.general_source}
    for place, source in sources.items():
        for name in ("layout", "hints"):
            known, usual = getattr(made, name), type(made).model_fields[name].default
            asked = usual if source is None else source.parameters.get(name, usual)
            if source is not None and asked != known:
                yield (
                    f"{place}.parameters.{name} = {asked!r} and model.characters.{name} = {known!r}: the base would "
                    "meet a writing that it has not learnt; make them the same"
                )
