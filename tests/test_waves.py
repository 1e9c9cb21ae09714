"""Waves: who is asked next, and how often, from nothing but earlier verdicts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.plan_types import Budget, Hints, Plan, Source
from flywheel.types import Origin, PathKind, Sample, Verdict
from flywheel.waves import COHORT, Ledger, Leg, Tally, cohorts, legs, more, needs_verdicts, next_wave, saving, wanted


def a_budget(**changes) -> Budget:
    settings = {"first": 2, "step": 2, "count": "paths", "enough": 2, "target": "uniform", "most": 8,
                "most_unsolved": 4, "probe": 1}  # fmt: skip
    return Budget(**{**settings, **changes})


def a_plan(problems=("a", "b"), **changes) -> Plan:
    settings = {
        "phase": "round", "round": 0, "generation": 0, "problems": list(problems), "k": 8, "temperature": 1.0,
        "top_p": 1.0, "top_k": 0, "max_tokens": 9, "stop": [], "variants": ["{prompt}"],
    }  # fmt: skip
    return Plan(**{**settings, **changes})


def played(plan: Plan, said) -> tuple[dict[str, list[tuple[str, str]]], Ledger, int]:
    """Every completion of a plan as `said(problem, index, origin)` has it: (outcome, path). Waves are counted."""
    ledger, rows, waves = Ledger(), {p: [] for p in plan.problems}, 0
    for leg in legs(plan):
        origin = Origin.HINTED if leg.hinted else leg.source.origin
        begun, unsettled = False, []
        while wave := next_wave(plan, leg, plan.problems, ledger, begun=begun):
            begun, waves = True, waves + 1
            ledger.ask(wave)
            assert wave.size > 0
            for problem_id, first, end in wave.asked:
                assert first == len(rows[problem_id]), "indices go on without a gap"
                rows[problem_id] += [said(problem_id, i, origin) for i in range(first, end)]
                unsettled += [(problem_id, i) for i in range(first, end)]
            samples, verdicts = [], {}
            for problem_id, i in unsettled:
                outcome, path = rows[problem_id][i]
                name = f"{problem_id}/{i}"
                samples.append(Sample(name, problem_id, 0, 0, i, path, "stop", 5, 1.0, "", origin))
                verdicts[name] = Verdict(name, problem_id, outcome, 0.0, None, "", "", "", "")
            ledger.enter(samples, verdicts)
            unsettled = []
    return rows, ledger, waves


def test_a_fixed_budget_asks_every_problem_k_times_in_one_wave():
    rows, _, waves = played(a_plan(), lambda *_: ("wrong", ""))
    assert {p: len(said) for p, said in rows.items()} == {"a": 8, "b": 8} and waves == 1


def test_a_problem_with_enough_leaves_an_unsolved_one_gets_more_up_to_its_maximum():
    def said(problem, index, origin):
        return {"easy": ("correct", f"way {index}"), "hard": ("wrong", "x"), "one way": ("correct", "the same")}[
            problem
        ]

    plan = a_plan(["easy", "hard", "one way"], budget=a_budget())
    rows, _, waves = played(plan, said)
    assert {p: len(r) for p, r in rows.items()} == {"easy": 2, "hard": 4, "one way": 8}
    assert waves == 4


def test_a_mastered_problem_gets_a_probe_and_more_only_if_that_fails():
    plan = a_plan(["still", "lost"], budget=a_budget(), standing={"still": "mastered", "lost": "mastered"})
    rows, _, _ = played(plan, lambda p, i, o: ("correct", "w") if p == "still" else ("wrong", ""))
    assert {p: len(r) for p, r in rows.items()} == {"still": 1, "lost": 4}
    rows, _, _ = played(a_plan(["still"], budget=a_budget(probe=None), standing={"still": "mastered"}),
                        lambda p, i, o: ("correct", f"{i}"))  # fmt: skip
    assert len(rows["still"]) == 2


def test_what_could_not_be_judged_is_not_wrong():
    tally = Tally(asked=2, judged=0)
    assert more(a_budget(), tally, mastered=True) == 2
    assert wanted(a_budget(target="difficulty", enough=9), tally) == 9


def test_dart_uniform_asks_until_each_has_k_right_and_proportional_wants_more_of_the_hard():
    uniform = a_budget(count="right", enough=4, most=40, most_unsolved=40, probe=None, step=4)
    half = lambda p, i, o: ("correct" if i % 2 else "wrong", "same path")  # noqa: E731
    rows, ledger, _ = played(a_plan(["a"], budget=uniform), half)
    assert ledger.of("a").right >= 4 and len(rows["a"]) <= 12
    by_difficulty = a_budget(count="right", enough=10, target="difficulty", most=99, most_unsolved=99)
    assert [wanted(by_difficulty, Tally(asked=10, judged=10, right=r)) for r in (0, 5, 9, 10)] == [10, 5, 1, 1]


def test_completions_that_ran_into_the_limit_do_not_count_as_enough():
    ledger = Ledger()
    sample = Sample("s", "a", 0, 0, 0, "1 + 1 = 2", "length", 9, 1.0, "", "policy")
    ledger.enter([sample], {"s": Verdict("s", "a", "correct", 1.0, "2", "", "", "", "")})
    assert (ledger.of("a").right, ledger.of("a").found("paths"), ledger.of("a").found("right")) == (1, 0, 0)


def test_other_sources_take_their_share_and_hints_go_to_what_nobody_solved():
    sources = [Source(6, generation=2), Source(2, Origin.OLDER_GENERATION, generation=0)]
    plan = a_plan(["a", "b", "c"], sources=sources, hints=Hints(3, "{prompt} {answer}", ["b", "c"]))

    def said(problem, index, origin):
        return ("correct" if problem == "a" or (problem == "b" and origin == "older_generation") else "wrong", "p")

    rows, _, waves = played(plan, said)
    assert {p: len(r) for p, r in rows.items()} == {"a": 8, "b": 8, "c": 11} and waves == 3
    assert [needs_verdicts(plan, leg, begun=False) for leg in legs(plan)] == [False, False, True]
    adaptive = a_plan(["a", "b"], sources=sources, budget=a_budget())
    rows, _, _ = played(adaptive, lambda p, i, o: ("correct", f"{i}") if p == "a" else ("wrong", ""))
    assert {p: len(r) for p, r in rows.items()} == {"a": 2, "b": 6}
    assert [needs_verdicts(adaptive, leg, begun=False) for leg in legs(adaptive)] == [False, True]


def test_unjudged_problems_get_no_hint():
    plan = a_plan(["a"], hints=Hints(3, "{prompt} {answer}", ["a"]))
    rows, _, _ = played(plan, lambda p, i, o: ("error", ""))
    assert len(rows["a"]) == 8


def test_large_rounds_are_cut_into_two_cohorts_only_where_verdicts_are_waited_for():
    names = [f"p{i}" for i in range(2 * COHORT)]
    assert len(cohorts(a_plan(names))) == 1
    assert len(cohorts(a_plan(names[1:], budget=a_budget()))) == 1
    one, two = cohorts(a_plan(names, budget=a_budget()))
    assert len(one) == len(two) == COHORT and sorted([*one, *two]) == sorted(names)


OUTCOMES = st.sampled_from(
    [("correct", "1 + 1 = 2"), ("correct", "way"), ("wrong", ""), ("error", ""), ("timeout", "")]
)
BUDGETS = st.builds(
    a_budget, first=st.integers(1, 4), step=st.integers(1, 4), count=st.sampled_from(["paths", "right"]),
    enough=st.integers(1, 5), target=st.sampled_from(["uniform", "difficulty"]), most=st.integers(4, 9),
    most_unsolved=st.integers(1, 12), probe=st.none() | st.integers(1, 3),
)  # fmt: skip


@settings(deadline=None)
@given(BUDGETS, st.lists(st.lists(OUTCOMES, min_size=12, max_size=12), min_size=1, max_size=4), st.booleans())
def test_every_budget_ends_within_its_maxima_and_each_problem_depends_on_itself_alone(budget, luck, mastered):
    names = [f"p{i}" for i in range(len(luck))]
    standing = dict.fromkeys(names, "mastered") if mastered else {}
    said = lambda p, i, o: luck[int(p[1:])][i]  # noqa: E731
    rows, ledger, _ = played(a_plan(names, budget=budget, standing=standing), said)
    for name in names:
        assert 1 <= len(rows[name]) <= budget.most
        alone, _, _ = played(a_plan([name], budget=budget, standing=standing), said)
        assert alone[name] == rows[name]
        stopped_early = len(rows[name]) < min(budget.most, budget.most_unsolved)
        tally = ledger.of(name)
        if stopped_early:
            assert tally.found(budget.count) >= wanted(budget, tally) or (mastered and tally.right == tally.judged)


def test_the_saving_is_told_against_k_of_the_same_problem():
    def sample(name, tokens, origin="policy"):
        return Sample(f"{name}{tokens}", name, 0, 0, 0, "", "stop", tokens, 1.0, "", origin)

    samples = [sample("a", 10), sample("a", 20), sample("b", 7), sample("b", 99, "hinted")]
    assert saving(a_plan(budget=a_budget()), samples) == {"fixed_k_tokens": 176, "tokens_saved": 139}
    assert saving(a_plan(), samples) == {}


def test_a_leg_is_one_source():
    assert legs(a_plan()) == [Leg(Source(8, generation=0))]


def test_paths_are_what_the_verifier_says():
    texts = ["def f():\n    return 1  # one", "def f():\n    return 1"]
    samples = [Sample(str(i), "p", 0, 0, i, text, "stop", 4, 1.0, "", "policy") for i, text in enumerate(texts)]
    verdicts = {str(i): Verdict(str(i), "p", "correct", 1.0, None, "", "", "", "") for i in range(2)}
    for kind, found in ((PathKind.TEXT, 2), (PathKind.CODE, 1)):
        ledger = Ledger(lambda problem_id, kind=kind: kind)
        ledger.enter(samples, verdicts)
        assert (ledger.of("p").found("paths"), ledger.of("p").found("right")) == (found, 2)
