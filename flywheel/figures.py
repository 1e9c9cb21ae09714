"""Numbers as people read them, the same in the console and in the report."""

from __future__ import annotations


def whole(value: int | None) -> str:
    """`1,536`; a dash for what is not known or does not apply."""
    return "–" if value is None else f"{value:,}"


def short(value: int | None) -> str:
    """A large count in five characters or so: `812`, `45.2k`, `1.31M`, `20.5M`, `2.05G`."""
    if value is None or value < 1000:
        return whole(value)
    if value < 999_950:
        return f"{value / 1000:.1f}k"
    number, unit = (value / 1e6, "M") if value < 999_500_000 else (value / 1e9, "G")
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}{unit}"


def share(value: float | None) -> str:
    """A rate to three places, without the idle zero: `.241`, `-.020`, `1.00`."""
    if value is None:
        return "–"
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    """`45s`, `4m58s`, `2h07m`."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
