"""The lineage: which generation was trained from which, as a table and as a small drawing."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

from flywheel.view import RunView

COLUMN, ROW, TOP, RADIUS = 112, 64, 40, 11
LABEL = 30  # below a node, to the baseline of its text


def lineage_rows(run: RunView) -> list[dict[str, Any]]:
    """One row a generation: parent, status, digest, path; `mixed` is the candidate's share where it was repaired."""
    champion = run.champion().index
    return [
        {
            "generation": g.index,
            "parent": g.parent,
            "status": g.status,
            "champion": g.index == champion,
            "mixed": g.alpha,
            "path": g.path,
            "digest": run.model_digest(g),
            "deleted": g.index > 0 and not (run.directory / g.path).exists(),
        }
        for g in run.generations()
    ]


def drawing(rows: list[dict[str, Any]]) -> Markup:
    """Generations from left to right; what was accepted lies on the upper line, what was rejected hangs below it."""
    place = {row["generation"]: (i, row["status"] == "rejected") for i, row in enumerate(rows)}
    low = any(below for _, below in place.values())
    width, height = COLUMN * len(rows), TOP + LABEL + 16 + (ROW if low else 0)

    def at(generation: int) -> tuple[float, float]:
        column, below = place[generation]
        return COLUMN * (column + 0.5), TOP + (ROW if below else 0)

    shapes = []
    for row in rows:
        if row["parent"] in place:
            (x, y), (px, py) = at(row["generation"]), at(row["parent"])
            # A parent further back is reached over the heads of those between.
            lift = 26 if x - px > COLUMN * 1.5 and y == py else 0
            middle = (x + px) / 2
            path = f"M{px:.0f} {py:.0f}C{middle:.0f} {py - lift:.0f} {middle:.0f} {y - lift:.0f} {x:.0f} {y:.0f}"
            shapes.append(f'<path class="edge {escape(row["status"])}" d="{path}"/>')
    for row in rows:
        x, y = at(row["generation"])
        kind = "champion" if row["champion"] else row["status"]
        shapes.append(f'<circle class="node {escape(kind)}" cx="{x:.0f}" cy="{y:.0f}" r="{RADIUS}"/>')
        name = "base" if row["generation"] == 0 else f"generation {row['generation']}"
        star = " ★" if row["champion"] else ""
        shapes.append(f'<text x="{x:.0f}" y="{y + LABEL:.0f}" text-anchor="middle">{name}{star}</text>')
    label = ", ".join(
        f"generation {row['generation']} from {row['parent']} ({row['status']})" for row in rows if row["generation"]
    )
    return Markup(
        f'<svg class="lineage" viewBox="0 0 {width} {height}" style="width: {width}px" role="img" '
        f'aria-label="Lineage: {escape(label or "only the base")}">{"".join(shapes)}</svg>'
    )
