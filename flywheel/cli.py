"""The `flywheel` command. User errors are one line on stderr and exit code 2; the rest exits with 1."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from flywheel import __version__, store
from flywheel.arguments import RECIPE_HELP, count
from flywheel.control_commands import add_control_commands
from flywheel.errors import FlywheelError, RecipeError, RunError, UserError
from flywheel.forecast_commands import add_forecast_commands
from flywheel.interrupts import interrupted, interrupts_by_any_signal
from flywheel.progress import Reporter
from flywheel.recipe import Recipe, apply_overrides, load_recipe, shipped_recipes, validate
from flywheel.run import Run
from flywheel.run_commands import add_run_commands, shown
from flywheel.verifier_commands import add_verifier_commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    interrupts_by_any_signal()
    try:
        return int(arguments.command(arguments) or 0)
    except UserError as error:
        return _fail(error, 2)
    except FlywheelError as error:
        return _fail(error, 1)
    except (PermissionError, NotADirectoryError) as error:
        where = error.filename or "a file"
        return _fail(UserError(f"{where}: {error.strerror}; give a place where you may read and write"), 2)
    except KeyboardInterrupt:
        return interrupted("stopped; what is finished is kept, and the same command goes on from it")
    except BrokenPipeError:  # `flywheel show demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _fail(error: FlywheelError, code: int) -> int:
    print(f"flywheel: {' '.join(str(error).split())}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """A mistake on the command line is one line as well."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"flywheel: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="flywheel", description="Improve a language model on problems whose answers can be checked.")
    parser.add_argument("--version", action="version", version=f"flywheel {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def add(name: str, function: object, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(command=function)
        return command

    run = add("run", _run, "start a run, or go on with it")
    run.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    _add_set(run)
    run.add_argument("--run-dir", metavar="DIR", help="the run's folder (default: runs/NAME, NAME being the recipe's)")
    run.add_argument("--rounds", type=count, metavar="N", help="so many rounds at most, within stop.max_rounds")
    run.add_argument("--no-prefect", action="store_true", help="run the loop directly, without Prefect")

    add("recipes", _recipes, "list the shipped recipes")
    show = add("show", _show, "print a recipe with every setting resolved, as JSON")
    show.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    _add_set(show)
    init = add("init", _init, "write a commented start for a recipe of your own")
    init.add_argument("path", nargs="?", default="recipe.toml", metavar="PATH")

    status = add("status", _status, "say where a run stands")
    status.add_argument("run", metavar="RUN")
    status.add_argument("--json", action="store_true", help="as JSON")
    redo = add("redo", _redo, "forget a stage and all that follows, so that `run` makes it anew")
    redo.add_argument("stage", metavar="STAGE", help="plan, sample, verify, filter, train, evaluate, gate …")
    redo.add_argument("run", metavar="RUN")
    redo.add_argument("--round", type=int, metavar="N", help="the round; without it the base's stages, or the finale")
    _add_set(redo)
    trace = add("trace", _trace, "tell what became of a sample")
    trace.add_argument("run", metavar="RUN")
    trace.add_argument("sample", metavar="SAMPLE_ID")
    add_run_commands(add)
    add_verifier_commands(add)
    add_control_commands(add)
    add_forecast_commands(add)

    submit = add("submit", _submit, "start a deployment on a Prefect server with a recipe")
    submit.add_argument("recipe", metavar="RECIPE")
    _add_set(submit)
    submit.add_argument("--deployment", default="expert-iteration/one-shot", metavar="FLOW/NAME")
    submit.add_argument("--run-dir", metavar="DIR", help="the run's folder on the worker")
    submit.add_argument("--rounds", type=count, metavar="N")
    doctor = add("doctor", _doctor, "check the environment, and end what a dead run left behind")
    doctor.add_argument("run", nargs="?", metavar="RUN", help="a run's folder (default: all in runs/)")
    return parser


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="override a setting; repeatable",
    )


# -- running ---------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    from flywheel.console import Console

    recipe, directory = _recipe_and_directory(arguments)
    with Console() as reporter:
        if arguments.no_prefect:
            from flywheel.loop import spin

            with Run.open(recipe, directory, reporter=reporter) as run:
                spin(run, rounds=arguments.rounds)
        else:
            from flywheel.flows.local import run_local

            run_local(recipe, directory, arguments.rounds, reporter)
        _close_with_result(Run.load(directory), reporter)
    return 0


def _recipe_and_directory(arguments: argparse.Namespace) -> tuple[Recipe, Path]:
    given = Path(arguments.recipe)
    if (given / "run.json").exists():
        if arguments.run_dir:
            raise RunError(f"{given} is a run's folder already; leave out --run-dir {arguments.run_dir}")
        return load_recipe(given, arguments.overrides), given
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    return recipe, Path(arguments.run_dir or Path("runs") / recipe.name)


def _close_with_result(run: Run, reporter: Reporter) -> None:
    from flywheel.report import write_report

    report = write_report(run)
    for line in result_lines(run):
        reporter.message(line)
    reporter.message(f"report   {shown(report)}")


def result_lines(run: Run) -> list[str]:
    """How a run stands, for the end of `flywheel run` and for `flywheel status`."""
    champion = run.champion()
    ended = run.ended()
    so_far = f"not ended: {len(run.history())} of at most {run.recipe.stop.max_rounds} rounds"
    lines = [f"ended: {ended}" if ended else so_far]
    name = "the base" if champion.index == 0 else f"generation {champion.index}"
    lines.append(f"champion {name}")
    if champion.index and "finale" in run.finale().manifest.entries():
        test = store.read_json(run.finale().folder / "metrics.json")["test"]
        for k in dict.fromkeys(("1", str(run.recipe.evaluate.samples))):
            if k not in test["difference"]:
                continue
            base, now, d = test["base"]["pass_at"][k], test["champion"]["pass_at"][k], test["difference"][k]
            times = f", {now / base:.1f} times the base" if base > 0 else ""
            lines.append(
                f"test pass@{k} {base:.3f} -> {now:.3f}: {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}] on "
                f"{test['base']['n_problems']} untouched problems{times}"
            )
    lines.append(f"model    {shown(run.model_path(champion))}")
    return lines


# -- recipes ---------------------------------------------------------------------------------------


def _recipes(arguments: argparse.Namespace) -> None:
    recipes = shipped_recipes()
    width = max(map(len, recipes))
    for name, path in recipes.items():
        print(f"{name:<{width}}  {tomllib.loads(path.read_text()).get('description', '')}")


def _show(arguments: argparse.Namespace) -> None:
    print(load_recipe(arguments.recipe, arguments.overrides).model_dump_json(indent=2))


def _init(arguments: argparse.Namespace) -> None:
    from flywheel.scaffold import recipe_template

    path = Path(arguments.path)
    with store.disk_errors(path):
        try:
            with path.open("x", encoding="utf-8") as handle:
                handle.write(recipe_template())
        except FileExistsError:
            raise RecipeError(f"{path} is there already; give another path: flywheel init PATH") from None
        except (FileNotFoundError, NotADirectoryError):
            raise RecipeError(f"{path.parent} is not a folder; make it first or give another path") from None
    print(f"wrote {path}: uncomment what you change, then flywheel run {path}")


# -- looking at runs -------------------------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> None:
    run = Run.load(arguments.run)
    if arguments.json:
        rows = run.generation_rows()
        print(json.dumps({"champion": run.champion().index, "ended": run.ended(), "generations": rows}, indent=2))
        return
    from flywheel.console import table_lines
    from flywheel.stages import ROUND

    for line in [*table_lines(run.generation_rows()), *result_lines(run)]:
        print(line)
    for scope in run.rounds():
        done = scope.manifest.entries()
        if "gate" not in done and not run.ended():
            names = [stage.name for stage in ROUND if stage.name in done]
            print(f"{scope.label} is under way: done {', '.join(names) or 'nothing'}")


def _redo(arguments: argparse.Namespace) -> None:
    from flywheel.lineage import redo

    before = Run.load(arguments.run)
    raw = before.recipe.model_dump(mode="json")
    recipe = validate(apply_overrides(raw, arguments.overrides), where=arguments.run)
    with before.locked():
        for line in redo(before, arguments.stage, arguments.round, recipe):
            print(f"forgot {line}")
    print(f"now: flywheel run {arguments.run}")


def _trace(arguments: argparse.Namespace) -> None:
    from flywheel.lineage import trace

    print("\n".join(trace(Run.load(arguments.run), arguments.sample)))


# -- Prefect and the environment -------------------------------------------------------------------


def _submit(arguments: argparse.Namespace) -> None:
    from flywheel.flows.submit import submit

    if (Path(arguments.recipe) / "run.json").exists() and not arguments.run_dir:
        raise RunError(f"{arguments.recipe} is a run's folder here; say with --run-dir which the worker's is to be")
    load_recipe(arguments.recipe, arguments.overrides)
    print(
        submit(
            arguments.recipe,
            arguments.overrides,
            deployment=arguments.deployment,
            run_dir=arguments.run_dir,
            rounds=arguments.rounds,
        )
    )


def _doctor(arguments: argparse.Namespace) -> int:
    from flywheel.doctor import examine

    worst = 0
    for finding in examine(Path(arguments.run) if arguments.run else None):
        print(f"{finding.mark:<5} {finding.what:<10} {finding.text}")
        worst = max(worst, finding.exit_code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
