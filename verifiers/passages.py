"""The generator `passages`: short texts about towns that do not exist, with questions on what they say.

Made up, so that no model can know the answers from elsewhere: what it answers without the text, it has learnt from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

PROMPT = """Read this text and write down what follows from it, as short sentences that can each be understood alone, \
one a line. Name the town in every sentence.

{passage}"""

_BEGINNINGS = (
    "Vel",
    "Tar",
    "Oss",
    "Bren",
    "Mor",
    "Kes",
    "Lun",
    "Hal",
    "Dor",
    "Fen",
    "Gar",
    "Ild",
    "Nor",
    "Pel",
    "Quil",
    "Rav",
)
_MIDDLES = ("a", "e", "i", "o", "u", "an", "el", "or", "is", "um")
_ENDS = ("mora", "dale", "wick", "stad", "nia", "burg", "ford", "vik", "thorpe", "lin")
_FIRST = ("Osric", "Maren", "Tobin", "Ilsa", "Henrik", "Petra", "Anselm", "Greta", "Corvin", "Ada", "Silas", "Runa")
_LAST = ("Hale", "Brandt", "Ostermann", "Vane", "Lindqvist", "Marsh", "Keller", "Thorne", "Adler", "Frost")
_GOODS = (
    "blue glass",
    "clay pipes",
    "wool blankets",
    "copper bells",
    "salt",
    "honey cakes",
    "paper lamps",
    "oak barrels",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WATERS = ("river", "lake", "bay", "canal")

FACTS: tuple[tuple[str, str, str], ...] = (
    ("{town} was founded in {year} by {founder}.", "In which year was {town} founded?", "year"),
    ("It lies on the {water} {shore}.", "On which {water} does {town} lie?", "shore"),
    ("The people of {town} are known for their {goods}.", "What are the people of {town} known for?", "goods"),
    ("A market is held there every {day}.", "On which day is the market of {town} held?", "day"),
    ("The mayor of {town} is {mayor}.", "Who is the mayor of {town}?", "mayor"),
)
"""A sentence of the passage, the question on it, and which of the facts answers that."""


@dataclass(frozen=True)
class Passages:
    """Passages of five sentences; `answer` is JSON: a list of objects with `question` and `answer`."""

    name: ClassVar[str] = "passages"

    questions: int = 5
    """Questions on a passage, of five."""

    def __post_init__(self) -> None:
        if not 1 <= self.questions <= len(FACTS):
            raise ValueError(f"questions is from 1 to {len(FACTS)}")

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Passages on different towns, the same ones for the same seed, as long as there are names."""
        random = Random(seed)
        names = [b + m + e for b in _BEGINNINGS for m in _MIDDLES for e in _ENDS]
        random.shuffle(names)
        for number, town in enumerate(names):
            facts = {
                "town": town,
                "year": str(random.randint(1050, 1890)),
                "founder": f"{random.choice(_FIRST)} {random.choice(_LAST)}",
                "water": random.choice(_WATERS),
                "shore": random.choice(_BEGINNINGS) + random.choice(_ENDS),
                "goods": random.choice(_GOODS),
                "day": random.choice(_DAYS),
                "mayor": f"{random.choice(_FIRST)} {random.choice(_LAST)}",
            }
            passage = " ".join(said.format(**facts) for said, _, _ in FACTS)
            asked = [{"question": q.format(**facts), "answer": facts[fact]} for _, q, fact in FACTS[: self.questions]]
            yield {
                "id": f"passage-{seed}-{number:04d}",
                "prompt": PROMPT.format(passage=passage),
                "answer": json.dumps(asked),
                "passage": passage,
            }
