"""Requests and rows: what is asked, in which words, under which ids and seeds, and how answers become rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flywheel.plan_types import Hints, Plan, Source
from flywheel.policy import Completion
from flywheel.sample import asking, draw, requests, wave_ids
from flywheel.types import Problem
from flywheel.waves import Leg, Wave

PROBLEMS = {f"p{i}": Problem(f"p{i}", f"{i} + 1 =", str(i + 1)) for i in range(6)}


def a_plan(**changes):
    settings = {
        "phase": "round", "round": 2, "generation": 1, "problems": list(PROBLEMS), "k": 4, "temperature": 1.0,
        "top_p": 1.0, "top_k": 0, "max_tokens": 9, "stop": [], "variants": ["{prompt}", "Think. {prompt}"],
    }  # fmt: skip
    return Plan(**{**settings, **changes})


def whole(plan: Plan, *, hinted: bool = False) -> Wave:
    return Wave(Leg(Source(plan.k, generation=plan.generation), hinted), [(p, 0, plan.k) for p in plan.problems])


def asked_of(plan: Plan, **settings):
    return requests(plan, whole(plan), PROBLEMS, seed=0, system=None, **settings)


class Echo:
    """A policy that answers with the last message, the requests in reverse order."""

    def generate(self, asked):
        for request in reversed(list(asked)):
            yield [Completion(request.id, i, request.messages[-1]["content"], "stop", 1) for i in request.indices]

    def close(self):
        pass


def drawn(plan: Plan, wave: Wave):
    asked = requests(plan, wave, PROBLEMS, seed=0, system=None)
    return {s.id: s for chunk in draw(Echo(), plan, wave.leg, asked, chunk=2) for s in chunk}


def test_variants_take_turns_and_rows_know_theirs():
    by_id = drawn(a_plan(), whole(a_plan()))
    assert sorted(by_id) == sorted(wave_ids(a_plan(), whole(a_plan())))
    assert by_id["r002/p3/000"].completion == "3 + 1 ="
    assert by_id["r002/p3/001"].completion == "Think. 3 + 1 ="
    assert by_id["r002/p3/001"].variant == "Think. {prompt}"


def test_chunks_come_as_soon_as_their_requests_are_finished():
    plan = a_plan(variants=["{prompt}"])
    sizes = [len(c) for c in draw(Echo(), plan, whole(plan).leg, asked_of(plan), chunk=4)]
    assert sizes == [16, 8]


@given(st.sets(st.sampled_from(wave_ids(a_plan(), whole(a_plan())))))
def test_what_is_done_is_not_asked_for_and_all_else_is_once(done):
    plan = a_plan()
    rows = [s.id for chunk in draw(Echo(), plan, whole(plan).leg, asked_of(plan, done=done), chunk=3) for s in chunk]
    assert sorted([*rows, *done]) == sorted(wave_ids(plan, whole(plan)))


def test_seeds_follow_from_position():
    one = {r.id: r.seed for r in asked_of(a_plan())}
    other_round = {r.id: r.seed for r in asked_of(a_plan(round=3))}
    assert one == {r.id: r.seed for r in asked_of(a_plan())}
    assert not set(one.values()) & set(other_round.values())


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 3))
def test_no_two_levers_always_go_together(templates, temperatures, paraphrases, blocks):
    plan = a_plan(
        variants=[f"{i} {{prompt}}" for i in range(templates)],
        temperatures=[0.5 + i for i in range(temperatures)],
        paraphrases={"p1": [f"again {i}" for i in range(paraphrases)]},
        shots=[[] for _ in range(blocks)],
    )
    ways = templates * temperatures * (1 + paraphrases) * max(1, blocks)
    seen = [asking(plan, "p1", i) for i in range(2 * ways)]
    assert {way.slot for way in seen} == set(range(ways))
    assert len({(w.variant, w.temperature, w.text, w.block) for w in seen[:ways]}) == ways
    assert seen[:ways] == seen[ways:]
    assert [asking(plan, "p0", i).text for i in range(9)] == [None] * 9


def test_samples_of_a_problem_take_their_temperatures_by_turns():
    plan = a_plan(variants=["{prompt}"], temperatures=[1.0, 1.2, 0.8])
    assert [drawn(plan, whole(plan))[f"r002/p0/{i:03d}"].temperature for i in range(4)] == [1.0, 1.2, 0.8, 1.0]
    assert {(r.temperature, len(r.indices)) for r in asked_of(plan)} == {(1.0, 2), (1.2, 1), (0.8, 1)}


def test_a_problem_is_never_shown_its_own_solution():
    shots = [{"id": f"p{i}", "prompt": f"{i} + 1 =", "completion": f"It is {i + 1}"} for i in range(3)]
    plan = a_plan(variants=["{prompt}"], shots=[shots], shots_shown=2)
    for request in asked_of(plan):
        own = PROBLEMS[plan.problems[int(request.id.split(":")[0])]]
        assert [m["role"] for m in request.messages] == ["user", "assistant", "user", "assistant", "user"]
        assert request.messages[-1]["content"] == own.prompt
        assert own.prompt not in [m["content"] for m in request.messages[:-1]]


def test_hinted_rows_know_what_they_are():
    plan = a_plan(hints=Hints(2, "{prompt} (It is {answer}.)", ["p2"]))
    wave = Wave(Leg(Source(4, generation=1), hinted=True), [("p2", 4, 6)])
    rows = drawn(plan, wave)
    assert list(rows) == ["r002/p2/004", "r002/p2/005"]
    assert {(s.origin, s.completion, s.variant) for s in rows.values()} == {
        ("hinted", "2 + 1 = (It is 3.)", "{prompt} (It is {answer}.)")
    }


def test_rows_of_another_model_name_it():
    wave = Wave(Leg(Source(1, "teacher", extra=0, model="owner/big")), [("p2", 3, 4)])
    [row] = drawn(a_plan(), wave).values()
    assert (row.origin, row.generation, row.sampler) == ("teacher", -1, "owner/big")
