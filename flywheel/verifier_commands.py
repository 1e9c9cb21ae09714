"""The commands about verifiers: `flywheel check`, `flywheel verify`, `flywheel new-verifier`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.arguments import Add, count
from flywheel.errors import PluginError, UserError
from flywheel.interrupts import interrupted
from flywheel.recipe import Recipe, VerifySection, load_recipe, parse_value, shipped_recipes
from flywheel.types import Problem


def add_verifier_commands(add: Add) -> None:
    """Add the commands to the parser of `flywheel.cli`."""
    check = add("check", _check, "hold a verifier to the invariants that training on its verdicts rests on")
    check.add_argument("subject", metavar="RECIPE|VERIFIER", help="a recipe, or a verifier by any of its names")
    check.add_argument(
        "--problems", metavar="FILE", help="JSONL problems to try it on: answer, prompt and what it needs"
    )
    check.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="for each kind of input (default 60), loading apart"
    )
    _add_common(check)

    verify = add("verify", _verify, "judge the completions in a file")
    verify.add_argument("verifier", metavar="VERIFIER", help="a registered name, pkg.mod:Name, or file.py:Name")
    verify.add_argument(
        "file", metavar="FILE.jsonl", help="rows with `completion` and what the verifier needs; - is stdin"
    )
    verify.add_argument("--out", required=True, metavar="OUT.jsonl", help="the rows with their verdicts; - is stdout")
    verify.add_argument("--workers", type=count, default=2, metavar="N", help="worker processes (default 2)")
    _add_common(verify)

    new = add("new-verifier", _new_verifier, "write a package with a verifier of your own and its tests")
    new.add_argument("verifier_name", metavar="NAME", help="lower-case letters, digits and _")
    new.add_argument("--dir", metavar="D", help="the package's folder (default: NAME)")


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--option", dest="options", action="append", default=[], metavar="K=V", help="repeatable")
    command.add_argument("--deadline", type=float, metavar="S", help="seconds for one completion (default: its own)")
    command.add_argument("--memory", type=float, metavar="GIB", help="memory a worker may add (default 1)")


def _options(settings: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--option {setting!r} is not of the form name=value")
        found[name.strip()] = parse_value(text.strip())
    return found


def _section(base: VerifySection, verifier: str, arguments: argparse.Namespace) -> VerifySection:
    """The section of a recipe with the command's own settings laid over it. Raises UserError."""
    from pydantic import ValidationError

    given = {
        "verifier": verifier,
        "options": {**base.options, **_options(arguments.options)},
        "workers": getattr(arguments, "workers", None),
        "deadline_seconds": arguments.deadline,
        "memory_gib": arguments.memory,
    }
    try:
        return VerifySection.model_validate(base.model_dump() | {n: v for n, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        flag = {"deadline_seconds": "--deadline", "memory_gib": "--memory", "workers": "--workers"}
        name = flag.get(str(first["loc"][0]), str(first["loc"][0]))
        raise UserError(f"{name} {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


# -- check ------------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from flywheel.check import check_verifier
    from flywheel.console import Console as Progress

    recipe = _recipe_if_one(arguments.subject)
    base, name = (recipe.verify, recipe.verify.verifier) if recipe else (VerifySection(), arguments.subject)
    section = _section(base, name, arguments)
    if not arguments.seconds > 0.0:
        raise UserError(f"--seconds {arguments.seconds:g}: it is above 0")
    problems = _problems(arguments.problems, recipe, name)
    try:
        with Progress(sys.stderr) as watched:
            report = check_verifier(
                name,
                section.options,
                problems,
                section=section,
                seconds=arguments.seconds,
                progress=lambda what, done, total: watched.progress(what, done, total, "inputs"),
            )
    except KeyboardInterrupt:
        return interrupted("stopped; nothing is decided")
    styles = {"held": "green", "violated": "red", "undecided": "yellow", "not applicable": "dim"}
    table = Table("invariant", "", "", title=Text(f"check of {name}"), title_justify="left")
    for finding in report.findings:
        table.add_row(finding.invariant, Text(finding.state, styles[finding.state]), Text(finding.detail))
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=140)
    console.print(table)
    broken, undecided, of = len(report.violations), len(report.undecided), f"of {len(report.findings)} invariants"
    ending = f"breaks {broken} {of}" if broken else f"leaves {undecided} {of} undecided" if undecided else "holds"
    console.print(Text(f"{name} {ending}"))
    return 1 if broken or undecided else 0


def _recipe_if_one(subject: str) -> Recipe | None:
    """The recipe that a word names; None where it names a verifier. Raises PluginError where it is neither."""
    from flywheel.plugins import known_verifiers

    if subject in known_verifiers() or ":" in subject:
        return None
    if subject in shipped_recipes() or Path(subject).exists():
        return load_recipe(subject, [])
    raise PluginError(
        f"{subject!r} is neither a verifier nor a recipe; verifiers: {', '.join(known_verifiers())}; recipes: "
        f"{', '.join(shipped_recipes())}. For your own give 'pkg.mod:Name', 'file.py:Name' or a recipe's path"
    )


def _problems(path: str | None, recipe: Recipe | None, verifier: str) -> list[Problem] | None:
    if path is not None:
        from flywheel.verify_rows import read_problems

        return read_problems(path)
    if recipe is None:
        return None
    from flywheel.problems import load_problems

    return [p for p in load_problems(recipe).problems if p.verifier in ("", verifier)]


# -- verify -----------------------------------------------------------------------------------------


def _verify(arguments: argparse.Namespace) -> int:
    from flywheel.console import Console
    from flywheel.verify_file import verify_file
    from flywheel.verify_places import PIPE

    section = _section(VerifySection(), arguments.verifier, arguments)
    try:
        with Console(sys.stderr) as console:
            tally = verify_file(
                section,
                arguments.file,
                arguments.out,
                lambda done, total: console.progress("verify", done, total, "rows"),
            )
    except KeyboardInterrupt:
        return interrupted(f"stopped; {'no more' if arguments.out == PIPE else 'nothing'} was written")
    print("\n".join(tally.lines()), file=sys.stderr if arguments.out == PIPE else sys.stdout)
    return 1 if tally.nothing_judged() else 0


# -- new-verifier -----------------------------------------------------------------------------------


def _new_verifier(arguments: argparse.Namespace) -> None:
    from flywheel.verifier_scaffold import write_package

    folder = write_package(arguments.verifier_name, Path(arguments.dir or arguments.verifier_name))
    print(f"wrote {folder}: pip install -e {folder}, then flywheel check {arguments.verifier_name}")
