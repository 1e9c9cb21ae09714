"""The methods as recipes: what defines each of them holds, and none asks more often than the others."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from flywheel import plugins, store
from flywheel.filter import filter_samples
from flywheel.forecast import Assumptions, Problems, forecast
from flywheel.loop import spin
from flywheel.mix import rounds_kept, training_set
from flywheel.pairs import Judged, preference_pairs
from flywheel.plan import plan_round, plan_sweep
from flywheel.recipe import Recipe, load_recipe, shipped_recipes
from flywheel.run import Run
from flywheel.sweep import balance_table
from flywheel.types import Example, Outcome, Problem, Sample, Verdict
from flywheel.waves import Ledger, legs, next_wave

ROOT = Path(__file__).resolve().parents[1]
METHODS = ["rft", "rest_em", "star", "raft", "bstar", "dart", "dart_difficulty", "self_consistency", "self_correction"]
OTHERS = ["teacher_labels", "grpo", "self_edit", "self_play", "self_judge"]
OTHERS += ["llama3", "r1_distill", "privileged", "proof_flywheel", "addition"]
PROBLEMS = {p: Problem(p, f"What is {p}?", "5") for p in ("p", "q", "r")}
TOY = [
    *["policy.name=toy", "train.backend=toy", "model.base=toy", "policy.toy.skill=0.4", "verify.workers=1"],
    *["problems.count=30", "problems.dev=6", "problems.test=0", "evaluate.samples=2", "evaluate.resamples=100"],
]


def sampled(*said: tuple[str, str, bool]) -> tuple[list[Sample], dict[str, Verdict]]:
    """Samples and their verdicts from (problem, text, whether it is right)."""
    samples = [
        Sample(f"r000/{p}/{i:03d}", p, 0, 0, i, text, "stop", 9, 1.0, "{prompt}", "policy")
        for i, (p, text, _) in enumerate(said)
    ]
    outcomes = [Outcome.CORRECT if right else Outcome.WRONG for *_, right in said]
    verdicts = {
        s.id: Verdict(s.id, s.problem_id, o, float(o == Outcome.CORRECT), "5", "", "math", "1", "worker")
        for s, o in zip(samples, outcomes, strict=True)
    }
    return samples, verdicts


def kept(recipe: Recipe, *said: tuple[str, str, bool]) -> list[str]:
    """The completions that are trained on, in the order of the samples."""
    samples, verdicts = sampled(*said)
    examples, _ = filter_samples(samples, verdicts, PROBLEMS, recipe.filter, system=None)
    rows = training_set(recipe, 0, {0: examples}, list(PROBLEMS.values()))
    return [e.completion for e in sorted(rows, key=lambda e: e.sample_id.rpartition("/")[2])]


# -- all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*METHODS, "grpo"])
def test_no_method_asks_more_often_than_the_others(name):
    """At most 24 completions a problem of the demo's 180, hints and searches included."""
    recipe = load_recipe(name)
    found = forecast(recipe, Problems(train=180, dev=80, test=150), Assumptions())
    asked = found.total("completions").most + found.total("hinted").most + sum(r.swept for r in found.rounds)
    left = recipe.train.grpo.batch_size if recipe.train.objective == "grpo" else 16  # what does not fill a last step
    assert 24 * 180 - left * len(found.rounds) <= asked <= 24 * 180
    assert recipe.stop.target_pass_1 == 1.0


@pytest.mark.parametrize("name", [*METHODS, *OTHERS])
def test_each_has_its_page_and_its_settings_for_a_gpu(name):
    method = name.removesuffix("_difficulty")
    assert f"{method}_gpu" in shipped_recipes()
    page = (ROOT / f"docs/recipes/{method}.md").read_text()
    assert f"`{name}`" in page and f"{method}_gpu" in page
    header = shipped_recipes()[name].read_text().partition("\nextends")[0]
    assert re.search(r"arXiv:\d{4}\.\d{5}|doi:10\.", header) and "differs" in header + page


# -- one by one ------------------------------------------------------------------------------------


def test_rft_keeps_every_right_path_whose_equations_hold_in_one_round_from_the_base():
    recipe = load_recipe("rft")
    many = [("p", f"{n} + {5 - n} = 5", True) for n in range(-20, 3)]
    assert len(kept(recipe, *many)) == 23  # every path: there is no cap to speak of
    said = [("p", "2 + 3 = 5", True), ("p", "So 2+3=5.", True), ("p", "2 + 2 = 5", True), ("p", "1 + 3 = 4", False)]
    assert kept(recipe, *said) == ["2 + 3 = 5"]
    assert (recipe.stop.max_rounds, recipe.train.start_from) == (1, "base")


def test_rest_em_trains_the_base_on_this_rounds_examples_alone():
    recipe = load_recipe("rest_em")
    assert [list(rounds_kept(recipe, r)) for r in range(3)] == [[0], [1], [2]]
    assert recipe.train.start_from == "base"
    assert kept(recipe, *[("p", f"answer {n}: 5", True) for n in range(9)]) == [f"answer {n}: 5" for n in range(3)]
    assert len(kept(recipe, ("p", "2 + 3 = 5", True), ("p", "We see: 2 + 3 = 5", True))) == 2  # texts, not paths
    assert plan_round(recipe, 0, 0, list(PROBLEMS.values())).top_k == 40


def test_raft_leaves_out_what_is_always_or_never_right_and_takes_all_of_the_rest():
    recipe = load_recipe("raft")
    said = [("p", "5", True), ("p", "5", True), ("q", "4", False), ("q", "4", False)]
    said += [("r", "5", True), ("r", "5", True), ("r", "4", False)]
    assert kept(recipe, *said) == ["5", "5"]  # r's, the same text twice
    assert recipe.train.start_from == "previous"


def test_bstar_samples_at_the_temperature_with_the_best_balance():
    recipe = load_recipe("bstar")
    problems = [Problem(f"p{i}", f"What is {i}?", "5") for i in range(20)]
    plan = plan_sweep(recipe, 0, 0, problems)
    assert (len(plan.problems), plan.k, plan.temperatures) == (11, 16, [0.6, 0.8, 1.0, 1.2])
    # Cool: always right by one path. Hot: two of four right, by two paths. At .8: four paths, all right.
    right = {0.6: ["2 + 3 = 5"] * 4, 0.8: [f"{n} + {5 - n} = 5" for n in range(1, 5)], 1.2: ["1 + 4 = 5", "9 - 4 = 5"]}
    rows, verdicts = [], {}
    for temperature in plan.temperatures:
        for i in range(4):
            texts = right.get(temperature, [])
            text, outcome = (texts[i], Outcome.CORRECT) if i < len(texts) else ("?", Outcome.WRONG)
            row = Sample(f"{temperature}/{i}", "p0", 0, 0, i, text, "stop", 9, temperature, "", "policy")
            rows.append(row)
            verdicts[row.id] = Verdict(row.id, "p0", outcome, 1.0, None, "", "", "", "")
    table = balance_table(rows, verdicts, wanted=recipe.sampling.sweep.wanted, min_scores=[0.0])
    assert {row["temperature"]: row["balance"] for row in table} == {0.6: 0.25 * 0.25, 0.8: 1.0, 1.0: 0.0, 1.2: 0.5}
    assert plan_round(recipe, 0, 0, problems, sweep=table).temperature == 0.8


def trials(recipe: Recipe, right_every: dict[str, int]) -> dict[str, int]:
    """How often each problem is asked where every n-th completion is right (0: none)."""
    plan, ledger = plan_round(recipe, 0, 0, list(PROBLEMS.values())), Ledger()
    begun = False
    while wave := next_wave(plan, legs(plan)[0], plan.problems, ledger, begun=begun):
        begun = True
        ledger.ask(wave)
        for p, first, end in wave.asked:
            n = right_every[p]
            said = [(p, f"{i} + 0 = {i}", bool(n) and i % n == n - 1) for i in range(first, end)]
            ledger.enter(*sampled(*said))
    return {p: ledger.of(p).asked for p in PROBLEMS}


def test_dart_asks_until_a_problem_has_enough_or_its_trials_are_spent():
    assert trials(load_recipe("dart"), {"p": 1, "q": 4, "r": 0}) == {"p": 4, "q": 16, "r": 24}


def test_dart_by_difficulty_wants_more_of_hard_problems_than_of_easy_ones():
    # Of four wanted, a problem that is wrong half the time gets two, one that is wrong three times in four gets three.
    assert trials(load_recipe("dart_difficulty"), {"p": 1, "q": 2, "r": 4}) == {"p": 4, "q": 4, "r": 12}


def test_self_consistency_judges_by_the_band_and_measures_by_the_answers():
    recipe = load_recipe("self_consistency")
    majority = plugins.make_verifier(recipe.verify.verifier, recipe.verify.options)
    problem = Problem("p", "?", "the reference is never read")

    def outcomes(*answers: int) -> set[str]:
        return {str(j.outcome) for j in majority.verify_group(problem, [f"It is {a}." for a in answers])}

    assert outcomes(7, 7, 7, 7, 1, 2, 3, 4) == {"correct", "wrong"}
    assert outcomes(*[7] * 7, 1) == {"no_answer"}  # seven of eight: too sure to teach anything
    assert outcomes(*range(8)) == {"no_answer"}  # nobody agrees
    assert outcomes(7, 7, 7, 1, 1, 1, 2, 3) == {"no_answer"}  # a tie
    assert recipe.verify.held_out == "math"


def test_star_asks_wrong_problems_again_with_the_answer_and_saves_the_plain_prompt(tmp_path):
    overrides = ["stop.max_rounds=1", "filter.hinted_share=0.5", "filter.hinted_markers=0", "evaluate.samples=1"]
    with Run.open(load_recipe("star", [*TOY, *overrides]), tmp_path / "run") as run:
        spin(run)
        folder = run.round(0).folder
        samples = store.read_rows(folder / "samples.parquet", Sample)
        right = {v.sample_id for v in store.read_rows(folder / "verdicts.parquet", Verdict) if v.outcome == "correct"}
        examples = store.read_rows(folder / "examples.parquet", Example)
        prompts = {p.id: p.prompt for p in run.problems}
    unguided = {s.problem_id for s in samples if s.origin == "policy" and s.id in right}
    hinted = {s.problem_id for s in samples if s.origin == "hinted"}
    assert hinted and hinted == {s.problem_id for s in samples} - unguided
    assert {e.origin for e in examples} == {"policy", "hinted"}
    assert all([m["content"] for m in e.messages] == [prompts[e.problem_id]] for e in examples)
    assert sum(e.origin == "hinted" for e in examples) <= len(examples) / 2


def test_teacher_labels_trains_a_student_that_never_samples_on_what_the_teacher_agrees_on(tmp_path):
    teacher = 'sampling.extra=[{model="toy", share=1.0, policy={name="toy", toy={skill=0.6}}}]'
    with Run.open(load_recipe("teacher_labels", [*TOY, teacher]), tmp_path / "run") as run:
        spin(run)
        folder = run.round(0).folder
        samples = store.read_rows(folder / "samples.parquet", Sample)
        judges = {v.verifier for v in store.read_rows(folder / "verdicts.parquet", Verdict)}
        examples = store.read_rows(folder / "examples.parquet", Example)
        parent = run.round(0).manifest.entries()["train"].info["parent"]
    assert {s.origin for s in samples} == {"teacher"} and len(samples) == 24 * run.recipe.sampling.k
    assert examples and {e.origin for e in examples} == {"teacher"}
    assert (judges, parent) == ({"majority"}, 0)


def test_self_consistency_runs_without_looking_at_train_answers(tmp_path):
    with Run.open(load_recipe("self_consistency", [*TOY, "stop.max_rounds=1"]), tmp_path / "run") as run:
        spin(run)
        folder = run.round(0).folder
        judges = {v.verifier for v in store.read_rows(folder / "verdicts.parquet", Verdict)}
        measured = {v.verifier for v in store.read_rows(folder / "dev_verdicts.parquet", Verdict)}
    assert (judges, measured) == ({"majority"}, {"math"})


def test_proofs_of_all_rounds_are_learnt_and_what_is_unproved_gets_every_try(tmp_path):
    own = load_recipe("proof_flywheel")
    assert own.verify.verifier == "proof" and own.mix.general_least and not own.train.min_examples
    # The toy proves nothing, so it does sums, sampled, filtered and kept as the recipe's proofs are.
    toy = load_recipe("toy", [*TOY, "policy.toy.skill=0.15", "stop.max_rounds=2", "gate.enabled=false"])
    recipe = toy.model_copy(update={name: getattr(own, name) for name in ("sampling", "filter", "data")})
    with Run.open(recipe, tmp_path / "run") as run:
        spin(run)
        samples = [store.read_rows(run.round(i).folder / "samples.parquet", Sample) for i in (0, 1)]
        found = [store.read_rows(run.round(i).folder / "examples.parquet", Example) for i in (0, 1)]
        taught = store.read_rows(run.round(1).folder / "training_set.parquet", Example)
    proved = [{e.problem_id for e in examples} for examples in found]
    for i in (0, 1):
        tries = Counter(s.problem_id for s in samples[i])
        assert {tries[p] for p in tries.keys() - proved[i]} == {8}, "all the tries there are"
        assert min(tries[p] for p in proved[i]) < 8, "no more once there are two proofs"
        assert len(tries) == 24, "every statement is asked in every round"
    assert proved[0] - proved[1], "some were proved in round 0 alone"
    assert {e.problem_id for e in taught} == proved[0] | proved[1]


def test_r1_distill_learns_from_the_teacher_beside_general_rows(tmp_path):
    teacher = 'sampling.extra=[{model="toy", share=0.5, policy={name="toy", toy={skill=0.9}}}]'
    with Run.open(load_recipe("r1_distill", [*TOY, teacher, "train.objective=sft"]), tmp_path / "run") as run:
        spin(run)
        folder = run.round(0).folder
        samples = store.read_rows(folder / "samples.parquet", Sample)
        examples = store.read_rows(folder / "examples.parquet", Example)
        rows = store.read_rows(folder / "training_set.parquet", Example)
    asked = Counter(s.origin for s in samples)
    assert asked["teacher"] == asked["policy"]
    learnt = Counter(e.origin for e in examples)
    assert learnt["teacher"] and learnt["policy"]
    assert Counter(r.origin for r in rows) == learnt + Counter(general=round(len(examples) / 3))
    recipe = load_recipe("r1_distill")
    assert (recipe.train.objective, recipe.train.start_from, recipe.stop.max_rounds) == ("sft_then_dpo", "base", 1)


def test_llama3_keeps_the_best_and_sets_right_against_wrong_in_all_rounds():
    recipe = load_recipe("llama3")
    said = [("p", "2 + 3 = 5", True), ("p", "1 + 4 = 5", True), ("p", "2 + 3 = 6", False), ("p", "no", False)]
    samples, verdicts = sampled(*said)
    examples, _ = filter_samples(samples, verdicts, PROBLEMS, recipe.filter, system=None)
    (pair,), _ = preference_pairs([Judged(samples, verdicts, examples)], recipe.train.dpo)
    assert pair.chosen in ("2 + 3 = 5", "1 + 4 = 5") and pair.rejected == "2 + 3 = 6", "the likest in length"
    assert [list(rounds_kept(recipe, r)) for r in (0, 5)] == [[0], [0, 1, 2, 3, 4, 5]]
    average = recipe.train.average
    assert (recipe.train.objective, recipe.train.start_from) == ("sft_then_dpo", "base")
    assert (average.generations, average.stages, recipe.stop.max_rounds) == (2, True, 6)
    gpu = load_recipe("llama3_gpu")
    assert (gpu.filter.cap, gpu.filter.select, gpu.train.dpo.pairs) == (1, "best", "score")
