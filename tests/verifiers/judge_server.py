"""A real HTTP server whose "models" judge by plain rules, as the tests of `judge` ask it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from flywheel import Judgement, Problem
from flywheel.verifiers.judge import Judge
from tests.json_server import JsonHandler, JsonServer

PROBLEM = Problem(id="p", prompt="What is 6 · 7?", answer="42")
RUBRIC = "The answer must be right and give a reason."


class Asked(NamedTuple):
    """A judge's prompt, taken apart by its fences as a careful reader does."""

    sections: dict[str, str]
    order: list[str]
    keyword: str
    text: str
    outside: str
    """What is not quoted, as far as the fences hold."""


def taken_apart(body: dict[str, Any]) -> Asked:
    told = (m["content"] for m in reversed(body["messages"]) if m["role"] != "assistant")  # who may quote the rule
    text = next(content for content in told if "a fence line is one that has" in content)
    nonce = re.findall(r"a fence line is one that has ([0-9a-f]{16}) in it", text)[-1]
    keyword = ["", *re.findall(r"^(VERDICT-[0-9A-F]{6}:) [NX]$", text, re.MULTILINE)][-1]  # "" where a letter will do
    fence = re.compile(rf"===== ([A-Z ]+?) {nonce} BEGINS =====\n(.*?)\n===== \1 {nonce} ENDS =====", re.DOTALL)
    parts = fence.findall(text)
    return Asked(dict(parts), [label for label, _ in parts], keyword, text, fence.sub("", text))


Model = Callable[[Asked], str]


def worth(text: str) -> int:
    """How good an answer is to an honest model: 9 where it is right and says why, 5 right, 2 otherwise."""
    right = re.search(r"\b42\b", text) is not None and "43" not in text
    return 9 if right and "because" in text else 5 if right else 2


def honest(asked: Asked) -> str:
    if "ANSWER" in asked.sections:
        return f"I have read it.\n{asked.keyword} {worth(asked.sections['ANSWER'])}"
    a, b = worth(asked.sections["ANSWER A"]), worth(asked.sections["ANSWER B"])
    return f"I have read both.\n{asked.keyword} {'A' if a > b else 'B' if b > a else 'TIE'}"


class Server(JsonServer):
    """Speaks as much of the OpenAI protocol as a judge needs."""

    def __init__(self) -> None:
        self.model: Model = honest
        self.bodies: list[dict[str, Any]] = []
        self.reason = "stop"
        self.alone: Model | None = None
        """What says the verdict where it alone is asked for; None asks `model`, which is not held to anything."""
        self.status = 200
        self.refuses = ""
        """A field of a request that the server answers with status 400."""
        server = self

        class Handler(JsonHandler):
            def do_GET(self) -> None:
                self.answer(200, {"data": [{"id": "judge-1"}]})

            def do_POST(self) -> None:
                body = self.asked()
                server.bodies.append(body)
                content, reason = server.model(taken_apart(body)), server.reason
                if "response_format" in body and server.alone is not None:
                    content, reason = json.dumps({"answer": server.alone(taken_apart(body))}), "stop"
                choice = {"message": {"content": content}, "finish_reason": reason}
                status = 400 if server.refuses and server.refuses in body else server.status
                self.answer(status, {"choices": [choice], "usage": {"completion_tokens": 5}})

        super().__init__(Handler)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def judge(server: Server, **options: Any) -> Judge:
    return Judge(**{"rubric": RUBRIC, "model": "judge-1", "endpoint": server.url, **options})


def outcomes(judgements: list[Judgement]) -> list[str]:
    return [str(j.outcome) for j in judgements]


GOOD, FAIR, BAD = "It is 42, because 7 · 6 = 42.", "42", "It is 43."
