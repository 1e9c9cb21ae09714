"""reasoning-gym's scorers: the honest ones are called, the ones that execute text are kept from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from flywheel import Judgement, Outcome, PluginError, Problem
from flywheel.identity import verifier_identity
from flywheel.judgements import to_judgement
from flywheel.plugins import make_verifier
from flywheel.verifiers import sandbox
from flywheel.verifiers.adapters import reasoning_gym as adapter
from flywheel.verifiers.sandbox import SandboxError


def isolated() -> str | None:
    """The sandbox's level on this machine."""
    try:
        return str(sandbox.choose(sandbox.Level.LANDLOCK))
    except SandboxError:
        return None


def entry(task: str, index: int, **settings: Any) -> dict[str, Any]:
    import reasoning_gym

    made: dict[str, Any] = reasoning_gym.create_dataset(task, size=50, **({"seed": 0} | settings))[index]
    return made


def problem(task: str, index: int, **settings: Any) -> Problem:
    """As `problems.source = "reasoning_gym"` makes it, with a template around the question."""
    made = entry(task, index, **settings)
    prompt = f"Solve this.\n{made['question']}\nAnswer in a tag."
    return Problem(
        id=f"{task}-{index}", prompt=prompt, answer=(made["answer"] or "").strip(), meta={"task": task, "index": index}
    )


def judge(of: Problem, completion: str, **options: Any) -> Judgement:
    return to_judgement(make_verifier("reasoning_gym", options).verify(of, completion))


@pytest.mark.parametrize(
    "task", ["chain_sum", "leg_counting", "word_sorting", "graph_color", "sudoku", "spell_backward"]
)
def test_the_tasks_own_answer_is_right(task: str) -> None:
    for index in (0, 3):
        of = problem(task, index)
        made = entry(task, index)
        right = made["answer"] if task != "graph_color" else json.dumps(made["metadata"]["possible_answer"])
        assert judge(of, f"<think>hm</think> So <answer>{right}</answer>").outcome == Outcome.CORRECT
        assert judge(of, "<answer>zzz</answer>").outcome == Outcome.WRONG
        assert judge(of, " ").outcome == Outcome.NO_ANSWER


def test_partial_credit_is_a_score_and_no_right_answer() -> None:
    of = problem("leg_counting", 0)
    found = judge(of, f"well, {of.answer} it is")
    assert found.outcome == Outcome.WRONG and 0.0 < found.score < 1.0
    assert judge(of, f"well, {of.answer} it is", threshold=0.01).outcome == Outcome.CORRECT
    assert judge(of, f"well, {of.answer}", pattern=r"well, (\w+)").outcome == Outcome.CORRECT
    assert judge(of, f"it is {of.answer}", pattern=r"well, (\w+)").outcome == Outcome.NO_ANSWER


def test_an_entry_made_with_another_seed_is_an_error_and_not_wrong() -> None:
    of = problem("chain_sum", 1, seed=5)
    assert judge(of, of.answer).outcome == Outcome.ERROR
    assert "set seed" in judge(of, of.answer).detail
    assert judge(of, of.answer, seed=5).outcome == Outcome.CORRECT


def test_an_entry_may_come_with_its_row() -> None:
    made = entry("leg_counting", 2)
    meta = {"task": "leg_counting", "metadata": made["metadata"]}
    of = Problem(id="p", prompt=made["question"], answer=made["answer"], meta=meta)
    assert judge(of, made["answer"]).outcome == Outcome.CORRECT
    with pytest.raises(PluginError, match="has neither a column 'metadata' nor an 'index'"):
        judge(Problem(id="p", prompt="", answer="4", meta={"task": "leg_counting"}), "4")


def test_a_task_without_a_name_or_an_unknown_one_is_an_error() -> None:
    assert judge(Problem(id="p", prompt="", answer="4"), "4").outcome == Outcome.ERROR
    with pytest.raises(PluginError, match="does not take"):
        judge(Problem(id="p", prompt="", answer="4", meta={"task": "nosuch", "index": 0}), "4")


def test_the_scorer_that_gives_full_marks_to_anything_is_refused() -> None:
    with pytest.raises(PluginError, match="full marks to any answer"):
        make_verifier("reasoning_gym", {"task": "game_of_life_halting"})
    of = problem("game_of_life_halting", 0)
    assert judge(of, "zzz").outcome == Outcome.ERROR


def test_a_scorer_that_raises_is_an_error_at_the_plugins_edge() -> None:
    from flywheel.judging import judge_one

    found = judge_one(make_verifier("reasoning_gym", {}), problem("prime_factorization", 0), "zzz")
    assert found.outcome == Outcome.ERROR
    assert "ValueError" in found.detail


@pytest.fixture
def without_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that can isolate nothing."""

    def choose(*_: Any) -> None:
        raise SandboxError("no level reaches landlock here")

    monkeypatch.setattr(sandbox, "choose", choose)
    adapter._level.cache_clear()
    yield
    adapter._level.cache_clear()


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize("task", sorted(adapter.LITERALS | adapter.EXPRESSIONS))
def test_a_scorer_that_executes_text_is_refused_without_a_sandbox(task: str) -> None:
    with pytest.raises(PluginError, match=r"refused without a sandbox: no level reaches landlock here"):
        make_verifier("reasoning_gym", {"task": task})
    with pytest.raises(PluginError, match="executes what the model wrote and is refused"):
        judge(problem(task, 0), "1")


@pytest.mark.parametrize("task", sorted(adapter.LITERALS | adapter.EXPRESSIONS))
def test_the_deny_list_is_of_tasks_that_exist_and_execute_text(task: str) -> None:
    """If a release stops evaluating text, the list should be shortened."""
    import inspect

    from reasoning_gym.factory import DATASETS

    source = inspect.getsource(DATASETS[task][0].score_answer)
    assert ("eval(" if task in adapter.LITERALS else "parse_expr(") in source


def test_no_other_scorer_executes_text() -> None:
    """If a release brings another, it should be listed."""
    import inspect

    from reasoning_gym.factory import DATASETS

    executing = {n for n, (cls, _) in DATASETS.items() if "eval(answer" in inspect.getsource(cls.score_answer)}
    executing |= {n for n, (cls, _) in DATASETS.items() if "parse_expr(answer" in inspect.getsource(cls.score_answer)}
    assert executing == adapter.LITERALS | adapter.EXPRESSIONS


HARMFUL = [
    "__import__('os').system('true')",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "print(1)",
    "exit()",
    "(lambda: 1)()",
    "x.__class__",
    "[1, [__import__('os')]]",
]


@pytest.mark.parametrize("answer", HARMFUL)
@pytest.mark.parametrize("task", ["n_queens", "countdown"])
def test_code_never_reaches_a_scorer_that_evaluates(task: str, answer: str) -> None:
    assert adapter.harmful(task, answer) is not None


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("string_insertion", "ABCDAAB"),
        ("string_insertion", "['A', 'B']"),
        ("spiral_matrix", "1 2 3"),
        ("spiral_matrix", "[1, 2, 3]"),
        ("n_queens", "_ _ Q _\nQ _ _ _"),
        ("simple_integration", "-34*x**8/15 - 5*x/4 + C"),
        ("intermediate_integration", "-4*(-2*x - 8)**(3/2)/3 + C"),
        ("intermediate_integration", "exp(x)*sin(2*x) + log(x) + C"),
        ("polynomial_multiplication", "-896*x**5 + 2240*x**4 + 3584*x**3"),
        ("countdown", "94*4 - 61 - 6"),
        ("puzzle24", "10*(8 - 5) - 6"),
    ],
)
def test_plain_answers_reach_it(task: str, answer: str) -> None:
    assert adapter.harmful(task, answer) is None


@pytest.mark.skipif(isolated() is None, reason="no level of the sandbox reaches landlock here")
def test_in_the_sandbox_such_a_scorer_judges_plain_answers() -> None:
    bare = entry("countdown", 0)
    of = Problem(id="p", prompt=bare["question"], answer=bare["answer"], meta={"task": "countdown", "index": 0})
    assert judge(of, bare["answer"]).outcome == Outcome.CORRECT
    assert judge(of, "1").outcome == Outcome.WRONG
    assert judge(of, "print(1.0)").outcome == Outcome.WRONG


def test_identity_names_the_installed_version() -> None:
    assert verifier_identity("reasoning_gym", {})["identity"]["function_package"].startswith("reasoning-gym 0.")


def test_it_offers_a_check_its_own_problems_and_their_answers() -> None:
    made: Any = make_verifier("reasoning_gym", {"task": "leg_counting"})
    problems = made.problems()
    assert len(problems) == adapter.PROBLEMS and all(p.meta["task"] == "leg_counting" for p in problems)
    assert {to_judgement(made.verify(p, made.example(p))).outcome for p in problems} == {Outcome.CORRECT}
    assert made.isolation == "worker"
