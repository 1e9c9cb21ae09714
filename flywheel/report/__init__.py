"""The report of a run: one HTML file that any browser opens, with no server and nothing from the network."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from flywheel import figures, store
from flywheel.report.gather import view as gather
from flywheel.report.gather import visible
from flywheel.view import RunView


def write_report(run: RunView) -> Path:
    """Write `report.html` into a run's folder, from the files that are there, and return its path.

    A run that has only begun, or is at work at the moment, gets a report of what stands. Raises
    RunError where a file of the run is damaged or the disk is full.
    """
    path = run.directory / "report.html"
    with store.replacing(path) as temporary:
        temporary.write_text(render(run), encoding="utf-8")
    return path


def render(run: RunView) -> str:
    """The report as HTML text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        whole=figures.whole,
        short=figures.short,
        share=figures.share,
        duration=figures.duration,
        visible=visible,
        pretty=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    )
    folder = resources.files("flywheel.report")
    template = environment.from_string((folder / "report.html.jinja").read_text(encoding="utf-8"))
    return template.render(gather(run), style=(folder / "style.css").read_text(encoding="utf-8"))
