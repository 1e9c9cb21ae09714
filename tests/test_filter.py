"""Filter: nothing is lost, nothing wrong gets through, every drop has its reason."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flywheel.diversity import reasoning_path
from flywheel.filter import REASONS, filter_samples
from flywheel.measures.contamination import HeldOut
from flywheel.recipe import FilterSection
from flywheel.types import Outcome, PathKind, Problem, Sample, Split, Verdict

PROBLEMS = {p: Problem(p, f"What is {p}?", "5") for p in ("p1", "p2", "p3")}


def a_sample(problem="p1", index=0, text="2 + 3 = 5", finish="stop", tokens=5):
    return Sample(f"r000/{problem}/{index:03d}", problem, 0, 0, index, text, finish, tokens, 1.0, "{prompt}", "policy")


def a_verdict(sample, outcome=Outcome.CORRECT, score=1.0):
    return Verdict(sample.id, sample.problem_id, outcome, score, "5", "", "exact", "1", "worker")


def run_filter(samples, section=None, verdicts=None, system=None, **more):
    verdicts = verdicts or {s.id: a_verdict(s) for s in samples}
    return filter_samples(samples, verdicts, PROBLEMS, section or FilterSection(), system=system, **more)


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


def test_an_example_asks_with_the_plain_prompt_and_the_system_turn():
    sample = a_sample()
    (example,), _ = run_filter([sample], system="Be brief.")
    assert example.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is p1?"}]
    assert example.completion == sample.completion


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(PROBLEMS)),
            st.sampled_from(["1+4=5", "2+3=5", "3+2=5", "five"]),
            st.sampled_from(list(Outcome)),
        ),
        max_size=30,
    ),
    st.integers(1, 4),
    st.sampled_from(["path", "text", "none"]),
    st.sampled_from(["first", "shortest", "spread"]),
    st.booleans(),
)
def test_every_sample_is_an_example_or_dropped_and_never_both(rows, cap, dedup, select, always):
    samples = [a_sample(p, i, text) for i, (p, text, _) in enumerate(rows)]
    verdicts = {s.id: a_verdict(s, o) for s, (_, _, o) in zip(samples, rows, strict=True)}
    section = FilterSection(cap=cap, dedup=dedup, select=select, drop_always_right=always)
    examples, dropped = run_filter(samples, section, verdicts)
    assert sorted([e.sample_id for e in examples] + [d.sample_id for d in dropped]) == sorted(s.id for s in samples)
    assert all(verdicts[e.sample_id].outcome == Outcome.CORRECT for e in examples)
    assert all(n <= cap for n in Counter(e.problem_id for e in examples).values())
    assert {d.reason for d in dropped} <= set(REASONS)
    if dedup == "path":
        assert len({(e.problem_id, reasoning_path(e.completion)) for e in examples}) == len(examples)
