"""The report of a run: one HTML file that any browser opens, with no server and nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from flywheel import __version__, figures, store
from flywheel.report import browse, embed
from flywheel.report.chart import FORMATS, Chart, plain, points
from flywheel.report.gather import view
from flywheel.report.lineage import drawing
from flywheel.view import RunView

SECTIONS = {
    "accuracy": "Accuracy",
    "width": "Narrowing",
    "difficulty": "Difficulty",
    "rounds": "Rounds",
    "lineage": "Lineage",
    "cost": "Cost",
    "samples": "Samples",
    "settings": "Settings",
}
"""The parts of the page by the ids of their headings."""


def write_report(run: RunView) -> Path:
    """Write `report.html` into a run's folder, from the files that are there, and return its path.

    A run that has only begun, or is at work at the moment, gets a report of what stands. Raises
    RunError where a file of the run is damaged or the disk is full.
    """
    path = run.directory / "report.html"
    with store.replacing(path) as temporary:
        temporary.write_text(render(run), encoding="utf-8")
    return path


def as_json(run: RunView) -> dict[str, Any]:
    """The figures of the report as JSON-shaped data: all that the page shows but its samples."""
    told: dict[str, Any] = json.loads(json.dumps(view(run), default=_plain_data))
    return told


def render(run: RunView) -> str:
    """The report as HTML text."""
    told = view(run)
    samples = browse.browse(run)
    parts = {"width": bool(told["generations"]), "accuracy": bool(told["generations"])}
    parts |= {"difficulty": bool(told["migration"]), "rounds": bool(told["rounds"])}
    parts |= {"cost": bool(told["cost"]["rows"]), "samples": bool(samples["total"])}
    return page(
        "report.html.jinja",
        **told,
        samples=samples,
        drawing=drawing(told["lineage"]),
        sections=[(id, title) for id, title in SECTIONS.items() if parts.get(id, True)],
        charts=list(_charts(told)),
    )


def page(template: str, *, charts: list[Chart], **content: Any) -> str:
    """A page from a template, with its charts' data, the library that draws them, and the policy that closes it."""
    scripts = {name: embed.source(f"{name}.js") for name in ("charts", "browse")}
    library, library_hash = embed.library()
    allowed = [*(embed.policy_hash(script) for script in scripts.values()), library_hash]
    return (
        _environment()
        .get_template(template)
        .render(
            content,
            version=__version__,
            style=embed.source("style.css"),
            scripts=scripts,
            library=library,
            policy=embed.content_security_policy(allowed),
            drawn={chart.id: chart.as_json() for chart in charts},
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("flywheel", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "as": lambda value, format: FORMATS[format](value),
        "duration": figures.duration,
        "json": embed.json_for_html,
        "plain": plain,
        "points": points,
        "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        "shift": lambda value: f"{value * 100:+.1f}",
        "short": figures.short,
        "value": lambda value: json.dumps(value, ensure_ascii=False),
        "whole": figures.whole,
    }
    return environment


def _charts(value: Any) -> Iterator[Chart]:
    """The charts among what the page shows, wherever they stand."""
    if isinstance(value, Chart):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _charts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _charts(item)


def _plain_data(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is not JSON-shaped")
