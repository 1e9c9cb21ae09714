"""The rows that pass between stages, as frozen dataclasses.

Every row is plain data: strings, numbers, JSON-shaped dicts. `flywheel.store` derives the Arrow
schema of a Parquet file from these definitions, so a field added here is a column added there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict

from flywheel.fingerprint import short_digest


class Message(TypedDict):
    """One turn of a conversation, in the form chat templates take."""

    role: str
    content: str


class Outcome(StrEnum):
    """What a verifier can say of a completion.

    `NO_ANSWER` means there was nothing to judge and counts as not correct. `TIMEOUT` means the
    completion's own content exhausted the deadline and counts as not correct. `ERROR` is the fault of
    the verifier or the reference: it stands in no pass rate and is never "wrong".
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    ERROR = "error"


class Split(StrEnum):
    """Which part of the problems a problem belongs to; held-out means dev or test."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


class Origin(StrEnum):
    """Where a completion came from."""

    POLICY = "policy"
    HINTED = "hinted"
    CORRECTED = "corrected"
    TEACHER = "teacher"
    HUMAN = "human"
    BASE = "base"
    GENERAL = "general"
    OLDER_GENERATION = "older_generation"


class PathKind(StrEnum):
    """What makes two right answers the same: their equations, their program, or their words."""

    EQUATIONS = "equations"
    CODE = "code"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt whose completions can be checked.

    `prompt` is what the user turn says; `messages`, where given, is the whole conversation and wins.
    `answer` is the reference answer, `solution` a worked human one (it can be trained on by `mix`).
    `ood` names the out-of-distribution set a problem belongs to, "" for the recipe's own problems.
    `meta` is carried for the verifier and the report.
    """

    id: str
    prompt: str
    answer: str
    verifier: str = ""
    split: str = Split.TRAIN
    solution: str | None = None
    messages: list[Message] | None = None
    ood: str = ""
    meta: dict[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """Sixteen hex digits over prompt and answer: a problem keeps its split when its file grows."""
        return short_digest({"prompt": self.prompt, "messages": self.messages, "answer": self.answer})


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion. `tokens` counts generated tokens; `finish_reason` is stop, length or error.
    `follows` names the wrong first attempt that a second one (origin `corrected`) was asked to put right.

    `generation` drew it; -1 where another model did, which `sampler` then names. `logprob` is the mean
    log-probability (nats) of the generated tokens where the policy reports it.
    """

    id: str
    problem_id: str
    round: int
    generation: int
    index: int
    completion: str
    finish_reason: str
    tokens: int
    temperature: float
    variant: str
    origin: str
    logprob: float | None = None
    sampler: str | None = None
    follows: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a verifier returns for one completion.

    `score` lies in [0, 1]. `answer` is what was extracted from the completion, `detail` one line for
    people: why it is wrong, or what broke.
    """

    outcome: Outcome
    score: float
    answer: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement with its provenance: which verifier, in which version, behind which isolation."""

    sample_id: str
    problem_id: str
    outcome: str
    score: float
    answer: str | None
    detail: str
    verifier: str
    version: str
    isolation: str


@dataclass(frozen=True, slots=True)
class Example:
    """One SFT row: `messages` is the prompt conversation, `completion` what the model learns to say.

    `weight` multiplies its share of the loss; over a training set the weights of the policy's own rows
    average to 1. `fit` is its instruction-following difficulty where `filter.fit` asked for it.
    """

    sample_id: str
    problem_id: str
    round: int
    messages: list[Message]
    completion: str
    origin: str
    weight: float = 1.0
    fit: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of DPO: two completions of one problem, of which the model should come to prefer `chosen`.

    `chosen_id` and `rejected_id` are ids of samples, the scores those of their verdicts.
    """

    problem_id: str
    round: int
    messages: list[Message]
    chosen: str
    rejected: str
    chosen_id: str
    rejected_id: str
    chosen_score: float
    rejected_score: float
    chosen_tokens: int
    rejected_tokens: int


@dataclass(frozen=True, slots=True)
class Lesson:
    """One row of privileged distillation: a completion, the prompt it answered, and the one that tells the solution.

    At each of the completion's tokens, the model behind `messages` learns what the same model says behind `told`.
    """

    sample_id: str
    problem_id: str
    round: int
    messages: list[Message]
    told: list[Message]
    completion: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that did not become an example, and why (`reason` is one of `flywheel.filter.REASONS`).

    `fit` is its instruction-following difficulty where it came so far as to be asked.
    """

    sample_id: str
    problem_id: str
    round: int
    reason: str
    fit: float | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A model in the lineage of a run. Index 0 is the base; round r trains generation r + 1.

    `path` is relative to the run's directory, or absolute where the base lies elsewhere. `alpha` is the
    trained candidate's share where a mixture with the champion took its place.
    """

    index: int
    path: str
    parent: int | None
    status: str  # base | accepted | rejected
    metrics: dict[str, Any] = field(default_factory=dict)
    alpha: float | None = None
