"""The commands that show what runs came to: `flywheel report`, `flywheel compare`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from flywheel import store
from flywheel.arguments import Add
from flywheel.errors import RunError
from flywheel.run import Run


def add_run_commands(add: Add) -> None:
    """Add the commands to the parser of `flywheel.cli`."""
    report = add("report", _report, "write report.html")
    report.add_argument("run", metavar="RUN")
    report.add_argument("--json", action="store_true", help="print the report's figures as JSON and write no file")

    compare = add("compare", _compare, "compare runs on the held-out problems that they share, with intervals")
    compare.add_argument(
        "runs", nargs="+", metavar="RUN", help="two runs' folders or more; differences are to the first"
    )
    compare.add_argument("--shared", action="store_true", help="where the problems differ, compare on those all have")
    compare.add_argument("--json", action="store_true", help="as JSON")
    compare.add_argument("--html", metavar="FILE", help="write a page as well")


def shown(path: Path) -> str:
    """A path relative to the working directory where it lies below it."""
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def _report(arguments: argparse.Namespace) -> None:
    from flywheel.report import as_json, write_report

    run = Run.load(arguments.run)
    print(json.dumps(as_json(run), indent=2, ensure_ascii=False) if arguments.json else shown(write_report(run)))


def _compare(arguments: argparse.Namespace) -> None:
    from flywheel.report.compare import as_page, compare, lines

    runs = {name: Run.load(name) for name in arguments.runs}
    if len(runs) < 2:
        raise RunError(f"{arguments.runs[0]} alone cannot be compared; give two different runs or more")
    comparison = compare(runs, shared=arguments.shared)
    if arguments.html:
        page = Path(arguments.html)
        with store.replacing(page) as temporary:
            temporary.write_text(as_page(comparison), encoding="utf-8")
    print(json.dumps(comparison, indent=2, ensure_ascii=False) if arguments.json else "\n".join(lines(comparison)))
    if arguments.html and not arguments.json:
        print(f"page {shown(page)}")
