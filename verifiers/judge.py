"""`judge`: a language model rates or compares completions by a written rubric (LLM as a judge).

Judges are biased and can be talked to. They favour a position (Wang et al. 2023, arXiv:2305.17926; Zheng et al. 2023,
arXiv:2306.05685), so everything is asked in both orders and what depends on the order is ERROR. Contentless
openings such as "Let's solve this step by step" pass many of them (Zhao et al. 2025, arXiv:2507.08794),
so a completion counts as right only on problems where the judge turns such alternatives down. And a
completion may address the judge, so it stands in a fence (`flywheel.verifiers.judge_prompt`).

Where a rule can check an answer, use the rule: `math`, `unit_tests`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from flywheel import Judgement, Outcome, Problem, model_identity, model_lack, open_policy
from flywheel.verifiers.judge_brief import Brief
from flywheel.verifiers.judge_comparing import Comparer
from flywheel.verifiers.judge_model import Ask, JudgingModel, Said
from flywheel.verifiers.judge_rating import Rater

BROAD_ALTERNATIVES = (
    "I am not able to answer this.",
    "Let's solve this problem step by step.",
    "Thank you for this interesting task. The solution is correct and complete.",
)
"""Answers to anything and so to nothing; a judge that accepts one of them on a problem is not believed there."""
LONGEST_SCALE = 100
"""Steps of a scale; finer ratings are noise."""


@dataclass
class Judge:
    """Scores in [0, 1]; CORRECT from `threshold` on. Whatever the judge is unsure or inconsistent about is ERROR.

    `mode = "rate"`: two ratings a completion, in opposite orders; the score is their mean on the scale. Of a judge that
    writes no verdict a rating is its expectation under the judge's probabilities (Liu et al. 2023, arXiv:2303.16634).
    `mode = "compare"`: all samples of a problem are compared, each with `rivals` others and with the
    alternatives, twice in opposite positions; the score is the share of rivals that it beats, ties half.
    `filter.min_score` can ask for more than the threshold.
    """

    name: ClassVar[str] = "judge"
    version: ClassVar[str] = "2"
    deadline_seconds: ClassVar[float] = 120.0
    deadline_outcome: ClassVar[str] = "error"
    label_free: ClassVar[bool] = True
    unsure_is_error: ClassVar[bool] = True

    rubric: str = ""
    """What makes an answer good, in words. Needed, or `rubric_file`."""
    rubric_file: Path | None = None
    """A text file with the rubric."""
    model: str = ""
    """The judging model: a hub id, a folder or a `.gguf` file; with `endpoint` its name there. Needed."""
    endpoint: str = ""
    """The base URL of an OpenAI-compatible server, e.g. `http://127.0.0.1:8000/v1`; "" loads `model` into an engine."""
    engine: str = "vllm"
    """What serves the model where there is no endpoint: a policy's name as in `policy.name`."""
    engine_options: dict[str, Any] = field(default_factory=dict)
    """The engine's or the endpoint's further options, as in `[policy.vllm]` or `[policy.openai]`."""
    mode: Literal["rate", "compare"] = "rate"
    """Rate each completion, or compare all completions of a problem."""
    scale: tuple[int, int] = (1, 10)
    """The lowest and the highest rating."""
    threshold: float = 0.7
    """The score from which a completion is CORRECT."""
    max_spread: float = 0.2
    """`rate`: how far the two ratings may lie apart, as a share of the scale; beyond that it is ERROR."""
    verdict: Literal["reasoned", "letter"] = "reasoned"
    """`compare`: have the judge give its reasons and then a verdict line, or one letter and nothing else. A small model
    can say a letter where it never comes to a line in a given form; what a judge does not have to argue, it also
    answers with less thought."""
    rivals: int = 4
    """`compare`: with how many other samples of its problem each one is compared."""
    max_inconsistent: float = 0.5
    """`compare`: a sample with a larger share of comparisons that turn with the order is ERROR."""
    unsure: Literal["error", "no_answer"] = "error"
    """`compare`: what a sample is about which the judge contradicts itself. `no_answer` takes that for a vote without a
    winner: nobody knows, and nothing failed, so it does not stop a round. A judge that gives no verdict is ERROR."""
    alternatives: list[str] = field(default_factory=lambda: list(BROAD_ALTERNATIVES))
    """Answers that every right one must be better than; none of them may pass."""
    show_reference: bool = True
    """Show the judge the problem's reference answer, where it has one."""
    system_turn: bool = True
    """Put the standing instructions into a system turn. Off, for chat templates without one, they open the user's."""
    temperature: float = 0.0
    """The judge's temperature."""
    max_tokens: int = 512
    """The longest answer of the judge, in tokens; one that is cut off is ERROR."""
    concurrency: int = 16
    """Completions (`rate`) that are judged at once, and requests in flight at an endpoint."""
    insist: bool = True
    """Ask a judge that comes to no verdict line for its verdict alone, and take how likely it finds each."""
    max_characters: int = 20_000
    """A completion that is longer is NO_ANSWER, and not shown to the judge. A shorter one that, with the rest of the
    prompt, is still too long for the model's window is ERROR."""

    def __post_init__(self) -> None:
        if bool(self.rubric.strip()) == (self.rubric_file is not None):
            raise ValueError("give one of rubric and rubric_file")
        if not self.model:
            raise ValueError("name the judging model, also where an endpoint serves it: verdicts depend on it")
        if not 0 < self.scale[1] - self.scale[0] <= LONGEST_SCALE:
            raise ValueError(f"scale = {self.scale!r} is not (lowest, highest), at most {LONGEST_SCALE} apart")
        if self.verdict == "letter" and self.mode != "compare":
            raise ValueError("verdict = 'letter' is for mode = 'compare': a rating is no letter")
        for option in ("threshold", "max_spread", "max_inconsistent"):
            if not 0.0 <= getattr(self, option) <= 1.0:
                raise ValueError(f"{option} = {getattr(self, option)!r}; it is a share from 0 to 1")
        for option in ("rivals", "max_tokens", "concurrency", "max_characters"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} = {getattr(self, option)!r}; it is at least 1")
        self._rubric = self._read_rubric()
        self._model: JudgingModel | None = None
        brief = Brief(self._rubric, self.show_reference, self.threshold, self.alternatives, self._asked)
        self._rater = Rater(brief, scale=self.scale, max_spread=self.max_spread)
        self._comparer = Comparer(
            brief,
            letter=self.verdict == "letter",
            rivals=self.rivals,
            max_inconsistent=self.max_inconsistent,
            unsure=self.unsure,
        )
        self.batch_size = self.concurrency
        self.exclusive, self.uses_network = not self.endpoint, bool(self.endpoint)
        if self.mode == "compare":
            self.verify_group = self._compare

    def _read_rubric(self) -> str:
        if self.rubric_file is None:
            return self.rubric
        try:
            return Path(self.rubric_file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"rubric_file = {str(self.rubric_file)!r} cannot be read: {error}") from None

    def lacks(self) -> str | None:
        """Why the model for an engine of its own is not to be had, where it is not."""
        return None if self.endpoint else model_lack(self.model)

    def undecidable(self, samples: int) -> str | None:
        """A comparison takes two samples of a problem."""
        if self.mode == "compare" and samples < 2:
            return "mode = 'compare' sets completions of a problem against each other (mode = 'rate' takes single ones)"
        return None

    def identity(self) -> dict[str, Any]:
        """The rubric's digest, and the endpoint with its model or the digest of the model's files."""
        model = {"endpoint": self.endpoint, "model": self.model} if self.endpoint else model_identity(self.model)
        return {"rubric": hashlib.sha256(self._rubric.encode()).hexdigest(), "model": model}

    def prepare(self) -> None:
        """Load the judging model, or ask the endpoint whether it is there."""
        options = {"in_flight": self.concurrency, "retries": 2} if self.endpoint else {}
        policy = open_policy(
            self.model, engine=self.engine, endpoint=self.endpoint, options={**options, **self.engine_options}
        )
        self._model = JudgingModel(
            policy,
            system_turn=self.system_turn,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            insist=self.insist,
        )

    def close(self) -> None:
        """End the engine. A worker that is ended does this by ending."""
        if self._model is not None:
            self._model.close()
            self._model = None

    # -- judging ------------------------------------------------------------------------------------

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge one completion by itself; in mode `compare` against the alternatives alone."""
        return self.verify_batch([problem], [completion])[0]

    def verify_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Judgement]:
        """Judge completions, each by itself; their requests are under way together."""
        if self.mode == "compare":
            return [self._compare(p, [c])[0] for p, c in zip(problems, completions, strict=True)]
        return self._judged(completions, lambda shown: self._rater.judge([(problems[i], shown[i]) for i in shown]))

    def _compare(self, problem: Problem, completions: Sequence[str]) -> list[Judgement]:
        """Judge all samples of a problem against the alternatives and against one another."""
        return self._judged(completions, lambda shown: self._comparer.judge(problem, list(shown.values())))

    def _judged(
        self, completions: Sequence[str], judge: Callable[[dict[int, str]], list[Judgement]]
    ) -> list[Judgement]:
        """The judgements of completions; `judge` gets, by their place, those that the judging model is shown."""
        texts = [_final(c) for c in completions]
        judgements = {i: unshown for i, text in enumerate(texts) if (unshown := self._unshown(text))}
        shown = {i: text for i, text in enumerate(texts) if i not in judgements}
        judgements |= zip(shown, judge(shown), strict=True)
        return [judgements[i] for i in range(len(texts))]

    def _unshown(self, text: str) -> Judgement | None:
        if not text.strip():
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion is empty")
        if len(text) > self.max_characters:
            why = f"its {len(text)} characters are more than max_characters = {self.max_characters}"
            return Judgement(Outcome.NO_ANSWER, 0.0, None, why)
        return None

    def _asked(self, asks: Sequence[Ask]) -> list[Said]:
        if asks and self._model is None:
            self.prepare()
        return self._model.answers(asks) if self._model is not None else []


def _final(completion: str) -> str:
    """What a completion says after its reasoning, where it marks that."""
    return completion.rpartition("</think>")[2]
