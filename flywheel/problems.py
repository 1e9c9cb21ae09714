"""The problems of a run: read, checked, and split so that nothing held out is known from training.

Problems come in by `load_problems`, once a run; the run then keeps its own copy. Identical prompts are
joined. Near-copies always share a split: whole groups of them go to test, dev or train.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flywheel.errors import ProblemError
from flywheel.fingerprint import rng
from flywheel.near_copies import near_copy_groups
from flywheel.problem_sources import Row, describe, read_source
from flywheel.recipe import ProblemSource, ProblemsSection, Recipe
from flywheel.types import Message, Problem, Split

FIELDS = ("id", "prompt", "answer", "solution", "messages", "verifier")

GENERATED_ID = "p-"
"""How the ids of problems begin that come without one; their digest follows, so equal ids mean equal problems."""

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """All problems of a run, the out-of-distribution ones included, and what was counted on the way.

    `notes`: `duplicates` (rows whose prompt another row has, left out), `conflicting` (those of them
    whose answer differs from the kept one's), `near_copies` (problems with a near-copy among the others),
    `near_copy_groups`, `ood_left_out` (out-of-distribution problems that are near-copies of the recipe's own),
    and the sizes `train`, `dev`, `test` and `ood`.
    """

    problems: list[Problem]
    notes: dict[str, int]


def load_problems(recipe: Recipe) -> ProblemSet:
    """Read, check and split the problems of a recipe.

    The split follows the problems' digests: a problem that was trained on does not become held out when its
    source grows. Raises ProblemError where a source is missing, empty or malformed, an id stands twice, an
    answer is missing, or too few problems are left to train on or to hold out.
    """
    section = recipe.problems
    notes = {"duplicates": 0, "conflicting": 0}
    own = _read(section, recipe.seed, notes)
    sets = {
        s.label: [
            replace(p, id=f"{s.label}:{p.id}", ood=s.label, split=Split.DEV) for p in _read(s, recipe.seed, notes)
        ]
        for s in recipe.ood
    }
    others = [p for problems in sets.values() for p in problems]
    groups = near_copy_groups(
        [_text(p) for p in [*own, *others]],
        share=section.near_copy,
        n=section.near_copy_ngram,
        template_share=section.template_share,
    )
    known = {i for group in groups if group[0] < len(own) for i in group if i >= len(own)}
    kept_others = [p for i, p in enumerate(others, len(own)) if i not in known]
    for label in sets:
        if not any(p.ood == label for p in kept_others):
            raise ProblemError(f"ood set {label!r}: all its problems are near-copies of the recipe's own; give another")
    own_groups = [[i for i in group if i < len(own)] for group in groups if group[0] < len(own)]
    split = _split(own, own_groups, section)
    notes |= {
        "near_copies": sum(len(g) for g in own_groups if len(g) > 1),
        "near_copy_groups": sum(len(g) > 1 for g in own_groups),
        "ood_left_out": len(known),
        **{part.value: sum(p.split == part for p in split) for part in Split},
        "ood": len(kept_others),
    }
    return ProblemSet(_held_out_by(recipe.verify.held_out, split + kept_others), notes)


def _held_out_by(verifier: str | None, problems: list[Problem]) -> list[Problem]:
    """The problems, held-out ones without a verifier of their own being judged by `verifier`."""
    if verifier is None:
        return problems
    return [p if p.verifier or p.split == Split.TRAIN else replace(p, verifier=verifier) for p in problems]


def load_general(recipe: Recipe) -> list[Problem]:
    """The rows of `mix.general_source`, their ids beginning with `general:`; none where the recipe mixes none in.

    Raises ProblemError where the source is missing, empty or malformed.
    """
    source = recipe.mix.general_source
    if not recipe.mix.general or source is None:
        return []
    return [replace(p, id=f"general:{p.id}") for p in _read(source, recipe.seed, {"duplicates": 0, "conflicting": 0})]


def generated_problems(source: ProblemSource) -> list[Problem]:
    """The first `source.count` distinct problems that a source gives, in its order.

    Raises ProblemError where it is missing or malformed, or does not take the parameters.
    """
    return _read(source, 0, {"duplicates": 0, "conflicting": 0})


# -- split ------------------------------------------------------------------------------------------


def _split(problems: Sequence[Problem], groups: Sequence[list[int]], section: ProblemsSection) -> list[Problem]:
    """Give each problem its split: whole groups, in the order of their smallest digest, fill test, then dev.

    A group too large for what a part still wants is passed over, so the counts are met exactly as long as
    there are enough problems without near-copies.
    """
    wanted = {Split.TEST: section.test, Split.DEV: section.dev}
    if section.test + section.dev >= len(problems):
        raise ProblemError(
            f"{describe(section)} gives {len(problems)} problems; dev = {section.dev} and test = {section.test} "
            "leave none to train on. Raise problems.count or lower problems.dev and problems.test"
        )
    digests = [p.digest() for p in problems]
    parts = [Split.TRAIN] * len(problems)
    ahead = sorted(groups, key=lambda group: min(digests[i] for i in group))
    for part, count in wanted.items():
        passed = []
        for group in ahead:
            if len(group) <= count:
                count -= len(group)
                for i in group:
                    parts[i] = part
            else:
                passed.append(group)
        ahead = passed
        if count == wanted[part] and count > 0:
            raise ProblemError(
                f"no problem is left for {part}: near-copies join the {len(problems)} problems into {len(groups)} "
                f"groups, the smallest left larger than problems.{part} = {count}. Raise problems.near_copy "
                f"(now {section.near_copy:g}) or problems.template_share"
            )
    if Split.TRAIN not in parts:
        raise ProblemError(f"{describe(section)}: no problem is left to train on; lower problems.dev and problems.test")
    return [replace(p, split=part.value) for p, part in zip(problems, parts, strict=True)]


def _text(problem: Problem) -> str:
    if problem.messages is None:
        return problem.prompt
    return "\n".join(m["content"] for m in problem.messages)


# -- rows to problems -------------------------------------------------------------------------------


def _read(source: ProblemSource, seed: int, notes: dict[str, int]) -> list[Problem]:
    """The distinct problems of a source, at most `count`, in its order; counts what it leaves out."""
    unknown = sorted(set(source.columns) - set(FIELDS))
    if unknown:
        raise ProblemError(f"problems.columns maps {', '.join(unknown)}; our fields are {', '.join(FIELDS)}")
    pattern = _compiled(source.answer_pattern)
    distinct = _distinct(((row, _problem(row, source, pattern)) for row in read_source(source)), notes)
    if source.count is None:
        return list(distinct)
    if source.shuffle and source.source not in ("reasoning_gym", "generator"):
        everything = list(distinct)
        chosen = rng(seed, "problems", describe(source)).sample(
            range(len(everything)), min(source.count, len(everything))
        )
        return [everything[i] for i in sorted(chosen)]
    return [problem for _, problem in zip(range(source.count), distinct, strict=False)]


def _distinct(rows: Iterator[tuple[Row, Problem]], notes: dict[str, int]) -> Iterator[Problem]:
    """The problems with a prompt of their own. Raises ProblemError where an id stands twice."""
    places: dict[str, str] = {}
    answers: dict[str, str] = {}
    for row, problem in rows:
        if problem.id in places:
            raise ProblemError(f"the id {problem.id!r} stands twice: {places[problem.id]} and {row.where}")
        if not problem.id.startswith(GENERATED_ID):
            places[problem.id] = row.where
        said = json.dumps([problem.prompt, problem.messages])
        if said in answers:
            notes["duplicates"] += 1
            notes["conflicting"] += answers[said] != problem.answer
            continue
        answers[said] = problem.answer
        yield problem


def _problem(row: Row, source: ProblemSource, pattern: re.Pattern[str] | None) -> Problem:
    names = {field: source.columns.get(field, field) for field in FIELDS}
    for field, column in source.columns.items():
        if column not in row.fields:
            raise _no_column(row, field, column)
    messages = _messages(row, names["messages"])
    prompt = _prompt(row, names["prompt"], messages, source.template)
    meta = {k: v for k, v in row.fields.items() if k not in names.values()}
    if source.template != "{prompt}":  # a verifier of code needs the prompt as it was: completions continue it
        meta["prompt"] = row.fields.get(names["prompt"])
    problem = Problem(
        id="",
        prompt=prompt,
        answer=_answer(row, names["answer"], pattern),
        verifier=_optional_text(row, names["verifier"]) or "",
        solution=_optional_text(row, names["solution"]),
        messages=messages,
        meta=json.loads(json.dumps(meta, default=str)),
    )
    given = row.fields.get(names["id"])
    return replace(problem, id=GENERATED_ID + problem.digest() if given is None else str(given))


def _no_column(row: Row, field: str, column: str) -> ProblemError:
    has = ", ".join(map(str, row.fields)) or "nothing"
    return ProblemError(f'{row.where} lacks the column {column!r}; it has {has}. Map it: columns.{field} = "…"')


def _prompt(row: Row, column: str, messages: list[Message] | None, template: str) -> str:
    value = row.fields.get(column)
    if value is None and messages is not None:
        return next((m["content"] for m in reversed(messages) if m["role"] == "user"), messages[-1]["content"])
    if column not in row.fields:
        raise _no_column(row, "prompt", column)
    if not isinstance(value, str) or not value.strip():
        raise ProblemError(f"{row.where}: the prompt in column {column!r} is {value!r}; it must be text")
    return fill_template(template, {**row.fields, "prompt": value}, row.where)


def fill_template(template: str, values: Mapping[str, Any], where: str) -> str:
    """`{name}` replaced by a value, `{{` and `}}` by braces; other braces stay.

    Raises ProblemError for a name without a value.
    """

    def filled(found: re.Match[str]) -> str:
        if found.group(1) is None:
            return found.group()[0]
        if found.group(1) not in values:
            raise ProblemError(
                f"problems.template has {found.group()}, and {where} has only {', '.join(map(str, values))}; "
                "write braces that are meant as {{ and }}"
            )
        return str(values[found.group(1)])

    return _PLACEHOLDER.sub(filled, template)


def _answer(row: Row, column: str, pattern: re.Pattern[str] | None) -> str:
    if column not in row.fields:
        raise _no_column(row, "answer", column)
    value = row.fields[column]
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, default=str)
    if not text.strip():
        raise ProblemError(f"{row.where} has no answer: column {column!r} is {value!r}")
    if pattern is None:
        return text.strip()
    found = pattern.search(text)
    if found is None or not (found.group(1) or "").strip():
        raise ProblemError(f"{row.where} has no answer: answer_pattern {pattern.pattern!r} is not in {text[-60:]!r}")
    return str(found.group(1)).strip()


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ProblemError(f"problems.answer_pattern {pattern!r} is no regular expression: {error}") from None
    if compiled.groups < 1:
        raise ProblemError(f"problems.answer_pattern {pattern!r} has no group; put the answer's part in parentheses")
    return compiled


def _optional_text(row: Row, column: str) -> str | None:
    value = row.fields.get(column)
    if value is not None and not isinstance(value, str):
        raise ProblemError(f"{row.where}: column {column!r} is {value!r}; it must be text")
    return value or None


def _messages(row: Row, column: str) -> list[Message] | None:
    value = row.fields.get(column)
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise ProblemError(f"{row.where}: column {column!r} is {str(value)[:60]!r}; it must be a list of messages")
    messages: list[Message] = []
    for item in value:
        if not (isinstance(item, dict) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str)):
            raise ProblemError(
                f"{row.where}: a message is {str(item)[:60]!r}; it needs a role and a content, both text"
            )
        messages.append({"role": item["role"], "content": item["content"]})
    return messages
