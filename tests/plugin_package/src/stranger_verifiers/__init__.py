"""A verifier that knows nothing of flywheel but the protocol: it imports none of it."""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass
class Palindrome:
    """Right where the completion reads the same backwards and is long enough."""

    name: ClassVar[str] = "palindrome"
    version: ClassVar[str] = "7"

    shortest: int = 3

    def verify(self, problem: Any, completion: str) -> dict[str, Any]:
        letters = [c for c in completion.lower() if c.isalpha()]
        right = len(letters) >= self.shortest and letters == letters[::-1]
        return {"score": 1.0 if right else 0.0, "answer": "".join(letters)}
