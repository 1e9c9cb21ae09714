"""Plan and sample: what is asked, under which ids and seeds, and how answers become rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flywheel.plan import Plan, conversation, plan_evaluation, plan_round
from flywheel.policy import Completion
from flywheel.recipe import validate
from flywheel.sample import draw, planned_ids, requests
from flywheel.types import Problem

PROBLEMS = {f"p{i}": Problem(f"p{i}", f"{i} + 1 =", str(i + 1)) for i in range(6)}


def a_plan(**changes):
    settings = {
        "phase": "round", "round": 2, "generation": 1, "problems": list(PROBLEMS), "k": 4, "temperature": 1.0,
        "top_p": 1.0, "top_k": 0, "max_tokens": 9, "stop": [], "variants": ["{prompt}", "Think. {prompt}"],
    }  # fmt: skip
    return Plan(**{**settings, **changes})


class Echo:
    """A policy that answers with the last message, the requests in reverse order."""

    def generate(self, asked):
        for request in reversed(list(asked)):
            yield [Completion(request.id, i, request.messages[-1]["content"], "stop", 1) for i in request.indices]

    def close(self):
        pass


def test_variants_take_turns_and_rows_know_theirs():
    plan = a_plan()
    samples = [s for chunk in draw(Echo(), plan, requests(plan, PROBLEMS, seed=0, system=None), chunk=2) for s in chunk]
    by_id = {s.id: s for s in samples}
    assert sorted(by_id) == sorted(planned_ids(plan))
    assert by_id["r002/p3/000"].completion == "3 + 1 ="
    assert by_id["r002/p3/001"].completion == "Think. 3 + 1 ="
    assert by_id["r002/p3/001"].variant == "Think. {prompt}"


def test_chunks_come_as_soon_as_their_requests_are_finished():
    plan = a_plan(variants=["{prompt}"])
    sizes = [len(c) for c in draw(Echo(), plan, requests(plan, PROBLEMS, seed=0, system=None), chunk=4)]
    assert sizes == [16, 8]


@given(st.sets(st.sampled_from(planned_ids(a_plan()))))
def test_what_is_done_is_not_asked_for_and_all_else_is_once(done):
    plan = a_plan()
    asked = requests(plan, PROBLEMS, seed=0, system=None, done=done)
    drawn = [s.id for chunk in draw(Echo(), plan, asked, chunk=3) for s in chunk]
    assert sorted([*drawn, *done]) == sorted(planned_ids(plan))


def test_seeds_follow_from_position():
    one = {r.id: r.seed for r in requests(a_plan(), PROBLEMS, seed=0, system=None)}
    other_round = {r.id: r.seed for r in requests(a_plan(round=3), PROBLEMS, seed=0, system=None)}
    assert one == {r.id: r.seed for r in requests(a_plan(), PROBLEMS, seed=0, system=None)}
    assert not set(one.values()) & set(other_round.values())


def test_rounds_see_problems_in_another_order_and_temperatures_follow_the_list():
    recipe = validate({"sampling": {"problems": 3, "temperatures": [0.7, 1.2]}})
    plans = [plan_round(recipe, i, i, list(PROBLEMS.values())) for i in range(3)]
    assert [p.temperature for p in plans] == [0.7, 1.2, 1.2]
    assert [len(p.problems) for p in plans] == [3, 3, 3]
    assert plans[0].problems != plans[1].problems or plans[1].problems != plans[2].problems
    assert plans[0] == plan_round(recipe, 0, 0, list(PROBLEMS.values()))


def test_held_out_problems_are_asked_plainly():
    recipe = validate({"sampling": {"variants": ["Hm. {prompt}"]}, "evaluate": {"samples": 3}})
    plan = plan_evaluation(recipe, "dev", 2, list(PROBLEMS.values()))
    assert (plan.variants, plan.k, plan.sample_id("p1", 0)) == (["{prompt}"], 3, "d002/p1/000")


def test_conversations():
    own = Problem("p", "", "", messages=[{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}])
    assert conversation(own, "ignored", "So: {prompt}") == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "So: Q"},
    ]
    plain = Problem("p", "Q {x}", "")
    assert conversation(plain, None) == [{"role": "user", "content": "Q {x}"}]
    assert conversation(plain, "")[0] == {"role": "system", "content": ""}
