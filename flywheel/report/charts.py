"""Charts as inline SVG: no script, no library, colours from the page's style so that dark mode holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 54, 76, 16, 40


@dataclass(frozen=True, slots=True)
class Series:
    """A named line: one value in [0, 1] a generation, with its interval where there is one."""

    name: str
    values: Sequence[float]
    intervals: Sequence[tuple[float | None, float | None]] | None


def by_generation(generations: Sequence[int], series: Sequence[Series], accepted: Sequence[bool]) -> Markup:
    """Rates over generations. The line joins what was accepted; what was rejected is a hollow point beside it."""
    highs = [high or 0.0 for s in series for _, high in s.intervals or []]
    top = min(1.0, max(0.1, math.ceil(10 * max([v for s in series for v in s.values] + highs)) / 10))

    def x(position: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (position / max(len(generations) - 1, 1))

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)

    shapes = [_grid(top, y)]
    shapes += [
        f'<text class="tick" x="{x(i):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{generation}</text>'
        for i, generation in enumerate(generations)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    shapes.append(f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 4}" text-anchor="middle">generation</text>')
    for number, s in enumerate(series):
        line = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(s.values) if accepted[i])
        shapes.append(f'<g class="series-{number}"><polyline class="line" points="{line}"/>')
        for i, value in enumerate(s.values):
            low, high = s.intervals[i] if s.intervals else (None, None)
            if low is not None and high is not None:
                shapes.append(f'<path class="whisker" d="M{x(i):.1f} {y(low):.1f}V{y(high):.1f}"/>')
            kind = "point" if accepted[i] else "point rejected"
            shapes.append(f'<circle class="{kind}" cx="{x(i):.1f}" cy="{y(value):.1f}" r="5">')
            shapes.append(f"<title>{_tooltip(s, i, generations[i], accepted[i])}</title></circle>")
        last = max(i for i, ok in enumerate(accepted) if ok)
        shapes.append(
            f'<text class="name" x="{WIDTH - RIGHT + 12}" y="{y(s.values[last]) + 4:.1f}">{escape(s.name)}</text></g>'
        )
    label = ", ".join(f"{s.name} from {s.values[0]:.3f} to {s.values[-1]:.3f}" for s in series)
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(shapes)}</svg>'
    )


def _grid(top: float, y: Callable[[float], float]) -> str:
    lines = []
    for tenth in range(0, round(top * 10) + 1, 1 if top <= 0.5 else 2):
        at = y(tenth / 10)
        lines.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        lines.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tenth * 10} %</text>')
    return "".join(lines)


def _tooltip(series: Series, position: int, generation: int, accepted: bool) -> str:
    low, high = series.intervals[position] if series.intervals else (None, None)
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    text = f"generation {generation}: {series.name} {series.values[position]:.3f}{interval}"
    return str(escape(text if accepted else f"{text}, rejected"))
