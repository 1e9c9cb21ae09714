"""A chart as plain data: what the page draws, what its table says, and what stands in the JSON are one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from flywheel import figures

Number = float | int | None


def points(value: Number) -> str:
    """A share as a percentage without idle places: `24.1 %`."""
    return "–" if value is None else f"{value * 100:.1f} %"


def plain(value: Number) -> str:
    """A number in about three figures: `0.412`, `3.27`, `128`, `12,400`."""
    if value is None:
        return "–"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.{3 if size < 1 else 2}f}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "share": points,
    "number": plain,
    "seconds": figures.duration,
    "count": figures.short,
}
"""How a chart's values are written, by the name that stands in its data."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value at each x; None where it was not measured. Where there are intervals, `low` and `high` are as long."""

    name: str
    values: Sequence[Number]
    low: Sequence[Number] | None = None
    high: Sequence[Number] | None = None
    quiet: bool = False
    """Drawn behind the others, without its interval."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A horizontal line: what the gate compares with."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Chart:
    """`kind` is lines (over an ordered x), bars (side by side) or stack (bars that add up)."""

    id: str
    title: str
    kind: Literal["lines", "bars", "stack"]
    x_title: str
    x: Sequence[int | str]
    format: Literal["share", "number", "seconds", "count"]
    series: Sequence[Series]
    rejected: Sequence[bool] = ()
    """Which x are generations that the gate rejected: hollow, and beside the line."""
    limits: Sequence[Limit] = ()
    note: str = ""
    log_x: bool = False
    from_zero: bool = True
    colours: Sequence[str] = field(default=())
    """Names of the page's colours, where the series have a meaning of their own (good, bad)."""

    def as_json(self) -> dict[str, Any]:
        """The chart as JSON-shaped data."""
        return asdict(self)

    def header(self) -> list[str]:
        """The head of the table under the chart."""
        return [self.x_title, *(s.name for s in self.series)]

    def rows(self) -> list[list[str]]:
        """The table under the chart, as text."""
        return [[self._label(i), *(self._cell(series, i) for series in self.series)] for i in range(len(self.x))]

    def _label(self, position: int) -> str:
        rejected = bool(self.rejected) and self.rejected[position]
        return f"{self.x[position]}{' (rejected)' if rejected else ''}"

    def _cell(self, series: Series, position: int) -> str:
        write = FORMATS[self.format]
        text = write(series.values[position])
        if series.low is None or series.high is None or series.low[position] is None:
            return text
        return f"{text} [{write(series.low[position])}, {write(series.high[position])}]"

    def summary(self) -> str:
        """One sentence for those who cannot see the chart."""
        write = FORMATS[self.format]
        parts = []
        for series in self.series:
            known = [(x, v) for x, v in zip(self.x, series.values, strict=True) if v is not None]
            if len(known) > 1 and self.kind == "lines":
                (first, start), (last, end) = known[0], known[-1]
                where = f"from {write(start)} ({self.x_title} {first}) to {write(end)} ({self.x_title} {last})"
                parts.append(f"{series.name} {where}")
            elif known:
                parts.append(f"{series.name} " + ", ".join(f"{write(v)} at {x}" for x, v in known))
        limits = [f"limit {limit.name} at {write(limit.value)}" for limit in self.limits]
        return f"{self.title}: {'; '.join([*parts, *limits])}. The table below has the figures."


def has_values(chart: Chart) -> bool:
    """Whether anything was measured at all."""
    return any(value is not None for series in chart.series for value in series.values)
