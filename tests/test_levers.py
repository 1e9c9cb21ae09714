"""Every sampling lever in a whole run of the toy: what it leaves on disk, and that a kill changes nothing."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from flywheel import samplers, store
from flywheel.errors import ModelError, RecipeError, StageError
from flywheel.fingerprint import file_digest
from flywheel.lineage import trace
from flywheel.loop import spin
from flywheel.progress import Silent
from flywheel.recipe import Recipe, load_recipe
from flywheel.run import Run
from flywheel.types import Example, Sample, Verdict

SMALL = [
    *["problems.count=44", "problems.dev=8", "problems.test=0", "verify.workers=1", "evaluate.samples=1"],
    *["policy.toy.skill=0.4", "stop.max_rounds=2", "gate.enabled=false", "evaluate.resamples=100"],
    "sampling.chunk_problems=9",
]
EXACT = ["verify.verifier=exact", 'verify.options={pattern = "is (-?[0-9]+)$"}']
ADAPTIVE = ["sampling.budget.mode=adaptive", "sampling.k=8", "filter.cap=2"]
HINTS = ["hints.k=2"]
TEACHER = 'sampling.extra=[{model="toy", share=0.2, policy={name="toy", toy={skill=0.5}}}, {generation=-1, share=0.2}]'
SWEEP = [
    "sampling.sweep.temperatures=[0.0, 0.7, 1.0]",
    "sampling.sweep.min_scores=[0.5]",
    "sampling.sweep.problems=4",
    "sampling.sweep.samples=2",
]


def a_recipe(*overrides: str, judged: Sequence[str] = EXACT) -> Recipe:
    return load_recipe("toy", [*SMALL, *judged, *overrides])


def spun(recipe: Recipe, directory: Path, reporter: Silent | None = None) -> Run:
    with Run.open(recipe, directory, reporter=reporter) as run:
        spin(run)
    return Run.load(directory)


def contents(directory: Path) -> dict[str, str]:
    """Digests of all rows, plans and tables."""
    files = [*directory.rglob("*.parquet"), *directory.rglob("plan.json"), *directory.rglob("sweep.json")]
    return {p.relative_to(directory).as_posix(): file_digest(p) for p in files if "champion" not in p.parts}


def rows_of(run: Run, round_index: int) -> list[tuple[Sample, Verdict]]:
    folder = run.round(round_index).folder
    verdicts = store.read_rows(folder / "verdicts.parquet", Verdict)
    return list(zip(store.read_rows(folder / "samples.parquet", Sample), verdicts, strict=True))


def plan_of(run: Run, round_index: int) -> dict:
    return store.read_json(run.round(round_index).folder / "plan.json")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All levers that ask the engine, together."""
    return spun(a_recipe(*ADAPTIVE, *HINTS, *SWEEP, TEACHER), tmp_path_factory.mktemp("all") / "run")


def test_an_adaptive_round_asks_until_a_problem_has_enough_and_says_what_it_saved(everything: Run) -> None:
    asked, paths = Counter(), defaultdict(set)
    for sample, verdict in rows_of(everything, 0):
        if sample.origin == "policy":
            asked[sample.problem_id] += 1
            if verdict.outcome == "correct":
                paths[sample.problem_id].add(sample.completion)
    assert set(asked.values()) == {2, 4, 6, 8} and len(asked) == 36
    assert {n for p, n in asked.items() if not paths[p]} == {4}, "half of k where nothing was right"
    info = everything.round(0).manifest.entries()["sample"].info
    assert info["samples"] == len(rows_of(everything, 0)) and 0 < info["tokens_saved"] < info["fixed_k_tokens"]


def test_mastered_problems_are_only_probed(everything: Run) -> None:
    plan, asked = plan_of(everything, 1), Counter(s.problem_id for s, _ in rows_of(everything, 1))
    mastered = [p for p, state in plan["standing"].items() if state == "mastered"]
    assert mastered and "always right when last asked" in " ".join(plan["reasons"])
    right = {s.problem_id for s, v in rows_of(everything, 1) if s.index == 0 and v.outcome == "correct"}
    assert {asked[p] for p in mastered if p in right} == {1}


def test_hints_go_to_problems_that_nothing_right_came_of_and_rows_are_plain(everything: Run) -> None:
    rows = rows_of(everything, 0)
    unhinted_right = {s.problem_id for s, v in rows if v.outcome == "correct" and s.origin != "hinted"}
    hinted = Counter(s.problem_id for s, _ in rows if s.origin == "hinted")
    assert hinted and not set(hinted) & unhinted_right and set(hinted.values()) == {2}
    for example in store.read_rows(everything.round(1).folder / "training_set.parquet", Example):
        assert "The answer is" not in example.messages[-1]["content"]
        assert [m["role"] for m in example.messages] == ["user"]


def test_other_models_and_older_generations_answer_their_share(everything: Run) -> None:
    first, second = (Counter(s.origin for s, _ in rows_of(everything, i)) for i in range(2))
    assert first["teacher"] and not first["older_generation"] and second["older_generation"]
    assert "no such older generation" in " ".join(plan_of(everything, 0)["reasons"])
    taught = [s for s, _ in rows_of(everything, 0) if s.origin == "teacher"]
    assert {(s.generation, s.sampler) for s in taught} == {(-1, "toy")}
    older = {s.generation for s, _ in rows_of(everything, 1) if s.origin == "older_generation"}
    assert older == {0} and plan_of(everything, 1)["generation"] == 1
    assert "model toy" in trace(everything, taught[0].id)[0]


def test_the_sweep_decides_and_its_table_stands_in_the_plan(everything: Run) -> None:
    plan = plan_of(everything, 0)
    assert [row["temperature"] for row in plan["sweep"]] == [0.0, 0.7, 1.0]
    best = max(plan["sweep"], key=lambda row: row["balance"])
    assert plan["temperature"] == best["temperature"] and "balance score" in plan["reasons"][0]
    assert plan["min_score"] == 0.5
    assert {s.temperature for s, _ in rows_of(everything, 0)} == {best["temperature"]}
    swept = store.read_rows(everything.round(0).folder / "sweep_samples.parquet", Sample)
    assert Counter(s.temperature for s in swept) == {0.0: 8, 0.7: 8, 1.0: 8}
    dev = {p.id for p in everything.problems if p.split == "dev"}
    assert {s.problem_id for s in swept} <= dev
    assert "it measures a generation" in trace(everything, swept[0].id)[-1]


class Interrupted(Exception):
    pass


class Stops(Silent):
    """A reporter that breaks the run at the n-th sign of progress of a label."""

    def __init__(self, label: str, at: int) -> None:
        self.label, self.left = label, at

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        if label == self.label and unit == "samples" and done:
            self.left -= 1
            if self.left == 0:
                raise Interrupted


@pytest.mark.parametrize(
    ("label", "at"),
    [("round 0 · sweep", 1), *[("round 0 · sample", n) for n in (3, 9, 15)], ("round 1 · sample", 8)],
)
def test_a_run_that_was_killed_in_the_middle_of_a_wave_ends_as_the_other(everything, tmp_path, label, at) -> None:
    recipe = a_recipe(*ADAPTIVE, *HINTS, *SWEEP, TEACHER)
    with pytest.raises(Interrupted):
        spun(recipe, tmp_path / "run", Stops(label, at))
    assert list((tmp_path / "run").rglob("*samples.parts/*.parquet"))
    assert contents(spun(recipe, tmp_path / "run").directory) == contents(everything.directory)


def test_cohorts_that_take_turns_ask_every_problem_the_same(tmp_path, monkeypatch) -> None:
    one = spun(a_recipe(*ADAPTIVE, *HINTS, "stop.max_rounds=1"), tmp_path / "one")
    monkeypatch.setattr("flywheel.waves.COHORT", 10)
    two = spun(a_recipe(*ADAPTIVE, *HINTS, "stop.max_rounds=1", "sampling.chunk_problems=3"), tmp_path / "two")
    assert contents(two.directory) == contents(one.directory)


def test_wordings_and_temperatures_take_turns(tmp_path) -> None:
    base = spun(a_recipe("stop.max_rounds=1"), tmp_path / "plain")
    train = [p for p in base.problems if p.split == "train"]
    (tmp_path / "reworded.jsonl").write_text(
        "".join(json.dumps({"prompt": p.prompt, "paraphrases": [p.prompt + " Please."]}) + "\n" for p in train[:20])
    )
    (tmp_path / "shots.jsonl").write_text(
        "".join(json.dumps({"prompt": f"{i} + 1 = ?", "completion": f"It is {i + 1}"}) + "\n" for i in range(4))
    )
    recipe = a_recipe(
        "stop.max_rounds=1", "sampling.k=8", "sampling.spread=0.1",
        f"sampling.paraphrases={tmp_path / 'reworded.jsonl'}", f"sampling.few_shot.path={tmp_path / 'shots.jsonl'}",
        "sampling.few_shot.count=2", "sampling.few_shot.orders=2",
    )  # fmt: skip
    run = spun(recipe, tmp_path / "run")
    reworded = Counter(s.variant for s, _ in rows_of(run, 0) if s.problem_id == train[0].id)
    assert set(reworded) == {"{prompt} · examples 0", "{prompt} · paraphrase 1 · examples 0", "{prompt} · examples 1"}
    assert len({s.temperature for s, _ in rows_of(run, 0)}) == 3
    (tmp_path / "reworded.jsonl").write_text('{"prompt": "other", "paraphrases": ["x"]}\n')
    with pytest.raises(RecipeError, match="rewords none of the 36 train problems"):
        Run.open(recipe, run.directory)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["hints.k=1", 'hints.template="{prompt} {solution}"'],
            r"hints.template shows \{solution\} and no train problem",
        ),
        (["sampling.few_shot.count=2"], "takes at least 3 examples"),
        (["sampling.few_shot.count=2", "sampling.few_shot.path=nowhere.jsonl"], "there is no such file"),
        (["sampling.paraphrases=nowhere.jsonl"], "there is no such file"),
    ],
)
def test_levers_that_cannot_work_are_refused_before_anything_is_written(tmp_path, overrides, message) -> None:
    with pytest.raises(RecipeError, match=message):
        Run.open(a_recipe(*overrides), tmp_path / "run")
    assert not (tmp_path / "run/run.json").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampling.budget.mode=adaptive"], "judges all completions of a problem as one"),
        (["hints.k=1"], r"hints\.k decides from single verdicts"),
        (SWEEP, r"sampling\.sweep\.temperatures decides"),
    ],
)
def test_levers_that_decide_from_verdicts_refuse_votes(tmp_path, overrides, message) -> None:
    with pytest.raises(RecipeError, match=message):
        Run.open(a_recipe(*overrides, judged=["verify.verifier=majority"]), tmp_path / "run")


def test_an_extra_model_that_is_not_there_is_refused_at_the_start(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"no file 'gone\.gguf'"):
        Run.open(a_recipe('sampling.extra=[{model="gone.gguf", share=0.2}]'), tmp_path / "run")


BROKEN = """
from pathlib import Path
class Broken:
    def verify(self, problem, completion):
        if Path(FLAG).exists():
            raise RuntimeError("no such table")
        return problem.answer in completion
"""


def test_a_broken_verifier_does_not_eat_the_budget(tmp_path) -> None:
    file, flag = tmp_path / "mine.py", tmp_path / "flag"
    file.write_text(BROKEN.replace("FLAG", repr(str(flag))))
    budget = ["sampling.budget.most=40", "sampling.budget.most_unsolved=40", "stop.max_rounds=1"]
    recipe = a_recipe(*ADAPTIVE, *budget, judged=[f"verify.verifier={file}:Broken"])
    with Run.open(recipe, tmp_path / "run") as run:
        spin(run, rounds=0)
        flag.touch()
        with pytest.raises(StageError, match=r"72 of 72 completions could not be judged.*no such table"):
            spin(run)
    flag.unlink()
    assert spun(recipe, tmp_path / "run").champion().index == 1


def test_decisions_that_were_taken_stand_when_a_verifier_comes_back(tmp_path) -> None:
    """A few errors are let pass and the next wave is asked; then a server is gone, and comes back the same."""
    file, shaky, gone = tmp_path / "mine.py", tmp_path / "shaky", tmp_path / "gone"
    file.write_text(SHAKY.replace("SHAKEN", repr(str(shaky))).replace("GONE", repr(str(gone))))
    limits = ["stop.max_rounds=1", "verify.max_error_share=0.3", "policy.toy.skill=0.8", "sampling.budget.count=right"]
    recipe = a_recipe(*ADAPTIVE, *limits, judged=[f"verify.verifier={file}:Shaky"])

    class Outage(Silent):
        def progress(self, label: str, done: int, total: int, unit: str) -> None:
            if label == "round 0 · sample":
                (gone if total > 72 else shaky).touch()  # the first wave has 2 completions of 36 problems

    with pytest.raises(StageError, match="could not be judged.*no connection"):
        spun(recipe, tmp_path / "run", Outage())
    parts = (tmp_path / "run/rounds/000/samples.parts").glob("0*.parquet")
    drawn = {s.id for part in parts for s in store.read_rows(part, Sample)}
    shaky.unlink()
    gone.unlink()
    kept = {s.id: v.outcome for s, v in rows_of(spun(recipe, tmp_path / "run"), 0)}
    assert len(drawn) > 72 and drawn <= kept.keys()
    assert 0 < list(kept.values()).count("error") <= 0.3 * 72


SHAKY = """
import zlib
from pathlib import Path
class Shaky:
    def verify(self, problem, completion):
        tenths = 9 if Path(GONE).exists() else 2 if Path(SHAKEN).exists() else 0
        if zlib.crc32((problem.id + completion).encode()) % 10 < tenths:
            raise RuntimeError("no connection")
        return completion.endswith(f" {problem.answer}")
"""


def test_an_extra_model_at_an_endpoint_is_asked_for_by_its_name() -> None:
    at_endpoint = 'policy={name="openai", openai={endpoints=["http://127.0.0.1:9/v1"], reload_command="x {model}"}}'
    recipe = a_recipe(f'sampling.extra=[{{model="big", share=0.2, {at_endpoint}}}]')
    asked = samplers.policy_section(recipe, recipe.sampling.extra[0]).openai
    assert (asked.model, asked.reload_command) == ("big", None)
    assert asked.endpoints == ["http://127.0.0.1:9/v1"]
