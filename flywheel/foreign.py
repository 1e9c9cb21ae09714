"""The edge to other people's code in our own process: what escapes from it is one line that says what and where."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from flywheel.errors import FlywheelError, PluginError


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever the code inside raises into a PluginError; `what` names that code for people.

    An error of ours that it raises on purpose (EngineError, EndpointError) stays what it is.
    """
    try:
        yield
    except FlywheelError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename} line {frame.lineno}"
        raise PluginError(
            f"{what} raised {type(error).__name__}: {error} ({place}); put it right and run the same command again"
        ) from error
