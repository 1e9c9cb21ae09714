from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.training.order import deal, micro_batches, plan_steps

PROBLEMS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60)


def seen(steps):
    return [place for step in steps for members in step for place in members]


@given(PROBLEMS, st.integers(1, 20), st.integers(1, 4), st.integers(1, 3))
def test_each_epoch_has_every_example_once(problems, batch_size, slots, epochs):
    steps = plan_steps(problems, epochs=epochs, batch_size=batch_size, slots=slots, seed=1)
    assert all(len(step) == slots and sum(map(len, step)) <= batch_size for step in steps)
    order = seen(steps)
    for epoch in range(epochs):
        part = order[epoch * len(problems) : (epoch + 1) * len(problems)]
        assert Counter(part) == Counter(range(len(problems)))


@given(PROBLEMS)
def test_examples_of_a_problem_are_neighbours(problems):
    order = seen(plan_steps(problems, epochs=1, batch_size=7, slots=1, seed=2))
    runs = [p for i, p in enumerate(order) if i == 0 or problems[order[i - 1]] != problems[p]]
    assert len(runs) == len(set(problems))


def test_the_order_is_a_matter_of_the_seed_and_the_epoch_alone():
    problems = [f"p{i // 2}" for i in range(40)]
    plan = plan_steps(problems, epochs=2, batch_size=8, slots=1, seed=3)
    assert plan == plan_steps(problems, epochs=2, batch_size=8, slots=1, seed=3)
    assert plan[:5] == plan_steps(problems, epochs=1, batch_size=8, slots=1, seed=3)
    assert plan[:5] != plan[5:]
    assert plan != plan_steps(problems, epochs=2, batch_size=8, slots=1, seed=4)
    # How a step is cut into micro-batches moves no example to another step.
    cut = plan_steps(problems, epochs=2, batch_size=8, slots=4, seed=3)
    assert [[p for m in step for p in m] for step in cut] == [step[0] for step in plan]


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 2), (1.5, 8), (2.0, 10)])
def test_a_fraction_of_an_epoch_is_so_many_of_its_steps(epochs, steps):
    assert len(plan_steps([str(i) for i in range(40)], epochs=epochs, batch_size=8, slots=1, seed=0)) == steps


def test_nothing_to_train_on_is_no_step():
    assert plan_steps([], epochs=2, batch_size=8, slots=1, seed=0) == []


def test_deal_keeps_neighbours_together_and_may_leave_a_process_without():
    assert deal([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4, 5]]
    assert deal([1], 4) == [[], [], [1], []]


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "slots"),
    [(16, 16, 1, 1), (16, 4, 1, 4), (16, 5, 1, 4), (16, 16, 2, 2), (16, 3, 4, 8)],
)
def test_every_process_gets_as_many_micro_batches(batch, micro, processes, slots):
    assert micro_batches(batch, micro, processes) == slots
