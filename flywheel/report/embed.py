"""What goes into the page besides words: scripts that may run, data that cannot, and the chart library."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup


def json_for_html(value: Any) -> Markup:
    """JSON that stays data wherever it stands in HTML: nothing in it can end a script element or begin a comment.

    `<`, `>`, `&` and the line separators of JavaScript are written as escapes, which JSON readers undo.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def source(name: str) -> str:
    """A file of the page."""
    return (resources.files("flywheel.report") / name).read_text(encoding="utf-8")


def policy_hash(script: str) -> str:
    """The source expression by which a Content-Security-Policy lets exactly this script run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def library() -> tuple[str, str]:
    """plotly.js as the package brings it: compressed, as base64 text, and its policy hash.

    4.8 MB become 2.0 MB; the page inflates them with the browser's own DecompressionStream.
    """
    script = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    packed = base64.b64encode(gzip.compress(script, 9, mtime=0)).decode("ascii")
    return packed, policy_hash(script.decode("utf-8"))


def content_security_policy(scripts: list[str]) -> str:
    """A policy under which the page asks nothing of a network and runs these scripts only, by their hashes.

    A hash, unlike a nonce, cannot be guessed by a text that was written before the page: only the same script has it.
    Plotly sets styles on elements, hence `unsafe-inline` for styles; images are those it makes itself.
    """
    return (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
