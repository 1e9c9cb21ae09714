"""Gate: what is worse or narrower does not get through, whatever its pass@1, and what was not measured stops nobody."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.gate import MIN_PROBLEMS, decide, path_variety
from flywheel.measures.passk import pass_at_k
from flywheel.recipe import EvaluateSection, GateSection

EVALUATE = EvaluateSection(samples=8, resamples=1000)


def measured(counts, *, variety=0.75, density=0.5, cut_off=0.0, missing_end=0.0, **more):
    """A set's metrics as EVALUATE writes them; `variety` is the chance that two right answers differ in path."""
    n = sum(judged for judged, _ in counts.values())
    return {
        "n_samples": n,
        "tokens": n * 20,
        "counts": {p: list(pair) for p, pair in counts.items()},
        "pass_at": {str(k): mean([pass_at_k(*c, k) for c in counts.values() if c[0] >= k] or [0]) for k in (1, 8)},
        "rarefied": {p: 1.0 + variety for p, (_, right) in counts.items() if right > 1},
        "rarefied_at": 2,
        "markers": {"density": density},
        "cut_off_share": cut_off,
        "missing_end_share": missing_end,
        **more,
    }


def even(share, problems=100, n=8):
    """Every problem right in about this share of its samples."""
    return {f"p{i}": (n, round(share * n)) for i in range(problems)}


def narrow(share, problems=100, n=8):
    """A share of the problems always right, the others never."""
    return {f"p{i}": (n, n if i < share * problems else 0) for i in range(problems)}


def dev(counts, **figures):
    return {"dev": measured(counts, **figures), "ood": {}}


def gate(candidate, champion, base, **settings):
    return decide(candidate, champion, base, gate=GateSection(**settings), evaluate=EVALUATE, seed=0)


def failed(decision):
    return [c.line for c in decision.checks if c.passed is False]


def unjudged(decision):
    return {c.line: c.note for c in decision.checks if c.passed is None}


GOOD, OLD = even(0.5), even(0.25)


def test_better_and_as_broad_is_accepted_and_says_all_it_checked():
    decision = gate(dev(GOOD), dev(OLD), dev(OLD))
    assert decision.accepted
    assert decision.reasons == [c.words for c in decision.checks]
    assert [c.line for c in decision.checks] == ["pass_1", "pass_k", "paths", "markers", "cut_off", "missing_end"]


def test_worse_is_rejected_and_says_by_how_much():
    decision = gate(dev(OLD), dev(GOOD), dev(OLD))
    assert not decision.accepted
    [reason] = decision.reasons
    assert reason == (
        "dev pass@1 against the champion: -0.250 [-0.250, -0.250] (0.500 → 0.250), allowed to fall by 0.000: "
        "worse beyond the interval"
    )


def test_better_but_solving_fewer_problems_is_rejected():
    assert failed(gate(dev(narrow(0.5)), dev(OLD), dev(OLD))) == ["pass_k"]


def test_better_but_always_in_the_same_words_is_rejected():
    decision = gate(dev(GOOD, variety=0.1), dev(OLD), dev(OLD, variety=0.75))
    assert failed(decision) == ["paths"]
    [reason] = decision.reasons
    assert reason == (
        "variety of right paths on dev against the base: 0.133 times [0.133, 0.133] (0.750 → 0.100), "
        "at least 0.7 times: worse beyond the interval"
    )


def test_being_right_more_often_in_as_many_ways_is_not_narrower():
    """0.65 against 0.77 is the demo's third good round."""
    assert gate(dev(GOOD, variety=0.65), dev(OLD), dev(OLD, variety=0.77)).accepted


def test_a_fall_within_the_noise_is_accepted():
    champion = {f"p{i}": (8, i % 3) for i in range(30)}
    candidate = {f"p{i}": (8, (i + 1) % 3 if i else 0) for i in range(30)}
    assert gate(dev(candidate), dev(champion), dev(champion)).accepted


def test_lost_hedging_is_rejected_where_the_base_hedges():
    """Twenty tokens a completion: 60 markers per 1,000 tokens are 1.2 a completion, 2 are .04."""
    assert failed(gate(dev(GOOD, density=20.0), dev(OLD), dev(OLD, density=60.0))) == ["markers"]
    decision = gate(dev(GOOD, density=0.1), dev(OLD), dev(OLD, density=2.0))
    assert decision.accepted
    assert "the base has 0.04 a completion" in unjudged(decision)["markers"]


def test_an_ood_set_that_falls_is_rejected_unless_the_margin_allows_it():
    good, fallen = {**dev(GOOD), "ood": {"far": measured(GOOD)}}, {**dev(GOOD), "ood": {"far": measured(OLD)}}
    decision = gate(fallen, good, good)
    assert [c.what for c in decision.checks if c.passed is False] == ["far pass@1"]
    assert gate(fallen, good, good, ood_margin=0.3).accepted


@pytest.mark.parametrize(("key", "line"), [("cut_off", "cut_off"), ("missing_end", "missing_end")])
def test_answers_without_an_end_are_rejected(key, line):
    assert failed(gate(dev(GOOD, **{key: 0.2}), dev(OLD), dev(OLD))) == [line]
    assert gate(dev(GOOD, **{key: 0.055}), dev(OLD), dev(OLD)).accepted, "5 % lie within the interval of 5.5 %"


def test_a_token_limit_too_short_for_the_base_is_no_fault_of_the_candidate():
    assert gate(dev(GOOD, cut_off=0.3), dev(OLD), dev(OLD, cut_off=0.37)).accepted
    assert failed(gate(dev(GOOD, cut_off=0.5), dev(OLD), dev(OLD, cut_off=0.37))) == ["cut_off"]


@pytest.mark.parametrize("missing", ["rarefied", "markers", "cut_off_share", "missing_end_share"])
def test_what_was_not_measured_is_not_judged(missing):
    candidate = dev(GOOD)
    candidate["dev"][missing] = None
    decision = gate(candidate, dev(OLD), dev(OLD))
    assert decision.accepted
    assert len(unjudged(decision)) == (1 if missing == "markers" else 2), "the base of these tests has few markers"


def test_pass_k_that_errors_leave_unjudged_rejects_nobody_and_pass_1_does():
    torn = {f"p{i}": (7, 4) for i in range(20)}  # one verifier error a problem
    decision = gate(dev(torn), dev(torn), dev(torn))
    assert decision.accepted
    assert unjudged(decision)["pass_k"] == "no problem has 8 judged completions from both generations"
    nobody = dev(torn)
    nobody["dev"]["counts"] = {}
    decision = gate(nobody, dev(torn), dev(torn))
    assert not decision.accepted
    assert decision.reasons == ["dev pass@1: not judged, no problem has 1 judged completions from both generations"]


def test_few_solved_problems_say_nothing_about_paths():
    few = {f"p{i}": (8, 2 if i < MIN_PROBLEMS - 1 else 0) for i in range(30)}
    decision = gate(dev(few, variety=0.0), dev(few), dev(few))
    assert decision.accepted
    assert unjudged(decision)["paths"].startswith("7 problems have enough right answers of the candidate and 7")


@pytest.mark.parametrize("line", ["pass_1", "pass_k", "paths", "markers", "cut_off", "missing_end"])
def test_each_line_can_be_switched_off(line):
    bad = dev(narrow(0.1), variety=0.0, density=0.0, cut_off=0.9, missing_end=0.9)
    before = dev(GOOD, density=60.0)
    assert set(failed(gate(bad, before, before))) == set(GateSection().lines) - {"ood"}
    assert line not in failed(gate(bad, before, before, lines=[name for name in GateSection().lines if name != line]))
    assert failed(gate(bad, before, before, lines=[line])) == [line]


def test_the_gate_can_be_off_and_still_says_what_it_would_have_done():
    decision = gate(dev(even(0.0)), dev(even(1.0)), dev(even(1.0)), enabled=False)
    assert decision.accepted
    assert "it would have rejected this one: dev pass@1 against the champion: -1.000" in decision.reasons[0]


shares = st.floats(0, 1)
sets = st.builds(
    measured,
    st.lists(st.integers(0, 8), min_size=1, max_size=20).map(lambda c: {f"p{i}": (8, n) for i, n in enumerate(c)}),
    variety=shares,
    density=st.floats(0, 100),
    cut_off=shares,
    missing_end=shares,
)


@given(sets, sets)
def test_any_metrics_give_a_decision_that_json_can_carry(candidate, base):
    for side in (candidate, base):  # the same problems are asked of both
        side["counts"] = {f"p{i}": side["counts"].get(f"p{i}", [8, 0]) for i in range(20)}
    evaluate = EvaluateSection(samples=8, resamples=100)
    old = {"dev": base, "ood": {}}
    decision = decide({"dev": candidate, "ood": {}}, old, old, gate=GateSection(), evaluate=evaluate, seed=0)
    json.dumps(asdict(decision), allow_nan=False)
    assert decision.accepted == (not failed(decision))


def test_variety_is_the_share_of_further_paths():
    assert path_variety({"rarefied": {"a": 1.0, "b": 2.5, "c": 4.0}, "rarefied_at": 4}) == {
        "a": 0.0,
        "b": 0.5,
        "c": 1.0,
    }
    assert path_variety({}) is None
