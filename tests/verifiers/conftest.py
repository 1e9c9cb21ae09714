"""A judge's endpoint, for all tests of judges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.verifiers.judge_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
