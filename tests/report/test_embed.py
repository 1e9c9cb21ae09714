"""Data in a page stays data, and the policy knows the scripts that may run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.report import embed

NASTY = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["</script>", "<!--", "<script>", "]]>", "</SCRIPT\t>", "\u2028", "&lt;", "<!--<script>", "\x00"]),
)


class Scripts(HTMLParser):
    """The content of script elements and the other tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inside, self.content, self.others = False, "", 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.inside = tag == "script"
        self.others += tag != "script"

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.content += data


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        NASTY, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3), max_leaves=6
    )
)
def test_json_stays_data_in_a_page(value: object) -> None:
    text = str(embed.json_for_html(value))
    assert not set(text) & set("<>&\u2028\u2029")
    page = Scripts(f'<script type="application/json">{text}</script>')
    assert json.loads(page.content) == value
    assert page.others == 0


def test_the_library_is_plotly_whole() -> None:
    packed, allowed = embed.library()
    script = gzip.decompress(base64.b64decode(packed))
    assert b"Plotly" in script and len(script) > 3_000_000
    assert allowed == f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
    assert len(packed) < 2_100_000
    assert "http" not in packed[:100]


def test_the_policy_lets_nothing_else_in() -> None:
    policy = embed.content_security_policy(["'sha256-a'", "'sha256-b'"])
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'sha256-a' 'sha256-b'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
