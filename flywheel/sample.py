"""Sample: turn a wave of a plan into requests, and what the policy answers into rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flywheel.fingerprint import derive_seed
from flywheel.plan_types import Plan
from flywheel.policy import Completion, Policy, Request
from flywheel.prompts import Shot, conversation, hinted, second_attempt, shown_to
from flywheel.types import Message, Origin, Problem, Sample
from flywheel.waves import Leg, Wave

SECOND = "second attempt"
"""What `variant` says of a second attempt."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How one completion is asked for. `slot` numbers the combinations of these that a problem has."""

    slot: int
    variant: str
    temperature: float
    text: str | None
    block: int | None
    label: str


def asking(plan: Plan, problem_id: str, index: int, *, with_hint: bool = False) -> Asking:
    """How sample `index` of a problem is asked for.

    The levers turn at different speeds, as the digits of a counter do: templates fastest, then temperatures,
    paraphrases and few-shot blocks, so that no two of them always go together. A hint has its own template
    and turns the temperature only.
    """
    variants = [plan.hints.template] if with_hint and plan.hints else plan.variants
    temperatures = plan.temperatures or [plan.temperature]
    texts = [] if with_hint else plan.paraphrases.get(problem_id, [])
    blocks = 0 if with_hint else len(plan.shots)
    place = slot = index % (len(variants) * len(temperatures) * (1 + len(texts)) * max(1, blocks))
    place, variant = divmod(place, len(variants))
    place, temperature = divmod(place, len(temperatures))
    block, text = divmod(place, 1 + len(texts))
    label = variants[variant]
    label += f" · paraphrase {text}" if text else ""
    label += f" · examples {block}" if blocks else ""
    return Asking(
        slot=slot,
        variant=variants[variant],
        temperature=temperatures[temperature],
        text=texts[text - 1] if text else None,
        block=block if blocks else None,
        label=label,
    )


def wave_ids(plan: Plan, wave: Wave) -> list[str]:
    """The ids of the samples that a wave asks for."""
    return [plan.sample_id(p, index) for p, first, end in wave.asked for index in range(first, end)]


def requests(
    plan: Plan,
    wave: Wave,
    problems: Mapping[str, Problem],
    *,
    seed: int,
    system: str | None,
    done: Mapping[str, Sample] | Collection[str] = (),
) -> list[Request]:
    """What to ask the policy for, without the samples in `done` (by id). A wave of second attempts finds the first ones
    there.

    A request is one problem asked in one way; its completions are asked for together, so that the engine
    reads the prompt once. Its id is `"{problem position}:{slot}"`.
    """
    position = {problem_id: i for i, problem_id in enumerate(plan.problems)}
    asked = []
    for problem_id, first, end in wave.asked:
        by_slot: dict[int, list[int]] = defaultdict(list)
        ways: dict[int, Asking] = {}
        for index in range(first, end):
            if plan.sample_id(problem_id, index) not in done:
                way = _way(plan, wave.leg, problem_id, index)
                if wave.leg.second:  # the slot says which first attempt it follows
                    way = replace(way, slot=wave.follows[problem_id][index - first])
                ways[way.slot] = way
                by_slot[way.slot].append(index)
        for slot, indices in by_slot.items():
            way = ways[slot]
            asked.append(
                Request(
                    id=f"{position[problem_id]}:{slot}",
                    messages=_messages(plan, problems[problem_id], way, system, wave.leg, done),
                    indices=tuple(indices),
                    temperature=way.temperature,
                    max_tokens=plan.max_tokens,
                    top_p=plan.top_p,
                    top_k=plan.top_k,
                    stop=tuple(plan.stop),
                    seed=derive_seed(seed, plan.phase, plan.round, problem_id),
                )
            )
    return asked


def _way(plan: Plan, leg: Leg, problem_id: str, index: int) -> Asking:
    """How a leg asks for a sample; second attempts take the round's temperature."""
    if leg.second and plan.correction:
        return Asking(0, plan.correction.template, plan.temperature, None, None, SECOND)
    return asking(plan, problem_id, index, with_hint=leg.hinted)


def _messages(
    plan: Plan,
    problem: Problem,
    way: Asking,
    system: str | None,
    leg: Leg,
    done: Mapping[str, Sample] | Collection[str],
) -> list[Message]:
    if leg.hinted:
        return hinted(problem, system, way.variant)
    if leg.second:
        assert isinstance(done, Mapping)  # a second attempt follows a first one
        return second_attempt(problem, system, done[plan.sample_id(problem.id, way.slot)].completion, way.variant)
    shots: list[Shot] = [] if way.block is None else shown_to(problem, plan.shots[way.block], plan.shots_shown)
    return conversation(problem, system, way.variant, text=way.text, shots=shots)


def draw(policy: Policy, plan: Plan, leg: Leg, asked: Sequence[Request], *, chunk: int) -> Iterator[list[Sample]]:
    """Sample all requests, yielding the rows of every `chunk` finished requests as soon as they are there."""
    finished: list[Sample] = []
    waiting = 0
    for completions in policy.generate(asked):
        finished.extend(_sample(plan, leg, c) for c in completions)
        waiting += 1
        if waiting >= chunk:
            yield finished
            finished, waiting = [], 0
    if finished:
        yield finished


def _sample(plan: Plan, leg: Leg, completion: Completion) -> Sample:
    position, _, slot = completion.request_id.partition(":")
    problem_id = plan.problems[int(position)]
    way = _way(plan, leg, problem_id, completion.index)
    origin = Origin.HINTED if leg.hinted else Origin.CORRECTED if leg.second else leg.source.origin
    return Sample(
        id=plan.sample_id(problem_id, completion.index),
        problem_id=problem_id,
        round=plan.round,
        generation=leg.source.generation,
        index=completion.index,
        completion=completion.text,
        finish_reason=completion.finish_reason,
        tokens=completion.tokens,
        temperature=way.temperature,
        variant=way.label,
        origin=origin,
        logprob=completion.logprob,
        sampler=leg.source.model,
        follows=plan.sample_id(problem_id, int(slot)) if leg.second else None,
    )
