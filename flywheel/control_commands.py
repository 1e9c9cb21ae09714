"""The commands that compare a recipe with its arms: `flywheel controls` and `flywheel ablate`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel import store
from flywheel.arguments import RECIPE_HELP, Add
from flywheel.arms import CONTROLS, LEVERS, Arm, Reference, control_arms, lever_arms
from flywheel.errors import RecipeError, RunError
from flywheel.figures import duration, share, short, whole
from flywheel.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from rich.table import Table

    from flywheel.controls import Places


def add_control_commands(add: Add) -> None:
    """Add the commands to the parser of `flywheel.cli`."""
    controls = add("controls", _controls, "run a recipe and its controls, and compare them on the test split")
    controls.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    _add_common(controls)
    controls.add_argument(
        "--arms",
        default=",".join(CONTROLS),
        metavar="A,B",
        help=f"which controls (default: all: {', '.join(CONTROLS)})",
    )
    ablate = add("ablate", _ablate, "run a recipe with levers turned the other way, and compare them on the test split")
    ablate.add_argument("recipe", nargs="?", metavar="RECIPE", help=RECIPE_HELP)
    _add_common(ablate)
    ablate.add_argument("levers", nargs="*", metavar="LEVER", help="names (see --list), or section.field=value")
    ablate.add_argument("--list", action="store_true", help="say which levers there are, and end")


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="for all runs"
    )
    command.add_argument(
        "--run-dir",
        metavar="DIR",
        help="put all runs into DIR (default: the recipe's in runs/NAME, arms in runs/NAME-arms)",
    )
    command.add_argument("--json", action="store_true", help="the table as JSON on stdout; progress goes to stderr")


def _controls(arguments: argparse.Namespace) -> None:
    names = [name.strip() for name in arguments.arms.split(",") if name.strip()]
    if not names:
        raise RecipeError(f"--arms {arguments.arms!r} names no control; known: {', '.join(CONTROLS)}")
    _run(arguments, lambda recipe, reference: control_arms(recipe, reference, names), names, file="controls.json")


def _ablate(arguments: argparse.Namespace) -> None:
    if arguments.list:
        _list_levers()
        return
    if not arguments.recipe or not arguments.levers:
        raise RecipeError("give a recipe and at least one lever; `flywheel ablate --list` says which there are")
    names = arguments.levers
    _run(arguments, lambda recipe, reference: lever_arms(recipe, reference, names), names, file="ablations.json")


def _list_levers() -> None:
    width = max(map(len, LEVERS))
    for name, lever in LEVERS.items():
        off, on = (_dotted(lever.settings(Recipe(), on=turned)) for turned in (False, True))
        print(f"{name:<{width}}  {lever.what}  (off: {off}; on: {on})")


def _dotted(settings: dict[str, Any], prefix: str = "") -> str:
    parts = []
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            parts.append(_dotted(value, f"{prefix}{name}."))
        else:
            parts.append(f"{prefix}{name} = {json.dumps(value)}")
    return ", ".join(parts)


def _run(
    arguments: argparse.Namespace, arms: Callable[[Recipe, Reference], list[Arm]], names: list[str], *, file: str
) -> None:
    from flywheel.console import Console
    from flywheel.controls import compare

    recipe, places = _recipe_and_places(arguments)
    # A wrong name is told before hours of the recipe's own run.
    arms(recipe, Reference(rounds=recipe.stop.max_rounds, examples=[1]))
    with Console(sys.stderr if arguments.json else sys.stdout) as reporter:
        found = compare(recipe, places, arms, reporter)
    if "one_round" in names and "one_round" not in found["settings"]:
        found["notes"].append("one_round: left out, the recipe's own run took one round and so is this arm")
    store.write_json(places.arms / file, found)
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    from rich.console import Console as Terminal

    terminal = Terminal(highlight=False)
    terminal = terminal if terminal.is_terminal else Terminal(highlight=False, width=150)
    terminal.print(table(found))
    for note in found["notes"]:
        terminal.print(note, markup=False, soft_wrap=True)
    terminal.print(f"as JSON: {places.arms / file}", markup=False, soft_wrap=True)


def _recipe_and_places(arguments: argparse.Namespace) -> tuple[Recipe, Places]:
    from flywheel.controls import RECIPE, Places

    given = Path(arguments.recipe)
    if (given / "run.json").exists():
        if arguments.run_dir:
            raise RunError(f"{given} is a run's folder already; leave out --run-dir {arguments.run_dir}")
        recipe = load_recipe(given, arguments.overrides)
        return recipe, Places(given, given.with_name(f"{given.resolve().name}-arms"))
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.run_dir:
        if (Path(arguments.run_dir) / "run.json").exists():
            raise RunError(
                f"--run-dir {arguments.run_dir} is a run itself; give a folder for the recipe's run and its arms"
            )
        return recipe, Places(Path(arguments.run_dir) / RECIPE, Path(arguments.run_dir))
    return recipe, Places(Path("runs") / recipe.name, Path("runs") / f"{recipe.name}-arms")


def table(found: dict[str, Any]) -> Table:
    """The comparison as a table: what each run cost, and its champion's test pass@1 and pass@k with differences."""
    from rich.table import Table

    ks = list(dict.fromkeys(["1", str(found["k"])]))
    title = (
        f"{found['recipe']} and its arms on {found['n_problems']} test problems; differences with "
        f"{found['confidence']:.0%} intervals, paired by problem"
    )
    drawn = Table(title=title, title_justify="left")
    for name in ("run", "rounds", "rows", "tokens", "time"):
        drawn.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    for k in ks:
        for name in (f"pass@{k}", "− base", "− recipe"):
            drawn.add_column(name, justify="right", no_wrap=True)
    for row in found["table"]:
        cells = [row["name"], str(row["rounds"]), whole(row["rows"]), short(row["tokens"]), duration(row["seconds"])]
        for k in ks:
            if k not in row["pass_at"]:
                cells += ["–", "–", "–"]
                continue
            same = row["name"] == found["table"][0]["name"]
            difference = "" if same else _with_interval(row["against_recipe"][k])
            cells += [share(row["pass_at"][k]), _with_interval(row["against_base"][k]), difference]
        drawn.add_row(*cells)
    return drawn


def _with_interval(difference: dict[str, float]) -> str:
    """`+.042` and below it `[+.010, +.075]`, so that the table fits into a terminal."""
    value, low, high = (f"{difference[name]:+.3f}".replace("0.", ".", 1) for name in ("value", "low", "high"))
    return f"{value}\n[{low}, {high}]"
