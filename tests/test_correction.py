"""Self-correction: the policy's own wrong answers of the round are asked again; what is learnt is the second turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel import store
from flywheel.errors import RecipeError
from flywheel.evaluate import measure_round
from flywheel.filter import filter_samples
from flywheel.guided import is_corrected
from flywheel.loop import spin
from flywheel.mix import training_set
from flywheel.plan_types import Correction, Plan, Source
from flywheel.prompts import second_attempt
from flywheel.recipe import EvaluateSection, FilterSection, load_recipe
from flywheel.run import Run
from flywheel.types import Example, Origin, Outcome, Problem, Sample, Verdict
from flywheel.waves import Ledger, legs, needs_verdicts, next_wave

TOY = [
    *["policy.name=toy", "train.backend=toy", "model.base=toy", "policy.toy.skill=0.4", "verify.workers=1"],
    *["problems.count=30", "problems.dev=6", "problems.test=0", "evaluate.samples=2", "evaluate.resamples=100"],
    *["sampling.chunk_problems=4", "stop.max_rounds=1", 'correction.template="{prompt} Check it."'],
]
PROBLEM = Problem("p", "What is 2 + 3?", "5")


def a_plan(k: int, sources: list[Source]) -> Plan:
    return Plan(
        "round", 0, 0, ["p"], 8, 1.0, 1.0, 0, 9, [], ["{prompt}"], sources=sources, correction=Correction(k, "Again.")
    )


def a_sample(index: int, text: str, origin: str = Origin.POLICY, finish: str = "stop") -> Sample:
    follows = "r000/p/000" if origin == Origin.CORRECTED else None
    return Sample(f"r000/p/{index:03d}", "p", 0, 0, index, text, finish, 5, 1.0, "", origin, follows=follows)


def verdicts_of(samples: list[Sample], outcomes: list[str]) -> dict[str, Verdict]:
    return {
        s.id: Verdict(s.id, "p", o, float(o == "correct"), None, "", "", "", "")
        for s, o in zip(samples, outcomes, strict=True)
    }


@given(
    st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.integers(1, 5),
    st.randoms(),
)
def test_the_policys_own_wrong_attempts_that_ended_are_asked_again_in_their_order(outcomes, ended, k, chance):
    sources = [Source(len(outcomes), generation=2), Source(2, Origin.TEACHER, extra=0, model="big")]
    plan, ledger = a_plan(k, sources), Ledger()
    own, teachers, second = legs(plan)
    assert second.second and second.source == sources[0] and needs_verdicts(plan, second, begun=False)
    rows = [a_sample(i, "x", finish="stop" if ended[i] else "length") for i in range(len(outcomes))] + [
        a_sample(len(outcomes) + i, "x", Origin.TEACHER) for i in range(2)
    ]
    judged = verdicts_of(rows, [*outcomes, "wrong", "wrong"])
    for leg in (own, teachers):
        ledger.ask(next_wave(plan, leg, ["p"], ledger, begun=False))
    chance.shuffle(rows)  # verdicts arrive in any order
    ledger.enter(rows, judged)
    wrong = [i for i, o in enumerate(outcomes) if o in ("wrong", "no_answer") and ended[i]]
    wave = next_wave(plan, second, ["p"], ledger, begun=False)
    if not wrong:
        assert wave is None
        return
    assert wave.follows == {"p": wrong[:k]}
    assert wave.asked == [("p", len(outcomes) + 2, len(outcomes) + 2 + len(wrong[:k]))]
    ledger.ask(wave)
    assert next_wave(plan, second, ["p"], ledger, begun=True) is None


def test_a_right_second_attempt_is_learnt_behind_the_wrong_first_one_and_counts_by_itself():
    samples = [a_sample(0, "It is 6."), a_sample(1, "It is 5."), a_sample(2, "It is 5.", Origin.CORRECTED)]
    samples += [a_sample(3, "It is 5.", Origin.CORRECTED), a_sample(4, "It is 7.", Origin.CORRECTED)]
    judged = verdicts_of(samples, ["wrong", "correct", "correct", "correct", "wrong"])
    examples, dropped = filter_samples(
        samples, judged, {"p": PROBLEM}, FilterSection(corrected_share=0.5), system="S", correction="Again. {prompt}"
    )
    assert [e.sample_id[-3:] for e in examples] == ["001", "002"]
    assert {d.sample_id[-3:]: d.reason for d in dropped} == {"000": "wrong", "003": "duplicate", "004": "wrong"}
    assert [(m["role"], m["content"]) for m in examples[1].messages] == [
        ("system", "S"),
        ("user", PROBLEM.prompt),
        ("assistant", "It is 6."),
        ("user", f"Again. {PROBLEM.prompt}"),
    ]
    assert examples[1].messages == second_attempt(PROBLEM, "S", "It is 6.", "Again. {prompt}")
    assert examples[1].completion == "It is 5." and examples[1].origin == "corrected"
    # Both rows stand in the training set, though they take one path: they answer different prompts.
    recipe = load_recipe("self_correction", ["filter.corrected_share=0.5"])
    assert len(training_set(recipe, 0, {0: examples}, [PROBLEM])) == 2
    metrics = measure_round(samples, judged, EvaluateSection(), seed=0)
    assert (metrics["n_samples"], metrics["correct"]) == (2, 1)
    assert (metrics["corrected"]["n_samples"], metrics["corrected"]["correct"]) == (3, 2)


@given(st.integers(0, 12), st.integers(0, 12), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_second_attempts_keep_to_their_share(first, second, share):
    problems = {f"p{i}": Problem(f"p{i}", f"{i}?", "5") for i in range(max(first, second) + 1)}
    samples, outcomes = [], []
    for i in range(first):
        samples.append(Sample(f"r000/p{i}/001", f"p{i}", 0, 0, 1, "5", "stop", 5, 1.0, "", "policy"))
        outcomes.append("correct")
    for i in range(second):
        samples.append(Sample(f"r000/p{i}/000", f"p{i}", 0, 0, 0, "6", "stop", 5, 1.0, "", "policy"))
        last = Sample(f"r000/p{i}/002", f"p{i}", 0, 0, 2, "5", "stop", 5, 1.0, "", "corrected", follows=samples[-1].id)
        samples.append(last)
        outcomes += ["wrong", "correct"]
    judged = {
        s.id: Verdict(s.id, s.problem_id, o, 1.0, None, "", "", "", "") for s, o in zip(samples, outcomes, strict=True)
    }
    examples, dropped = filter_samples(
        samples, judged, problems, FilterSection(corrected_share=share), system=None, correction="Again."
    )
    corrected = sum(map(is_corrected, examples))
    assert corrected <= share * len(examples) + 1e-9
    assert corrected == second or share < 1.0
    assert len(examples) + len(dropped) == len(samples)
    assert {d.reason for d in dropped} <= {"wrong", "over_corrected_share"}


def test_a_run_asks_again_what_this_round_got_wrong_and_a_killed_one_goes_on_to_the_same(tmp_path):
    recipe = load_recipe("self_correction", [*TOY, "filter.corrected_share=1.0"])

    def rows(name: str, parts: int = 0) -> tuple[list[Sample], list[Verdict], list[Example], dict]:
        with Run.open(recipe, tmp_path / name) as run:
            if parts:
                stop_after(run, parts)
                with pytest.raises(KeyboardInterrupt):
                    spin(run)
        with Run.open(recipe, tmp_path / name) as run:
            spin(run)
            folder, info = run.round(0).folder, run.round(0).manifest.entries()["verify"].info
        read = [("samples", Sample), ("verdicts", Verdict), ("examples", Example)]
        return *(store.read_rows(folder / f"{name}.parquet", kind) for name, kind in read), info  # type: ignore[return-value]

    samples, verdicts, examples, info = rows("whole")
    outcome = {v.sample_id: v.outcome for v in verdicts}
    by_id = {s.id: s for s in samples}
    second = [s for s in samples if s.origin == "corrected"]
    for s in second:
        first = by_id[s.follows]
        assert (first.problem_id, first.origin, first.round) == (s.problem_id, "policy", s.round)
        assert outcome[first.id] == "wrong"
    wrong = {p: sum(s.problem_id == p and s.origin == "policy" and outcome[s.id] == "wrong" for s in samples)
             for p in {s.problem_id for s in samples}}  # fmt: skip
    assert len(second) == sum(min(2, n) for n in wrong.values()) == info["second_attempts"] > 0
    assert info["put_right"] == sum(outcome[s.id] == "correct" for s in second) > 0
    learnt = [e for e in examples if e.origin == "corrected"]
    assert learnt and all(e.messages[1]["content"] == by_id[by_id[e.sample_id].follows].completion for e in learnt)
    assert all(len(e.messages) == (3 if e.origin == "corrected" else 1) for e in examples)
    assert rows("broken", parts=4) == (samples, verdicts, examples, info)


def stop_after(run: Run, parts: int) -> None:
    """Interrupt the run once so many pieces of a round's samples are there."""

    def watch(label: str, done: int, total: int, unit: str) -> None:
        if "sample" in label and len(list(run.directory.glob("rounds/000/samples.parts/*.parquet"))) >= parts:
            raise KeyboardInterrupt

    run.reporter.progress = watch  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["filter.corrected_share=0"], ["correction.k = 2", "filter.corrected_share"]),
        (["hints.k=2"], ["correction.k = 2", "hints.k = 2"]),
        (["filter.by=random"], ["correction.k = 2", "filter.by = 'random'"]),
        (["train.objective=grpo", "sampling.k=8"], ["leave correction.k out"]),
    ],
)
def test_what_cannot_work_is_refused(overrides, words):
    with pytest.raises(RecipeError) as refusal:
        load_recipe("self_correction", overrides)
    for word in words:
        assert word in str(refusal.value)


def test_a_verifier_that_votes_cannot_say_what_was_wrong_in_time(tmp_path):
    with pytest.raises(RecipeError, match=r"correction\.k decides from single verdicts"):
        Run.open(
            load_recipe("self_correction", [*TOY, "verify.verifier=majority", "verify.options={}"]), tmp_path / "r"
        )
