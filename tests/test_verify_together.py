"""Verifiers that judge several completions in one call: the innocent get their verdict, the guilty one pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from flywheel import PluginError, Problem, Sample
from flywheel.plugins import make_verifier
from flywheel.protocols import Traits, traits
from tests.verify_plugins import (
    BATCHED,
    CONCURRENT,
    EXCLUSIVE,
    GROUPED,
    WAITING,
    judged,
    outcomes,
    pool_of,
    sample,
    writer,
)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    return writer(tmp_path_factory.mktemp("plugins"))


def test_traits_are_read_from_the_instance(plugin) -> None:
    assert traits(make_verifier("exact", {})) == Traits()
    assert traits(make_verifier(plugin(BATCHED, "Batched"), {})) == Traits(batch=True, at_once=8)
    assert traits(make_verifier(plugin(CONCURRENT, "Bounded"), {})) == Traits(concurrent=True, at_once=2)
    assert traits(make_verifier(plugin(GROUPED, "Grouped"), {})) == Traits(group=True)
    assert traits(make_verifier(plugin(EXCLUSIVE, "Exclusive"), {})) == Traits(exclusive=True)


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch_is_judged_in_one_call(plugin) -> None:
    with pool_of(plugin(BATCHED, "Batched")) as pool:
        verdicts = judged(pool, *["right", "wrong"] * 10)
        assert outcomes(verdicts) == ["correct", "wrong"] * 10
        assert {v.detail for v in verdicts} == {"with 8", "with 4"}
        assert verdicts[0].version == "2"
        assert judged(pool, "right")[0].detail == "alone"


@pytest.mark.parametrize(
    ("word", "outcome", "detail"),
    [
        ("raise", "error", "ValueError: a reason"),
        ("hard_exit", "error", "the worker ended in the middle of it (exit code 7)"),
        ("memory", "timeout", "ran out of memory"),
        ("short", "correct", "alone"),
        ("none", "correct", "alone"),
    ],
)
def test_of_a_batch_only_the_guilty_completion_pays(plugin, word: str, outcome: str, detail: str) -> None:
    with pool_of(plugin(BATCHED, "Batched"), memory_gib=0.25) as pool:
        verdicts = judged(pool, "right", "wrong", word, "right", "wrong", "right")
        assert outcomes(verdicts) == ["correct", "wrong", outcome, "correct", "wrong", "correct"]
        assert detail in verdicts[2].detail
        assert {v.detail for v in verdicts if v is not verdicts[2]} == {"alone"}
        assert {v.detail for v in judged(pool, "right", "right")} == {"with 2"}


def test_a_value_that_is_no_judgement_is_an_error_of_its_own_completion(plugin) -> None:
    with pool_of(plugin(BATCHED, "Batched")) as pool:
        verdicts = judged(pool, "right", "nan", "right")
        assert outcomes(verdicts) == ["correct", "error", "correct"]
        assert {v.detail for v in verdicts} == {"with 3", "returned the score nan; a score is a number from 0 to 1"}


def test_a_batch_has_the_deadline_of_as_many_single_calls_and_then_each_has_its_own(plugin) -> None:
    with pool_of(plugin(BATCHED, "Batched"), deadline_seconds=0.8) as pool:
        verdicts = judged(pool, "slow", "slow", "slow")  # 1.8 s together, 0.6 s each
        assert {v.detail for v in verdicts} == {"with 3"}
        verdicts = judged(pool, "right", "hang", "wrong")
        assert outcomes(verdicts) == ["correct", "timeout", "wrong"]
        assert verdicts[1].detail == "not judged within 0.8 s (verify.deadline_seconds)"


def test_a_batch_method_may_be_async(plugin) -> None:
    with pool_of(plugin(BATCHED, "AsyncBatched")) as pool:
        assert outcomes(judged(pool, "right", "wrong", "right")) == ["correct", "wrong", "correct"]


# -- async -----------------------------------------------------------------------------------------


def test_calls_run_side_by_side_up_to_their_bound(plugin) -> None:
    waits = ["wait 0.3"] * 8
    with pool_of(plugin(CONCURRENT, "Concurrent")) as pool:
        assert "most 8" in {v.detail for v in judged(pool, *waits)}
    with pool_of(plugin(CONCURRENT, "Bounded")) as pool:
        assert {v.detail for v in judged(pool, *waits)} <= {"most 1", "most 2"}


@pytest.mark.parametrize(
    ("word", "outcome", "detail"),
    [
        ("await_for_ever", "timeout", "not judged within 1 s"),
        ("stubborn", "timeout", "not judged within 1 s"),
        ("hang", "timeout", "not judged within 1 s"),  # it holds the loop, and the others with it
        ("raise", "error", "ValueError: a reason"),
        ("exit", "error", "SystemExit: 3"),
        ("cancel", "error", "CancelledError"),
        ("hard_exit", "error", "the worker ended in the middle of it (exit code 7)"),
        ("memory", "timeout", "ran out of memory"),
        ("nan", "error", "returned the score nan"),
    ],
)
def test_on_one_loop_only_the_guilty_completion_pays(plugin, word: str, outcome: str, detail: str) -> None:
    with pool_of(plugin(CONCURRENT, "Concurrent"), memory_gib=0.25) as pool:
        verdicts = judged(pool, "wait 0.2", "wrong", word, "wait 0.4", "right")
        assert outcomes(verdicts) == ["correct", "wrong", outcome, "correct", "correct"]
        assert detail in verdicts[2].detail
        assert outcomes(judged(pool, "right", "wrong")) == ["correct", "wrong"]


def test_one_that_holds_the_loop_costs_the_others_no_time_out(plugin) -> None:
    with pool_of(plugin(CONCURRENT, "Concurrent")) as pool:
        # Each takes 0.6 s of the loop; whoever waits beside them is past its deadline when they are done.
        verdicts = judged(pool, "wait 0.5", "slow", "slow", "slow", "wait 0.7", "await_for_ever")
        assert outcomes(verdicts) == ["correct"] * 5 + ["timeout"]


EXPECTED = {
    "right": "correct",
    "wrong": "wrong",
    "raise": "error",
    "hard_exit": "error",
    "nan": "error",
    "hang": "timeout",
}


@pytest.mark.parametrize(("source", "name"), [(BATCHED, "Batched"), (CONCURRENT, "Concurrent")])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_the_mixture_each_completion_gets_its_own_verdict(plugin, source: str, name: str, seed: int) -> None:
    words = Random(seed).choices(list(EXPECTED), [40, 20, 4, 2, 4, 0], k=70)
    words[Random(-seed).randrange(70)] = "hang"
    with pool_of(plugin(source, name), workers=2, deadline_seconds=0.25) as pool:
        assert outcomes(judged(pool, *words)) == [EXPECTED[word] for word in words]


# -- groups ----------------------------------------------------------------------------------------


def groups(*sizes: int) -> tuple[list[Problem], list[Sample]]:
    problems = [Problem(id=f"q{n}", prompt="", answer="") for n in range(len(sizes))]
    rows = [(k, n) for n, size in enumerate(sizes) for k in range(size)]
    rows.sort()  # the problems' samples lie between one another
    return problems, [sample(i, f"{n}{'abcdefgh'[k]}", f"q{n}") for i, (k, n) in enumerate(rows)]


def test_a_group_is_all_samples_of_a_problem(plugin) -> None:
    problems, samples = groups(3, 1, 2)
    with pool_of(plugin(GROUPED, "Grouped"), workers=2) as pool:
        verdicts = pool.submit(problems, samples).result(60)
    assert [v.sample_id for v in verdicts] == [s.id for s in samples]
    assert {s.completion: v.detail for s, v in zip(samples, verdicts, strict=True)} == {
        **{"0a": "0 of 0a,0b,0c", "0b": "1 of 0a,0b,0c", "0c": "2 of 0a,0b,0c"},
        **{"1a": "0 of 1a", "2a": "0 of 2a,2b", "2b": "1 of 2a,2b"},
    }


@pytest.mark.parametrize(
    ("word", "detail"),
    [
        ("hang", "its problem's 3 samples were not judged within 1.5 s"),
        ("raise", "ValueError: a reason"),
        ("hard_exit", "the worker ended in the middle of it (exit code 7)"),
        ("memory", "ran out of memory (verify.memory_gib) over all samples of the problem"),
        ("short", "returned 0 values for 3 completions"),
    ],
)
def test_a_group_that_cannot_be_judged_is_an_error_as_a_whole_and_of_no_other(plugin, word: str, detail: str) -> None:
    problems, samples = groups(3, 2)
    samples[2] = sample(2, word, "q0")
    with pool_of(plugin(GROUPED, "Grouped"), deadline_seconds=0.5, memory_gib=0.25) as pool:
        verdicts = pool.submit(problems, samples).result(60)
    assert [(v.outcome, v.problem_id) for v in verdicts].count(("error", "q0")) == 3
    assert outcomes([v for v in verdicts if v.problem_id == "q1"]) == ["correct", "correct"]
    assert {v.detail for v in verdicts if v.problem_id == "q0"} == {detail}


def test_a_value_that_is_no_judgement_is_an_error_of_its_own_sample(plugin) -> None:
    with pool_of(plugin(GROUPED, "Grouped")) as pool:
        assert outcomes(judged(pool, "a", "strange", "b")) == ["correct", "error", "correct"]


# -- exclusive -------------------------------------------------------------------------------------


def test_an_exclusive_verifier_has_one_process_all_processors_and_its_own_memory(plugin) -> None:
    with pool_of(plugin(EXCLUSIVE, "Exclusive"), workers=4) as pool:
        found = {v.detail for v in judged(pool, *["x"] * 200)}
        assert len(found) == 1
        assert found.pop().endswith("True None")


def test_two_exclusive_verifiers_are_never_loaded_side_by_side(plugin) -> None:
    name = plugin(EXCLUSIVE, "Exclusive")
    other = Problem(id="q", prompt="", answer="", verifier=name.replace("Exclusive", "Another"))
    with pool_of(name) as pool:
        (first,) = judged(pool, "x")
        (second,) = pool.submit([other], [sample(0, "x", "q")]).result(60)
        pids = [int(v.detail.split()[0]) for v in (first, second)]
        assert pids[0] != pids[1] and second.verifier == "Another"
        assert not Path(f"/proc/{pids[0]}").exists()


@pytest.mark.parametrize("name", ["Waiting", "AsyncWaiting"])
def test_a_verifier_that_waits_for_others_does_not_blame_the_completion(plugin, name: str) -> None:
    with pool_of(plugin(WAITING, name), deadline_seconds=0.3) as pool:
        verdicts = judged(pool, "x", "y")
        assert outcomes(verdicts) == ["error", "error"]
        assert verdicts[0].detail == "not judged within 0.3 s (verify.deadline_seconds)"


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan"), "9"])
def test_a_deadline_is_a_number_above_zero(seconds: object) -> None:
    class Late:
        deadline_seconds = seconds

        def verify(self, problem: Problem, completion: str) -> bool:
            return True

    with pytest.raises(PluginError, match="deadline_seconds = .* of Late; it is a number above 0"):
        traits(Late())


def test_a_verifiers_own_deadline_holds_where_the_recipe_names_none(plugin) -> None:
    with pool_of(plugin(WAITING, "Hurried"), deadline_seconds=None) as pool:
        assert judged(pool, "x")[0].detail == "not judged within 0.3 s (verify.deadline_seconds)"


def test_a_path_is_of_a_known_kind() -> None:
    class Odd:
        path_kind = ("a file of its own",)

        def verify(self, problem: Problem, completion: str) -> bool:
            return True

    with pytest.raises(PluginError, match=r"path_kind = .* of Odd; known: equations, code, text"):
        traits(Odd())


def test_a_deadline_is_missed_in_one_of_two_ways(plugin) -> None:
    with pytest.raises(PluginError, match="deadline_outcome = 'wrong'"):
        pool_of(plugin(WAITING, "Confused"))
