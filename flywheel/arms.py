"""Arms: the variants of a recipe that its own run is compared with, as settings laid over it.

A *control* takes away what a claim rests on. Training on unverified samples alone has been reported to move a model
from 42.4 to 55.3 (Zhang et al. 2026, arXiv:2604.01193), so only what lies beyond the controls is the verifier's doing.
A *lever* is one setting of the recipe that can be off or on; its arm has it the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.errors import RecipeError
from flywheel.recipe import Recipe, StopSection, apply_overrides, deep_merge, validate

Settings = dict[str, Any]
"""Recipe content: sections of fields."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What the recipe's own run came to: the rounds it decided and the examples it kept in each."""

    rounds: int
    examples: list[int]


@dataclass(frozen=True, slots=True)
class Arm:
    """A variant of the recipe. `recipe` is complete, `settings` what it has of its own, `what` one line for people."""

    name: str
    what: str
    settings: Settings
    recipe: Recipe


# ---- controls ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Control:
    """A control: what it is, and its settings for a recipe whose own run is known."""

    what: str
    settings: Callable[[Recipe, Reference], Settings]


UNGATED: Settings = {"enabled": False, "repair": "none"}
"""A gate that is off; there is nothing to repair without one."""


def _unfiltered(by: str) -> Callable[[Recipe, Reference], Settings]:
    def settings(recipe: Recipe, reference: Reference) -> Settings:
        # The gate asks the verifier as well, so a control without a verifier has none.
        arm: Settings = {"filter": {"by": by, "rows": reference.examples}, "gate": UNGATED}
        if recipe.train.stages != ("sft",):  # pairs and lessons do not come from examples, so what is left is SFT
            arm["train"] = {"objective": "sft", "average": None}
        return arm

    return settings


def _one_round(recipe: Recipe, reference: Reference) -> Settings:
    rounds, sampling = reference.rounds, recipe.sampling
    budget = sampling.budget
    limits = {"most": budget.most, "most_unsolved": budget.most_unsolved, "enough": budget.enough}
    capped = [stage for stage in recipe.train.stages if stage in ("dpo", "privileged")]  # so many a problem and round
    caps = {stage: {"cap": getattr(recipe.train, stage).cap * rounds} for stage in capped}
    return {
        "sampling": {
            "k": sampling.k * rounds,
            "budget": {name: most * rounds for name, most in limits.items() if most is not None},
        },
        "hints": {"k": recipe.hints.k * rounds},
        "correction": {"k": recipe.correction.k * rounds},
        "filter": {"cap": recipe.filter.cap * rounds},
        **({"train": caps} if caps else {}),
        "stop": {"max_rounds": 1},
    }


CONTROLS: dict[str, Control] = {
    "no_verifier": Control(
        "all rules of the filter but correctness, as many examples a round, no gate", _unfiltered("none")
    ),
    "random_filter": Control("as many examples a round, drawn from all samples, no gate", _unfiltered("random")),
    "one_round": Control("all rounds' samples drawn from the base at once, one training", _one_round),
}
"""The controls by name."""


def control_arms(recipe: Recipe, reference: Reference, names: Sequence[str]) -> list[Arm]:
    """The named controls of a recipe; without `one_round` where the recipe's own run took one round and so is this arm.

    Raises RecipeError for an unknown name.
    """
    for name in names:
        if name not in CONTROLS:
            raise RecipeError(f"unknown control {name!r}; known: {', '.join(CONTROLS)}")
    chosen = [(n, CONTROLS[n]) for n in dict.fromkeys(names) if n != "one_round" or reference.rounds > 1]
    return [_arm(recipe, reference, name, c.what, c.settings(recipe, reference)) for name, c in chosen]


# ---- levers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lever:
    """One thing that a recipe can do or leave: the settings that leave it, and those that do it; either may depend on
    the recipe."""

    what: str
    off: Settings | Callable[[Recipe], Settings]
    on: Settings | Callable[[Recipe], Settings]

    def settings(self, recipe: Recipe, *, on: bool) -> Settings:
        """The settings that turn it on or off in a recipe."""
        chosen = self.on if on else self.off
        return chosen(recipe) if callable(chosen) else chosen

    def is_on(self, recipe: Recipe) -> bool:
        """Whether a recipe has it on: it differs from `off` in any field."""
        return _differs(recipe.model_dump(mode="json"), self.settings(recipe, on=False))


def _steady(recipe: Recipe) -> Settings:
    return {"sampling": {"temperatures": recipe.sampling.temperatures[:1]}}


def _hotter(recipe: Recipe) -> Settings:
    first = recipe.sampling.temperatures[0]
    return {"sampling": {"temperatures": [round(first + step, 3) for step in (0.0, 0.2, 0.4)]}}


LEVERS: dict[str, Lever] = {
    "gate": Lever("reject candidates that are worse or narrower", {"gate": UNGATED}, {"gate": {"enabled": True}}),
    "cap": Lever("bound the examples of a problem", {"filter": {"cap": 100_000}}, {"filter": {"cap": 4}}),
    "dedup": Lever("take each reasoning path once", {"filter": {"dedup": "none"}}, {"filter": {"dedup": "path"}}),
    "spread": Lever(
        "under the cap, choose paths far apart", {"filter": {"select": "first"}}, {"filter": {"select": "spread"}}
    ),
    "skip_mastered": Lever(
        "leave out problems that were always right",
        {"filter": {"drop_always_right": False}},
        {"filter": {"drop_always_right": True}},
    ),
    "difficulty": Lever("weigh hard problems more", {"filter": {"difficulty": 0.0}}, {"filter": {"difficulty": 1.0}}),
    "fit": Lever("drop what does not fit the model to be trained", {"filter": {"fit": None}}, {"filter": {"fit": {}}}),
    "hinted_cap": Lever(
        "bound the share of hinted examples", {"filter": {"hinted_share": 1.0}}, {"filter": {"hinted_share": 0.25}}
    ),
    "hinted_markers": Lever(
        "drop hinted samples that voice no doubt",
        {"filter": {"hinted_markers": 0.0}},
        {"filter": {"hinted_markers": 0.5}},
    ),
    "schedule": Lever("sample later rounds at other temperatures than round 0", _steady, _hotter),
    "sweep": Lever(
        "search each round's temperature by the balance score",
        {"sampling": {"sweep": {"temperatures": []}}},
        {"sampling": {"sweep": {"temperatures": [0.6, 0.8, 1.0, 1.2]}}},
    ),
    "variants": Lever(
        "ask in several wordings",
        {"sampling": {"variants": ["{prompt}"], "paraphrases": None}},
        {"sampling": {"variants": ["{prompt}", "{prompt}\n\nWork it out step by step."]}},
    ),
    "few_shot": Lever(
        "show worked examples, in changing orders",
        {"sampling": {"few_shot": {"count": 0}}},
        {"sampling": {"few_shot": {"count": 2, "orders": 4}}},
    ),
    "older_generations": Lever(
        "let an older generation answer a share of the completions",
        {"sampling": {"extra": []}},
        {"sampling": {"extra": [{"share": 0.25, "generation": -1}]}},
    ),
    "adaptive": Lever(
        "sample in waves until a problem has enough right paths",
        {"sampling": {"budget": {"mode": "fixed"}}},
        {"sampling": {"budget": {"mode": "adaptive"}}},
    ),
    "hints": Lever(
        "ask problems without a right answer again with the answer in sight", {"hints": {"k": 0}}, {"hints": {"k": 2}}
    ),
    "human": Lever("mix in human solutions", {"mix": {"human": 0.0, "floor": 0.0}}, {"mix": {"human": 0.2}}),
    "base_rows": Lever("mix in the base's right answers", {"mix": {"base": 0.0, "floor": 0.0}}, {"mix": {"base": 0.2}}),
    "accumulate": Lever(
        "train on all rounds' examples", {"data": {"keep": "replace"}}, {"data": {"keep": "accumulate"}}
    ),
    "restart": Lever(
        "train from the base each round", {"train": {"start_from": "champion"}}, {"train": {"start_from": "base"}}
    ),
}
"""The levers by name. One that a recipe has on is turned off by its arm, and one that it has off is turned on."""


def lever_arms(recipe: Recipe, reference: Reference, names: Sequence[str]) -> list[Arm]:
    """An arm for each lever that has it the other way round; `section.field=value` is a lever too.

    Raises RecipeError for an unknown lever, and for a value that the recipe has already.
    """
    arms = []
    for name in dict.fromkeys(names):
        if "=" in name:
            settings = apply_overrides({}, [name])
            arms.append(_arm(recipe, reference, _folder_name(name), name, settings))
            continue
        if name not in LEVERS:
            raise RecipeError(
                f"unknown lever {name!r}; known: {', '.join(LEVERS)} (`flywheel ablate --list` says what they are), or "
                "any section.field=value"
            )
        lever = LEVERS[name]
        on = lever.is_on(recipe)
        settings = lever.settings(recipe, on=not on)
        arms.append(_arm(recipe, reference, f"{name}-{'off' if on else 'on'}", lever.what, settings))
    return arms


def _folder_name(setting: str) -> str:
    """`filter.cap=1` → `filter-cap-1`: what a run's folder and a recipe can be called."""
    return "".join(c if c.isalnum() or c == "_" else "-" for c in setting.lower()).strip("-")[:40]


# ---- both ----------------------------------------------------------------------------------------


def _arm(recipe: Recipe, reference: Reference, name: str, what: str, settings: Settings) -> Arm:
    """A recipe with settings over it, which does as many rounds as the recipe's own run did, come what may."""
    early = [name for name in ("target_pass_1", "plateau") if name in StopSection.model_fields]
    rounds: Settings = {
        "name": f"{recipe.name[: 63 - len(name)]}-{name}",
        "stop": {"max_rounds": reference.rounds, "rejections": reference.rounds + 1, **dict.fromkeys(early)},
    }
    own = recipe.model_dump(mode="json")
    if not _differs(own, settings):
        raise RecipeError(f"{what} is what recipe {recipe.name!r} does anyway; give another value")
    merged = deep_merge(deep_merge(own, rounds), settings)
    return Arm(name, what, settings, validate(merged, where=f"arm {name}"))


def _differs(content: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    return deep_merge(content, settings) != dict(content)
