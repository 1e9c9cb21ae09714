"""What a verifier says that it cannot judge, whatever the completions: a problem, or too few of them.

All of it is optional (`flywheel.protocols.Verifier`), and asked of an instance before a run loads anything.
"""

from __future__ import annotations

from typing import Any

from flywheel.errors import PluginError
from flywheel.protocols import Verifier
from flywheel.types import Problem


def unfit_for(verifier: Verifier, problem: Problem) -> str | None:
    """Why an instance cannot judge any completion of `problem`, in one line; None where it can or does not say.

    Raises PluginError where it fails over the question.
    """
    return _said(verifier, "unfit", problem)


def undecidable(verifier: Verifier, samples: int) -> str | None:
    """Why an instance could come to no verdict on a problem with so many completions, in one line; else None.

    Raises PluginError where it fails over the question.
    """
    return _said(verifier, "undecidable", samples)


def answer_is_question(verifier: Verifier) -> bool:
    """Whether a problem's `answer` only states what is asked, as a theorem does, so that showing it tells nothing."""
    return bool(getattr(verifier, "answer_is_question", False))


def _said(verifier: Verifier, hook: str, asked: Any) -> str | None:
    method = getattr(verifier, hook, None)
    if not callable(method):
        return None
    try:
        said = method(asked)
    except PluginError:
        raise
    except Exception as error:  # it may be anybody's code
        what = getattr(asked, "id", asked)
        name = getattr(verifier, "name", type(verifier).__name__)
        raise PluginError(f"verifier {name!r}: {hook}({what!r}) failed: {type(error).__name__}: {error}") from error
    return " ".join(str(said).split()) if said else None
