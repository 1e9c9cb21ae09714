"""The toy policy: sums with plus and minus, solved by a "model" that is one small JSON file.

It needs no weights and no engine, and everything in it is drawn from position, so a whole run takes
seconds and gives the same rows each time. It never sees a reference answer: it reads the sum in the
prompt, works it out in one of several ways of writing, and errs with the probability 1 - skill. Asked for something
else after it was shown sums as its own earlier answers, it writes one of them with other numbers.

A toy model is a folder with `toy.json`:

    {"format": 1, "skill": 0.2, "gain": 0.5, "styles": {"in order": 0.25, "regrouped": 0.25, …}}

skill    chance that a completion is right (at temperature 0: right where it is at least one half)
gain     how much of the missing skill `train_toy` adds when all its examples are right
styles   how likely each way of writing is; training pulls them towards those of its examples, so a
         run that keeps only one way loses the others, as a real model would
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from flywheel.errors import ModelError, RecipeError
from flywheel.fingerprint import folder_digest, rng
from flywheel.policy import Completion, Request
from flywheel.recipe import ToyOptions
from flywheel.types import Example, Message

FILE = "toy.json"
FORMAT = 1
_SUM = re.compile(r"-?\d+(?:\s*[+-]\s*-?\d+)+")
_TERM = re.compile(r"([+-])?\s*(-?\d+)")
_OPENINGS = ("", "Let me work it out. ", "Step by step: ")
_END_TOKEN = 1  # counted beside the words
NO_SUM = "I can only do sums, and I do not see one here."


@dataclass(frozen=True, slots=True)
class ToyModel:
    """What `toy.json` holds; see the top of this file."""

    skill: float
    gain: float
    styles: dict[str, float]


# ---- the model's folder --------------------------------------------------------------------------


def write_base(folder: Path, options: ToyOptions) -> Path:
    """Write the untrained toy model that `options` describe. Raises RecipeError for more styles than there are."""
    if options.styles > len(STYLES):
        raise RecipeError(f"policy.toy.styles = {options.styles}: the toy knows {len(STYLES)} ({', '.join(STYLES)})")
    names = list(STYLES)[: options.styles]
    return write_model(folder, ToyModel(options.skill, options.gain, {name: 1 / len(names) for name in names}))


def write_model(folder: Path, model: ToyModel) -> Path:
    """Write `toy.json` into `folder`, which is made if it is not there, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps({"format": FORMAT, **asdict(model)}, indent=1, sort_keys=True) + "\n")
    return folder


def read_model(folder: Path) -> ToyModel:
    """The toy model in `folder`. Raises ModelError if there is none or it cannot be read."""
    file = folder / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("its format is not 1")
        model = ToyModel(**content)
        if not (0 <= model.skill <= 1 and 0 <= model.gain <= 1 and model.styles and set(model.styles) <= set(STYLES)):
            raise ValueError("skill and gain lie in [0, 1] and the styles are among " + ", ".join(STYLES))
    except FileNotFoundError:
        raise ModelError(f"{folder} is no toy model: it has no {FILE}; set model.base = 'toy'") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{file} is not a toy model: {error}") from None
    return model


def mean_of(models: Sequence[tuple[ToyModel, float]]) -> ToyModel:
    """The weighted mean of several models; weights sum to 1."""
    names = [name for name in STYLES if any(name in m.styles for m, _ in models)]
    styles = {name: sum(w * m.styles.get(name, 0.0) for m, w in models) for name in names}
    skill, gain = (sum(w * getattr(m, name) for m, w in models) for name in ("skill", "gain"))
    return ToyModel(min(1.0, skill), min(1.0, gain), styles)  # rounding must not carry it over 1


# ---- sums ----------------------------------------------------------------------------------------


def find_sum(text: str) -> list[int] | None:
    """The signed terms of the last sum in a text (`12 + 5 - 3` gives 12, 5, -3), or None."""
    found = _SUM.findall(text)
    if not found:
        return None
    return [-int(number) if sign == "-" else int(number) for sign, number in _TERM.findall(found[-1])]


def written(terms: Sequence[int]) -> str:
    """A sum as text: `12 + 5 - 3`."""
    first, *rest = terms
    return f"{first}" + "".join(f" {'-' if t < 0 else '+'} {abs(t)}" for t in rest)


def _running(terms: Sequence[int]) -> list[str]:
    """One equation a step, each adding the next term to the total so far."""
    total, steps = terms[0], []
    for term in terms[1:]:
        steps.append(f"{written([total, term])} = {total + term}")
        total += term
    return steps or [f"{total} = {total}"]


def _regrouped(terms: Sequence[int]) -> list[str]:
    plus, minus = [t for t in terms if t >= 0], [-t for t in terms if t < 0]
    if not plus or not minus:
        return _running(sorted(terms))
    sums = [f"{written(part)} = {sum(part)}" for part in (plus, minus) if len(part) > 1]
    return [*sums, f"{sum(plus)} - {sum(minus)} = {sum(terms)}"]


def _at_once(terms: Sequence[int]) -> list[str]:
    return [f"{written(terms)} = {sum(terms)}"]


STYLES: dict[str, Callable[[Sequence[int]], list[str]]] = {
    "in order": _running,
    "regrouped": _regrouped,
    "from the back": lambda terms: _running(terms[::-1]),
    "at once": _at_once,
    "largest first": lambda terms: _running(sorted(terms, key=lambda t: (-abs(t), t))),
    "smallest first": lambda terms: _running(sorted(terms, key=lambda t: (abs(t), t))),
}
"""Ways of writing a solution: from the signed terms to the list of equations."""


def solve(terms: Sequence[int], style: str, slip: int = 0) -> tuple[str, int]:
    """A worked solution in one style and the answer it comes to, which is wrong by `slip`."""
    steps = STYLES[style](terms)
    answer = sum(terms) + slip
    if slip:
        left, _, _ = steps[-1].rpartition(" = ")
        steps[-1] = f"{left} = {answer}"
    return ". ".join(steps) + f". The answer is {answer}", answer


def complete(model: ToyModel, messages: Sequence[Message], chance: Random, temperature: float) -> str:
    """What the toy says to a conversation, with all luck taken from `chance`."""
    terms = find_sum(messages[-1]["content"])
    if terms is None:
        shown = [m["content"] for m in messages if m["role"] == "assistant" and find_sum(m["content"])]
        return _with_other_numbers(chance.choice(shown), chance) if shown else NO_SUM
    names = list(model.styles)
    if temperature == 0:
        style = max(names, key=lambda name: model.styles[name])
        return solve(terms, style, 0 if model.skill >= 0.5 else 1)[0]
    style = chance.choices(names, [model.styles[name] for name in names])[0]
    opening = chance.choice(_OPENINGS)
    right = chance.random() < model.skill
    slip = chance.choice((-10, -2, -1, 1, 2, 10))
    return opening + solve(terms, style, 0 if right else slip)[0]


def _with_other_numbers(text: str, chance: Random) -> str:
    """A text with the terms of its last sum drawn anew, as long as they were: how the toy writes problems."""
    found = list(_SUM.finditer(text))[-1]
    drawn = re.sub(
        r"\d+", lambda n: str(chance.randrange(10 ** (len(n.group()) - 1), 10 ** len(n.group()))), found.group()
    )
    return text[: found.start()] + drawn + text[found.end() :]


# ---- the policy ----------------------------------------------------------------------------------


class ToyPolicy:
    """Serves a toy model in this process. Raises ModelError where the folder holds none."""

    def __init__(self, folder: Path, *, delay_seconds: float = 0.0) -> None:
        self.digest = folder_digest(folder)
        self._model = read_model(folder)
        self._delay = delay_seconds

    def generate(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """Answer the requests one after another."""
        for request in list(requests):
            yield [self._completion(request, index) for index in request.indices]

    def _completion(self, request: Request, index: int) -> Completion:
        if self._delay:
            time.sleep(self._delay)
        chance = rng("toy", request.seed, request.id, index)
        text = complete(self._model, request.messages, chance, request.temperature)
        for stop in request.stop:
            text = text.partition(stop)[0]
        words = re.findall(r"\S+\s*", text)
        if len(words) + _END_TOKEN > request.max_tokens:
            text = "".join(words[: request.max_tokens])
            return Completion(request.id, index, text, "length", request.max_tokens)
        return Completion(request.id, index, text, "stop", len(words) + _END_TOKEN)

    def close(self) -> None:
        """Nothing is held."""


# ---- training ------------------------------------------------------------------------------------


def train_toy(model_path: Path, examples: Sequence[Example], output: Path) -> dict[str, Any]:
    """Write the toy model that training on `examples` gives into the folder `output` and return the metrics.

    With the share s of examples that are right, skill grows by gain · s · (1 - skill), and the styles
    move by gain towards the frequencies among the right ones. The caller makes `output` appear at once.
    """
    model = read_model(model_path)
    styles = [style for example in examples if (style := _style_of_right(example)) is not None]
    share = len(styles) / len(examples) if examples else 0.0
    seen = Counter(styles)
    pull = model.gain if styles else 0.0
    trained = ToyModel(
        skill=model.skill + model.gain * share * (1 - model.skill),
        gain=model.gain,
        styles={
            name: (1 - pull) * model.styles.get(name, 0.0) + pull * seen[name] / max(1, len(styles))
            for name in STYLES
            if name in model.styles or name in seen
        },
    )
    write_model(output, trained)
    tokens = sum(len(example.completion.split()) + _END_TOKEN for example in examples)
    return {
        "steps": len(examples),
        "completion_tokens": tokens,
        "loss_first": 1 - model.skill,
        "loss_last": 1 - trained.skill,
        "right_share": share,
    }


def _style_of_right(example: Example) -> str | None:
    """In which style a completion solves its problem; None if it is wrong. Unknown ways count as "at once"."""
    terms = find_sum(example.messages[-1]["content"])
    if terms is None:
        return None
    for style in STYLES:
        if example.completion.endswith(solve(terms, style)[0]):
            return style
    last = re.findall(r"-?\d+", example.completion)
    return "at once" if last and int(last[-1]) == sum(terms) else None
