"""Sample: turn a plan into requests, and what the policy answers into rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from flywheel.fingerprint import derive_seed
from flywheel.plan import Plan, conversation
from flywheel.policy import Completion, Policy, Request
from flywheel.types import Origin, Problem, Sample


def planned_ids(plan: Plan) -> list[str]:
    """The ids of all samples of a plan, in the order in which the finished file has them."""
    return [plan.sample_id(problem, index) for problem in plan.problems for index in range(plan.k)]


def requests(
    plan: Plan, problems: Mapping[str, Problem], *, seed: int, system: str | None, done: Collection[str] = ()
) -> list[Request]:
    """What to ask the policy for, without the sample ids in `done`.

    A request is one problem in one wording; its completions are asked for together, so that the engine
    reads the prompt once. Request i has the id `"{problem position}:{variant}"`.
    """
    asked = []
    for position, problem_id in enumerate(plan.problems):
        by_variant: dict[int, list[int]] = defaultdict(list)
        for index in range(plan.k):
            if plan.sample_id(problem_id, index) not in done:
                by_variant[index % len(plan.variants)].append(index)
        for variant, indices in by_variant.items():
            asked.append(
                Request(
                    id=f"{position}:{variant}",
                    messages=conversation(problems[problem_id], system, plan.variants[variant]),
                    indices=tuple(indices),
                    temperature=plan.temperature,
                    max_tokens=plan.max_tokens,
                    top_p=plan.top_p,
                    top_k=plan.top_k,
                    stop=tuple(plan.stop),
                    seed=derive_seed(seed, plan.phase, plan.round, problem_id),
                )
            )
    return asked


def draw(policy: Policy, plan: Plan, asked: Sequence[Request], *, chunk: int) -> Iterator[list[Sample]]:
    """Sample all requests, yielding the rows of every `chunk` finished requests as soon as they are there."""
    finished: list[Sample] = []
    waiting = 0
    for completions in policy.generate(asked):
        finished.extend(_sample(plan, c) for c in completions)
        waiting += 1
        if waiting >= chunk:
            yield finished
            finished, waiting = [], 0
    if finished:
        yield finished


def _sample(plan: Plan, completion: Completion) -> Sample:
    position, variant = completion.request_id.split(":")
    problem_id = plan.problems[int(position)]
    return Sample(
        id=plan.sample_id(problem_id, completion.index),
        problem_id=problem_id,
        round=plan.round,
        generation=plan.generation,
        index=completion.index,
        completion=completion.text,
        finish_reason=completion.finish_reason,
        tokens=completion.tokens,
        temperature=plan.temperature,
        variant=plan.variants[int(variant)],
        origin=Origin.POLICY,
        logprob=completion.logprob,
    )
