"""What a verifier says that it cannot judge, whatever the completions: a problem, or too few of them.

All of it is optional (`flywheel.plugins.Verifier`), and asked of an instance before a run loads anything.
"""

from __future__ import annotations

from flywheel.plugins import Verifier
from flywheel.types import Problem


def unfit_for(verifier: Verifier, problem: Problem) -> str | None:
    """Why an instance cannot judge any completion of `problem`, in one line; None where it can or does not say."""
    unfit = getattr(verifier, "unfit", None)
    said = unfit(problem) if callable(unfit) else None
    return " ".join(str(said).split()) if said else None


def undecidable(verifier: Verifier, samples: int) -> str | None:
    """Why an instance could come to no verdict on a problem with so many completions, in one line; else None."""
    asked = getattr(verifier, "undecidable", None)
    said = asked(samples) if callable(asked) else None
    return " ".join(str(said).split()) if said else None


def answer_is_question(verifier: Verifier) -> bool:
    """Whether a problem's `answer` only states what is asked, as a theorem does, so that showing it tells nothing."""
    return bool(getattr(verifier, "answer_is_question", False))
