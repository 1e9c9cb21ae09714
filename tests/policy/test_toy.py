"""The toy policy: sums, solved by a model that is one small file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flywheel.errors import ModelError, RecipeError
from flywheel.fingerprint import rng
from flywheel.policy import Request
from flywheel.policy import toy as toys
from flywheel.policy.toy import ToyModel, ToyPolicy, find_sum, read_model, solve, train_toy, write_base, write_model
from flywheel.recipe import ToyOptions
from flywheel.types import Example

PROMPT = "State the final answer to the following arithmetic problem: 12 + 5 - 3 ="


def ask(prompt: str = PROMPT, **changes) -> Request:
    settings = {"id": "0:0", "indices": (0, 1, 2), "temperature": 1.0, "max_tokens": 100, "seed": 5, **changes}
    return Request(messages=[{"role": "user", "content": prompt}], **settings)


def answers(policy: ToyPolicy, request: Request) -> list[str]:
    return [c.text for completions in policy.generate([request]) for c in completions]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", ToyOptions(skill=0.5))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        (PROMPT, [12, 5, -3]),
        ("State the final answer to the following arithmetic problem: -1 - -6 =", [-1, 6]),
        ("-73 - 85 =", [-73, -85]),
        ("First 1 + 1, then 20 - 3 + 4", [20, -3, 4]),
        ("What is 7+2?", [7, 2]),
        ("Natalia sold 48 clips in 2026-ish", None),
        ("", None),
    ],
)
def test_find_sum(text: str, terms: list[int] | None) -> None:
    assert find_sum(text) == terms


@pytest.mark.parametrize("style", toys.STYLES)
@pytest.mark.parametrize("terms", [[12, 5, -3], [-1, 6], [4, -9], [-7, -2], [1, 2, 3, -4, -5], [0, -0, 3]])
def test_every_equation_of_a_right_solution_holds(style: str, terms: list[int]) -> None:
    text, answer = solve(terms, style)
    assert answer == sum(terms)
    assert text.endswith(f"The answer is {answer}")
    for equation in re.findall(r"[-+\d ]+ = -?\d+", text):
        left, _, right = equation.partition(" = ")
        assert sum(find_sum(left) or [int(left)]) == int(right), text


def test_a_slip_changes_the_answer() -> None:
    assert solve([12, 5, -3], "in order", slip=2) == ("12 + 5 = 17. 17 - 3 = 16. The answer is 16", 16)


def test_draws_come_from_position(base: Path) -> None:
    policy = ToyPolicy(base)
    whole = answers(policy, ask(indices=tuple(range(20))))
    assert whole == answers(ToyPolicy(base), ask(indices=tuple(range(20))))
    assert [whole[7], whole[3]] == answers(policy, ask(indices=(7, 3))), "a resumed run asks for what is missing"
    assert whole != answers(policy, ask(indices=tuple(range(20)), id="1:0"))
    assert whole != answers(policy, ask(indices=tuple(range(20)), seed=6))
    assert len(set(whole)) > 5


def test_skill_is_the_share_of_right_answers(tmp_path: Path) -> None:
    for skill in (0.0, 0.2, 1.0):
        policy = ToyPolicy(write_base(tmp_path / str(skill), ToyOptions(skill=skill)))
        right = [text.endswith("is 14") for text in answers(policy, ask(indices=tuple(range(1000))))]
        assert sum(right) / 1000 == pytest.approx(skill, abs=0.04)


def test_temperature_zero_gives_one_text(base: Path) -> None:
    assert len(set(answers(ToyPolicy(base), ask(temperature=0.0, indices=tuple(range(9)))))) == 1


def test_no_sum_no_answer(base: Path) -> None:
    (text,) = answers(ToyPolicy(base), ask("Name a colour.", indices=(0,)))
    assert text == toys.NO_SUM
    assert not re.search(r"\d", text)


def test_length_and_stop(base: Path) -> None:
    policy = ToyPolicy(base)
    ((cut,),) = policy.generate([ask(max_tokens=3, indices=(0,))])
    assert (cut.finish_reason, cut.tokens, len(cut.text.split())) == ("length", 3, 3)
    ((stopped,),) = policy.generate([ask(stop=("The answer",), indices=(0,))])
    assert stopped.finish_reason == "stop"
    assert "The answer" not in stopped.text


def example(completion: str, prompt: str = PROMPT) -> Example:
    return Example("r000/p/000", "p", 0, [{"role": "user", "content": prompt}], completion, "policy")


def test_training_raises_skill_and_narrows_styles(base: Path, tmp_path: Path) -> None:
    rows = [example(solve([12, 5, -3], "from the back")[0])] * 3 + [example("The answer is 15")]
    metrics = train_toy(base, rows, tmp_path / "next")
    before, after = read_model(base), read_model(tmp_path / "next")
    assert metrics["right_share"] == 0.75
    assert after.skill == pytest.approx(before.skill + 0.5 * 0.75 * (1 - before.skill))
    assert after.styles["from the back"] == pytest.approx(0.5 * 0.25 + 0.5)
    assert sum(after.styles.values()) == pytest.approx(1.0)
    assert ToyPolicy(tmp_path / "next").digest != ToyPolicy(base).digest


def test_training_is_deterministic_and_learns_nothing_from_wrong_rows(base: Path, tmp_path: Path) -> None:
    rows = [example("It is 3.")]
    train_toy(base, rows, tmp_path / "a")
    train_toy(base, rows, tmp_path / "b")
    assert (tmp_path / "a" / toys.FILE).read_bytes() == (tmp_path / "b" / toys.FILE).read_bytes()
    assert read_model(tmp_path / "a") == read_model(base)


@pytest.mark.parametrize("opening", toys._OPENINGS)
@pytest.mark.parametrize("style", toys.STYLES)
def test_training_recognises_what_the_toy_says(style: str, opening: str, tmp_path: Path) -> None:
    terms = [40, -7, 2, -3]
    row = example(opening + solve(terms, style)[0], "40 - 7 + 2 - 3 =")
    assert toys._style_of_right(row) == style


def test_a_worked_solution_by_someone_else_counts(tmp_path: Path) -> None:
    assert toys._style_of_right(example("Twelve and five make 17, less 3: 14")) == "at once"


@pytest.mark.parametrize(
    "content",
    [None, "{", "[]", '{"format": 2}', '{"format": 1, "skill": 2, "gain": 0, "styles": {"at once": 1}}',
     '{"format": 1, "skill": 1, "gain": 0, "styles": {"by magic": 1}}'],
)  # fmt: skip
def test_no_toy_model(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / toys.FILE).write_text(content)
    with pytest.raises(ModelError, match="toy model"):
        read_model(tmp_path)


def test_more_styles_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"policy.toy.styles = 99: the toy knows 6"):
        write_base(tmp_path, ToyOptions(styles=99))


def test_write_and_read(tmp_path: Path) -> None:
    model = ToyModel(0.25, 0.5, {"at once": 1.0})
    assert read_model(write_model(tmp_path / "m", model)) == model
    assert json.loads((tmp_path / "m" / toys.FILE).read_text())["format"] == 1
    assert "14" in toys.complete(ToyModel(1.0, 0.5, {"at once": 1.0}), ask().messages, rng("x"), 1.0)
