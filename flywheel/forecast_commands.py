"""The command `flywheel plan`: what a recipe would sample and train, before anything is spent."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from flywheel.arguments import RECIPE_HELP, Add, count, rate
from flywheel.devices import DEVICES, named_device, this_device
from flywheel.errors import ModelError, ProblemError, RecipeError
from flywheel.figures import duration, short, whole
from flywheel.forecast import Amount, Assumptions, Forecast, Problems, Round, Stage, forecast, memory, seconds
from flywheel.model_shape import known_shape
from flywheel.problems import load_problems
from flywheel.recipe import Recipe, load_recipe

CHARACTERS = 4
"""Characters a token, by rule of thumb, for the length of prompts."""
TEMPLATE_TOKENS = 30
"""Tokens that a chat template adds to a prompt, about."""


def add_forecast_commands(add: Add) -> None:
    """Add the command to the parser of `flywheel.cli`."""
    plan = add("plan", _plan, "say what a recipe would sample and train, with rough memory and time; loads no model")
    plan.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    plan.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="repeatable"
    )
    plan.add_argument("--device", metavar="NAME", help=f"this machine's unless given: {', '.join(DEVICES)}")
    plan.add_argument(
        "--problems", type=count, metavar="N", help="problems in all, where the source cannot be read here"
    )
    plan.add_argument(
        "--right", type=rate, default=0.5, metavar="SHARE", help="share of completions that are right (assumed: .5)"
    )
    plan.add_argument(
        "--length", type=rate, default=0.5, metavar="SHARE", help="their length, of sampling.max_tokens (assumed: .5)"
    )
    plan.add_argument("--json", action="store_true", help="as JSON")


def _plan(arguments: argparse.Namespace) -> None:
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    device = named_device(arguments.device) if arguments.device else None
    problems, prompt_tokens, notes = counted(recipe, arguments.problems)
    given = Assumptions(arguments.right, arguments.length, prompt_tokens)
    found = forecast(recipe, problems, given) if problems else None
    told: dict[str, Any] = {
        "recipe": recipe.name,
        "assumptions": asdict(given),
        "problems": asdict(problems) if problems else None,
        "forecast": found and {**asdict(found), "sampled": asdict(found.sampled)},
        "memory": None,
        "time": None,
        "unknown": notes,
    }
    try:
        shape = known_shape(recipe.model)
    except ModelError as error:
        notes.append(f"memory and time: {error}")
    else:
        told["model"] = {**asdict(shape), "parameters": shape.parameters}
        device = device or this_device()
        told["memory"] = memory(recipe, shape, given, cpu=device.cpu)
        told["time"] = found and seconds(recipe, shape, device, found, given)
    if arguments.json:
        print(json.dumps(told, indent=2))
        return
    for line in lines(told, found):
        print(line)


def counted(recipe: Recipe, stated: int | None) -> tuple[Problems | None, int, list[str]]:
    """How many problems a recipe has, tokens a prompt, and what is not known; a hub's data set is not fetched."""
    section, usual = recipe.problems, Assumptions().prompt_tokens
    remote = [s for s in (section, *recipe.ood) if s.source == "datasets"]
    if not remote and stated is None:
        try:
            loaded = load_problems(recipe)
        except ProblemError as error:
            return None, usual, [f"problems: {error}"]
        sizes = loaded.notes
        characters = sum(len(p.prompt) for p in loaded.problems) / len(loaded.problems)
        tokens = round(characters / CHARACTERS) + TEMPLATE_TOKENS
        return Problems(sizes["train"], sizes["dev"], sizes["test"], sizes["ood"]), tokens, []
    total = stated or section.count
    if total is None:
        why = f"problems: how many {section.name!r} has is not known without reading it; give --problems N"
        return None, usual, [why]
    left = total - section.dev - section.test
    if left < 1:
        raise RecipeError(f"{total} problems leave none to train on: dev = {section.dev} and test = {section.test}")
    ood = sum(s.count or 0 for s in recipe.ood)
    notes = [f"ood: how many {s.label!r} has is not known without reading it" for s in recipe.ood if s.count is None]
    return Problems(left, section.dev, section.test, ood), usual, notes


def lines(told: dict[str, Any], found: Forecast | None) -> Iterator[str]:
    """The forecast for people."""
    given = told["assumptions"]
    if found is not None:
        sizes = ", ".join(f"{count:,} {name}" for name, count in told["problems"].items() if count)
        yield f"{told['recipe']}: problems {sizes}; rounds {len(found.rounds)} at most"
        yield (
            f"expected / at most: {given['right']:.0%} of completions right, {given['length']:.0%} of "
            f"sampling.max_tokens long, prompts of {given['prompt_tokens']} tokens"
        )
        yield from _table(found)
        after_each = whole(found.rounds[0].held_out)
        yield f"held-out completions: {whole(found.held_out)}, of which {after_each} by the base and after each round"
        yield f"tokens sampled in all, held-out problems of base and finale included: {_both(found.sampled)}"
        steps, trained, read = (_both(found.total(name)) for name in ("steps", "trained", "read"))
        beside = f"; a reference or teacher reads {read}" if found.total("read").most else ""
        yield f"trained in all rounds: {steps} steps, {trained} tokens{beside}"
        if found.base is not None:
            yield "base: made once on this machine, then kept; it counts in the time below"
    if needs := told["memory"]:
        size = {name: _size(value) for name, value in needs.items()}
        yield (
            f"model: {short(told['model']['parameters'])} parameters; sampling: weights {size['weights']}, "
            f"keys and values {size['kv_sequence']} a sequence"
        )
        yield (
            f"training: weights and gradients {size['trained_weights']} + optimiser {size['optimiser']} + "
            f"activations of a micro-batch {size['activations']}"
            + (f" + a second, frozen model {size['second_model']}" if needs["second_model"] else "")
        )
    if when := told["time"]:
        d = when["device"]
        yield f"on {d['name']} ({d['tflops']:g} TFLOP/s, {d['bandwidth']:g} GB/s, {d['memory']:g} GB; {d['source']}):"
        fits = "" if when["training_fits"] else " (does not fit: train.lora, fsdp, or a smaller train.micro_batch)"
        sampling = duration(when["sampling_seconds"]) if when["sampling_fits"] else "does not fit"
        yield (
            f"  sampling about {sampling} on {when['sampling_devices']}, {when['sequences']} sequences at once; "
            f"training about {duration(when['training_seconds'])} on {when['training_devices']}{fits}"
        )
        yield "  rough: within a factor of three; verification and loading are not in it"
    for note in told["unknown"]:
        yield f"not known: {note}"


def _size(count: float) -> str:
    """Bytes for people: `256.6 MiB`, `1.0 GiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _both(amount: Amount) -> str:
    """`1.2k / 3.4k`; one number where both are the same."""
    return short(amount.most) if amount.most == amount.expected else f"{short(amount.expected)} / {short(amount.most)}"


_TITLES = ("round", "problems", "completions", "tokens", "stage", "rows", "steps", "tokens trained")


def _table(found: Forecast) -> Iterator[str]:
    """A line a stage of training, the first of a round with what the round asks; each column as wide as it must be."""
    rows: list[tuple[str, ...]] = [_TITLES]
    if found.base is not None:
        rows.append(("base", *[""] * 3, *_cells(found.base)))
    for r in found.rounds:
        asked = _asked(r)
        for stage in r.stages:
            rows.append((*asked, *_cells(stage)))
            asked = ("",) * len(asked)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))


def _asked(r: Round) -> tuple[str, ...]:
    completions = r.completions + r.hinted + Amount(r.swept, r.swept)
    return str(r.round), whole(r.problems), _both(completions), _both(r.tokens)


def _cells(stage: Stage) -> tuple[str, ...]:
    return stage.name, _both(stage.rows), _both(stage.steps), _both(stage.trained)
