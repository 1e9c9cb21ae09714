"""Filter: nothing is lost, nothing wrong gets through, every drop has its reason."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.diversity import reasoning_path
from flywheel.filter import REASONS, filter_samples
from flywheel.measures.contamination import HeldOut
from flywheel.recipe import FilterSection
from flywheel.types import Outcome, PathKind, Problem, Sample, Split, Verdict

PROBLEMS = {p: Problem(p, f"What is {p}?", "5") for p in ("p1", "p2", "p3")}


def a_sample(problem="p1", index=0, text="2 + 3 = 5", finish="stop", tokens=5, origin="policy"):
    return Sample(f"r000/{problem}/{index:03d}", problem, 0, 0, index, text, finish, tokens, 1.0, "{prompt}", origin)


def a_verdict(sample, outcome=Outcome.CORRECT, score=1.0):
    return Verdict(sample.id, sample.problem_id, outcome, score, "5", "", "exact", "1", "worker")


def run_filter(samples, section=None, verdicts=None, **more):
    verdicts = verdicts or {s.id: a_verdict(s) for s in samples}
    return filter_samples(samples, verdicts, PROBLEMS, section or FilterSection(), **{"system": None, **more})


def reasons(dropped):
    return {d.sample_id: d.reason for d in dropped}


def test_one_of_each_path_is_kept():
    samples = [a_sample(index=i, text=t) for i, t in enumerate(["2 + 3 = 5", "So 2+3=5.", "3 + 2 = 5"])]
    examples, dropped = run_filter(samples)
    assert [e.sample_id for e in examples] == [samples[0].id, samples[2].id]
    assert [(d.sample_id, d.reason) for d in dropped] == [(samples[1].id, "duplicate")]


def test_reasons_by_what_is_wrong():
    samples = [
        a_sample(index=i, text=f"{i} + 0 = {i}", finish="length" if i == 4 else "stop", tokens=99 if i == 6 else 5)
        for i in range(7)
    ]
    outcomes = [
        Outcome.WRONG,
        Outcome.NO_ANSWER,
        Outcome.TIMEOUT,
        Outcome.ERROR,
        Outcome.CORRECT,
        Outcome.CORRECT,
        Outcome.CORRECT,
    ]
    verdicts = {s.id: a_verdict(s, o, 0.5 if s.index == 5 else 1.0) for s, o in zip(samples, outcomes, strict=True)}
    examples, dropped = run_filter(samples, FilterSection(max_tokens=50, min_score=1.0), verdicts)
    assert examples == []
    assert [d.reason for d in dropped] == ["wrong", "no_answer", "timeout", "error", "cut_off", "low_score", "too_long"]


def test_a_right_answer_by_wrong_sums_can_be_dropped():
    samples = [
        a_sample(index=0, text="2 + 2 = 5"),
        a_sample(index=1, text="2 + 3 = 5"),
        a_sample(index=2, text="It is 5"),
    ]
    examples, dropped = run_filter(samples, FilterSection(equations=1e-3))
    assert [e.sample_id for e in examples] == [samples[1].id, samples[2].id]
    assert reasons(dropped) == {samples[0].id: "wrong_equation"}
    assert not run_filter(samples)[1]
    assert not run_filter(samples, FilterSection(equations=1e-3, by="none", rows=[3]))[
        1
    ]  # no control asks what is right


def test_the_cap_and_how_the_kept_ones_are_chosen():
    texts = ["1 + 4 = 5", "1 + 4 = 5 = 5", "10 - 5 = 5", "2 + 3 = 5"]
    samples = [a_sample(index=i, text=t, tokens=10 - i) for i, t in enumerate(texts)]
    kept = {
        select: [e.completion for e in run_filter(samples, FilterSection(cap=2, select=select))[0]]
        for select in ("first", "shortest", "spread")
    }
    assert kept["first"] == texts[:2]
    assert kept["shortest"] == texts[2:]
    assert kept["spread"][0] == texts[0] and kept["spread"][1] != texts[1]


def test_the_best_by_score_are_kept_and_of_one_path_the_better_one():
    texts = ["1 + 4 = 5", "so 1 + 4 = 5", "10 - 5 = 5", "2 + 3 = 5"]
    samples = [a_sample(index=i, text=t) for i, t in enumerate(texts)]
    verdicts = {s.id: a_verdict(s, score=score) for s, score in zip(samples, (0.6, 0.9, 0.7, 0.8), strict=True)}
    examples, dropped = run_filter(samples, FilterSection(cap=2, select="best"), verdicts)
    assert [e.completion for e in examples] == [texts[1], texts[3]]
    assert reasons(dropped) == {samples[0].id: "duplicate", samples[2].id: "over_cap"}


def test_of_one_path_the_text_farthest_from_the_other_paths_can_stay():
    said = ["1 + 4 = 5", "2 + 3 = 5", "Look: two and three, 2 + 3 = 5, as was to be shown", "so 2 + 3 = 5"]
    samples = [a_sample(index=i, text=text) for i, text in enumerate(said)]
    samples.append(a_sample(index=4, text="2 + 3 = 5, which is by far the longest way of saying it", origin="hinted"))
    examples, dropped = run_filter(samples, FilterSection(select="farthest", hinted_share=1.0, hinted_markers=0.0))
    assert [e.completion for e in examples] == [said[0], said[2]]
    assert set(reasons(dropped).values()) == {"duplicate"}
    examples, _ = run_filter(samples, FilterSection(hinted_share=1.0, hinted_markers=0.0))
    assert [e.completion for e in examples] == said[:2]


def test_an_example_with_a_held_out_text_is_refused():
    secret = "a farmer near the old mill keeps seventeen brown goats and sells four at market"
    held_out = HeldOut([Problem("d", secret, "13", split=Split.DEV)], share=0.7, template_share=0.05)
    samples = [a_sample(index=0, text=f"I recall: {secret}. 2 + 3 = 5"), a_sample(index=1)]
    examples, dropped = run_filter(samples, held_out=held_out)
    assert [(d.sample_id, d.reason) for d in dropped] == [(samples[0].id, "contaminated")]
    assert [e.sample_id for e in examples] == [samples[1].id]


def test_the_kind_of_path_decides_what_is_a_duplicate():
    programs = ["def f(a):\n    return a + 2 == 5", "def f(b):  # the same\n    return b + 2 == 5"]
    samples = [a_sample(index=i, text=t) for i, t in enumerate(programs)]
    kept = {kind: len(run_filter(samples, kinds={"p1": kind})[0]) for kind in PathKind}
    assert kept == {PathKind.EQUATIONS: 2, PathKind.TEXT: 2, PathKind.CODE: 1}


def test_problems_that_are_always_right_can_be_left_out():
    samples = [a_sample("p1", i, f"{i} + 0 = {i}") for i in range(2)] + [
        a_sample("p2", i, f"{i} + 0 = {i}") for i in range(2)
    ]
    verdicts = {s.id: a_verdict(s) for s in samples}
    verdicts[samples[0].id] = a_verdict(samples[0], Outcome.WRONG)
    examples, dropped = run_filter(samples, FilterSection(drop_always_right=True), verdicts)
    assert {e.problem_id for e in examples} == {"p1"}
    assert Counter(d.reason for d in dropped) == {"wrong": 1, "always_right": 2}


def test_what_could_not_be_judged_makes_no_problem_hard():
    samples = [a_sample("p1", i, f"{i} + 0 = {i}") for i in range(3)] + [a_sample("p2", 0)]
    verdicts = {s.id: a_verdict(s) for s in samples}
    for sample in (samples[2], samples[3]):
        verdicts[sample.id] = a_verdict(sample, Outcome.ERROR)
    _, dropped = run_filter(samples, FilterSection(drop_always_right=True), verdicts)
    assert Counter(d.reason for d in dropped) == {"always_right": 2, "error": 2}


def test_what_the_engine_gave_up_is_no_example_whoever_asks():
    samples = [a_sample(index=0), a_sample(index=1, text="", finish="error")]
    for section in (FilterSection(), FilterSection(by="none", rows=[2])):
        assert reasons(run_filter(samples, section)[1]) == {samples[1].id: "cut_off"}


def test_an_example_asks_with_the_plain_prompt_and_the_system_turn():
    sample = a_sample()
    (example,), _ = run_filter([sample], system="Be brief.")
    assert example.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is p1?"}]
    assert example.completion == sample.completion


def test_hinted_samples_give_way_to_unguided_ones():
    samples = [
        a_sample(index=0, text="2 + 3 = 5", origin="hinted"),
        a_sample(index=1, text="So 2+3=5"),  # the same path
        a_sample(index=2, text="1 + 4 = 5", origin="hinted"),
        a_sample(index=3, text="9 - 4 = 5"),
    ]
    section = FilterSection(cap=2, hinted_share=1.0)
    examples, dropped = run_filter(samples, section)
    assert [e.sample_id for e in examples] == [samples[1].id, samples[3].id]
    assert reasons(dropped) == {samples[0].id: "duplicate", samples[2].id: "over_cap"}


def test_hinted_samples_are_held_to_their_share_and_to_the_doubt_of_the_unguided():
    asked = [a_sample("p1", 0, "Wait, maybe it is 6", tokens=10), a_sample("p2", 0, "2 + 3 = 5")]
    guided = [a_sample("p1", 1, "1 + 4 = 5", origin="hinted"), a_sample("p1", 2, "hmm, 9 - 4 = 5", origin="hinted")]
    verdicts = {s.id: a_verdict(s) for s in [*asked, *guided]}
    verdicts[asked[0].id] = a_verdict(asked[0], Outcome.WRONG)
    examples, dropped = run_filter([*asked, *guided], FilterSection(hinted_share=0.5), verdicts)
    assert [e.sample_id for e in examples] == [asked[1].id, guided[1].id]
    assert reasons(dropped) == {asked[0].id: "wrong", guided[0].id: "few_markers"}
    examples, dropped = run_filter([*asked, *guided], FilterSection(hinted_share=0.4), verdicts)
    assert reasons(dropped)[guided[1].id] == "over_hinted_share"
    examples, _ = run_filter([*asked, *guided], FilterSection(hinted_share=1.0, hinted_markers=0.0), verdicts)
    assert len(examples) == 3


def test_a_problem_is_always_right_by_its_unguided_samples():
    samples = [a_sample(index=0), a_sample(index=1, text="1 + 4 = 5", origin="hinted")]
    verdicts = {s.id: a_verdict(s) for s in samples}
    verdicts[samples[1].id] = a_verdict(samples[1], Outcome.WRONG)
    _, dropped = run_filter(samples, FilterSection(drop_always_right=True), verdicts)
    assert reasons(dropped) == {samples[0].id: "always_right", samples[1].id: "wrong"}


def test_hard_problems_weigh_more_and_errors_and_hints_are_no_evidence():
    samples = [a_sample("p1", i, f"{i} + 0 = {i}") for i in range(4)] + [
        a_sample("p2", i, f"{i} + 0 = {i}", origin="hinted" if i == 4 else "policy") for i in range(5)
    ]
    verdicts = {s.id: a_verdict(s) for s in samples}
    for sample in samples[5:7]:
        verdicts[sample.id] = a_verdict(sample, Outcome.WRONG)
    verdicts[samples[7].id] = a_verdict(samples[7], Outcome.ERROR)
    weights = {
        power: {e.problem_id: e.weight for e in run_filter(samples, FilterSection(difficulty=power), verdicts)[0]}
        for power in (0.0, 1.0, 2.0)
    }
    assert weights[0.0] == {"p1": 1.0, "p2": 1.0}
    assert weights[1.0] == pytest.approx({"p1": 1 - 5 / 6, "p2": 1 - 2 / 5})  # 4 of 4, and 1 of 3
    assert weights[2.0]["p1"] == pytest.approx(weights[1.0]["p1"] ** 2)


def test_what_does_not_fit_the_student_goes_and_scores_are_kept():
    samples = [a_sample(index=i, text=f"{i} + 0 = {i}") for i in range(6)]
    scores = {samples[i].id: v for i, v in enumerate([0.1, 0.5, 0.9, 1.2, None])}
    asked = []

    def score(examples):
        asked.extend(e.sample_id for e in examples)
        return [scores[e.sample_id] for e in examples]

    fit = {"low": 0.2, "high": 1.0, "keep": 0.5}
    section = FilterSection.model_validate({"cap": 5, "select": "first", "fit": fit})
    examples, dropped = run_filter(samples, section, score=score)
    assert asked == [s.id for s in samples[:5]]  # what is over the cap costs no forward pass
    assert {e.sample_id: e.fit for e in examples} == {samples[2].id: 0.9, samples[4].id: None}
    assert {d.sample_id: (d.reason, d.fit) for d in dropped} == {
        samples[0].id: ("too_easy", 0.1),
        samples[1].id: ("too_easy", 0.5),
        samples[3].id: ("misfit", 1.2),
        samples[5].id: ("over_cap", None),
    }


def test_the_student_is_asked_about_the_named_origins_only():
    samples = [a_sample(index=0), a_sample(index=1, text="1 + 4 = 5", origin="hinted")]
    section = FilterSection.model_validate({"hinted_share": 1.0, "fit": {"origins": ["hinted"]}})
    examples, dropped = run_filter(samples, section, score=lambda rows: [2.0 for _ in rows])
    assert [e.sample_id for e in examples] == [samples[0].id]
    assert [d.reason for d in dropped] == ["misfit"]


def a_round(count=40):
    """Samples of three problems, every fourth of them right, one cut off."""
    names = sorted(PROBLEMS)
    samples = [a_sample(names[i % 3], i, f"{i} + 1 = {i + 1}", "length" if i == 5 else "stop") for i in range(count)]
    verdicts = {s.id: a_verdict(s, Outcome.CORRECT if i % 4 == 0 else Outcome.WRONG) for i, s in enumerate(samples)}
    return samples, verdicts


@pytest.mark.parametrize("by", ["none", "random"])
def test_controls_take_as_many_without_asking_for_correctness(by):
    samples, verdicts = a_round()
    real, _ = run_filter(samples, FilterSection(), verdicts)
    examples, dropped = run_filter(samples, FilterSection(by=by, difficulty=2.0), verdicts, seed=1)
    assert len(examples) == len(real)
    assert any(verdicts[e.sample_id].outcome == Outcome.WRONG for e in examples)
    assert {e.weight for e in examples} == {1.0}
    assert set(reasons(dropped).values()) <= {"not_drawn", "over_cap", "cut_off"}
    assert examples == run_filter(samples, FilterSection(by=by, difficulty=2.0), verdicts, seed=1)[0]
    assert examples != run_filter(samples, FilterSection(by=by, difficulty=2.0), verdicts, seed=2)[0]
    told, _ = run_filter(samples, FilterSection(by=by, rows=[7, 3]), verdicts)
    assert len(told) == 7


def test_the_control_without_a_verifier_keeps_all_other_rules_and_the_random_one_none():
    samples, verdicts = a_round()
    same = [a_sample("p1", 90 + i, "2 + 3 = 5", "length" if i else "stop") for i in range(3)]
    verdicts |= {s.id: a_verdict(s, Outcome.WRONG) for s in same}
    rows = [len(samples) + len(same)]  # more than there are: all that the rules leave
    unjudged, dropped = run_filter([*samples, *same], FilterSection(by="none", cap=100, rows=rows), verdicts)
    assert len(unjudged) == len(samples) - 1 + 1
    assert set(reasons(dropped).values()) == {"cut_off"}
    drawn, dropped = run_filter([*samples, *same], FilterSection(by="random", cap=1, rows=rows), verdicts)
    assert (len(drawn), dropped) == (len(samples) + 3, [])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(PROBLEMS)),
            st.sampled_from(["1+4=5", "2+3=5", "3+2=5", "five"]),
            st.sampled_from(list(Outcome)),
            st.sampled_from(["policy", "hinted"]),
        ),
        max_size=30,
    ),
    st.integers(1, 4),
    st.sampled_from(["path", "text", "none"]),
    st.sampled_from(["first", "shortest", "spread", "farthest"]),
    st.booleans(),
    st.sampled_from(["verdict", "none", "random"]),
)
def test_every_sample_is_an_example_or_dropped_and_never_both(rows, cap, dedup, select, always, by):
    samples = [a_sample(p, i, text, origin=origin) for i, (p, text, _, origin) in enumerate(rows)]
    verdicts = {s.id: a_verdict(s, o) for s, (_, _, o, _) in zip(samples, rows, strict=True)}
    section = FilterSection(cap=cap, dedup=dedup, select=select, drop_always_right=always, by=by)
    examples, dropped = run_filter(samples, section, verdicts)
    assert sorted([e.sample_id for e in examples] + [d.sample_id for d in dropped]) == sorted(s.id for s in samples)
    assert {d.reason for d in dropped} <= set(REASONS)
    if by == "random":
        return
    assert by != "verdict" or all(verdicts[e.sample_id].outcome == Outcome.CORRECT for e in examples)
    assert all(n <= cap for n in Counter(e.problem_id for e in examples).values())
    if by == "verdict":
        assert sum(e.origin == "hinted" for e in examples) <= section.hinted_share * len(examples)
    if dedup == "path":
        assert len({(e.problem_id, reasoning_path(e.completion)) for e in examples}) == len(examples)
