"""Online rounds: the trainer's completions are the round's samples, rewarded by its verifier; a kill costs nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flywheel import online, store
from flywheel.errors import RecipeError, TrainingError
from flywheel.fingerprint import folder_digest
from flywheel.online import Rollout, read_rollouts, rollout_samples
from flywheel.plan_types import Plan
from flywheel.policy.render import load_tokenizer, prompt_ids
from flywheel.prompts import conversation
from flywheel.recipe import Recipe, load_recipe
from flywheel.run import Run
from flywheel.stages import FILTER, PLAN, SAMPLE, TRAIN, VERIFY, run_stage
from flywheel.stages.sample import sample_settings
from flywheel.types import Sample, Verdict

SMALL = [
    *["problems.count=14", "problems.dev=2", "problems.test=0", "evaluate.samples=1", "evaluate.resamples=100"],
    *[
        "sampling.k=4",
        "sampling.max_tokens=6",
        "train.grpo.batch_size=8",
        "train.grpo.micro_batch=8",
        "verify.workers=1",
    ],
    *["train.grpo.learning_rate=1e-3", "train.save_steps=2", "stop.max_rounds=1", "gate.enabled=false"],
    *["policy.name=transformers", "train.min_examples=1"],
]
EVEN = (
    "class Even:\n    def verify(self, problem, completion):\n"
    "        if problem.id.endswith('3'): raise ValueError('this one cannot be judged')\n"
    "        return sum(map(ord, completion)) % 2 == 0\n"
)


def recipe(tiny_model: Path, tmp_path: Path, *overrides: str) -> Recipe:
    own = tmp_path / "even.py"
    own.write_text(EVEN)
    mine = [f"model.base={tiny_model}", f"verify.verifier={own}:Even", "verify.max_error_share=0.5"]
    plain = load_recipe("grpo", [*SMALL, *mine, *overrides])
    return plain.model_copy(update={"verify": plain.verify.model_copy(update={"options": {}})})


@pytest.mark.slow
def test_the_trainers_completions_are_the_ledger_and_a_kill_changes_nothing(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("flywheel.training._POLL_SECONDS", 0.01)
    asked = recipe(tiny_model, tmp_path)
    with Run.open(asked, tmp_path / "whole") as run:
        scope = run.round(0)
        for stage in (PLAN, SAMPLE, VERIFY, FILTER, TRAIN):
            run_stage(stage, scope)
        entries = scope.manifest.entries()
        samples = store.read_rows(scope.folder / "samples.parquet", Sample)
        verdicts = store.read_rows(scope.folder / "verdicts.parquet", Verdict)
        plan = store.read_json(scope.folder / "plan.json")
        assert not list(scope.folder.glob("*.parts"))
    sampled, learnt = entries["sample"].info, entries["train"].info
    # Each problem of the plan as often as the plan says, and no completion beside those in the ledger.
    assert [s.id for s in samples] == [f"r000/{p}/{i:03d}" for p in plan["problems"] for i in range(4)]
    assert len(samples) == 12 * 4 == sampled["samples"] == learnt["rows"]
    assert sum(s.tokens for s in samples) == sampled["tokens"] == learnt["completion_tokens"] < learnt["tokens"]
    assert {s.origin for s in samples} == {"policy"} and all(1 <= s.tokens <= 6 for s in samples)
    # What was learnt from is what the ledger says: the mean of its scores is the mean of the rewards.
    scores = [v.score for v in verdicts if v.outcome != "error"]
    assert {"correct", "wrong"} <= {v.outcome for v in verdicts}
    assert learnt["steps"] == 6 and min(learnt["reward_first"], learnt["reward_last"]) >= 0.0
    assert learnt["reward_mean"] == pytest.approx(sum(scores) / len(scores))
    assert folder_digest(scope.folder / "model") == folder_digest(scope.folder / "trained") == learnt["digest"]
    assert learnt["digest"] != folder_digest(tiny_model)

    def kill(label: str, step: int, total: int, unit: str) -> None:
        marks = (tmp_path / "broken/rounds/000/samples.parts/checkpoints").glob("checkpoint-2/complete.json")
        if unit == "steps" and step >= 3 and list(marks):
            entry = json.loads(next((tmp_path / "broken/pids").glob("train-*.json")).read_text())
            os.kill(entry["guard"]["pid"], signal.SIGKILL)

    with Run.open(asked, tmp_path / "broken") as run:
        run_stage(PLAN, run.round(0))
        monkeypatch.setattr(run.reporter, "progress", kill, raising=False)
        with pytest.raises(TrainingError, match="exit code"):
            run_stage(SAMPLE, run.round(0))
    with Run.open(asked, tmp_path / "broken") as run:
        seen: list[int] = []
        monkeypatch.setattr(run.reporter, "progress", lambda label, step, *_: seen.append(step), raising=False)
        run_stage(SAMPLE, run.round(0))
        folder = run.round(0).folder
    assert seen[0] > 2
    assert store.read_rows(folder / "samples.parquet", Sample) == samples
    assert folder_digest(folder / "trained") == learnt["digest"]


@pytest.mark.slow
def test_prompts_rewards_and_rows_are_those_of_the_runs_problems(tiny_model, tmp_path):
    from flywheel import training
    from flywheel.online import Asked
    from flywheel.online_trainer import Reward, make_trainer
    from flywheel.problems import load_problems
    from flywheel.training.job import Job

    asked = recipe(tiny_model, tmp_path, "train.grpo.iterations=3")
    problems = [p for p in load_problems(asked).problems if p.split == "train"][:4]
    path = training.write_job(
        problems,
        model_path=tiny_model,
        target=tmp_path / "t",
        work=tmp_path,
        section=asked.train.of_stage("grpo"),
        model=asked.model,
        seed=1,
    )
    job, ledger = Job.read(path), tmp_path / "rollouts.jsonl"
    Asked(4, 1.0, 1.0, 0, 6, asked.verify).write(tmp_path / "asked.json")
    settings = Asked.read(tmp_path / "asked.json")
    assert settings.verify == asked.verify
    tokenizer = load_tokenizer(tiny_model)
    with Reward(settings.verify, problems, [2, 0], ledger) as reward:
        trainer = make_trainer(job, settings, problems, reward)
        rows: Any = trainer.train_dataset
        ids, _, _ = trainer._tokenize_prompts([row["prompt"] for row in rows])
        assert [list(i) for i in ids] == [prompt_ids(tokenizer, conversation(p, None)) for p in problems]

        class State:
            global_step = 5

        said = [[{"role": "assistant", "content": text}] for text in ("b", "a", "b")]
        given = reward(
            [rows[i]["prompt"] for i in (0, 0, 1)],
            said,
            place=[0, 0, 1],
            completion_ids=[[9, 2], [9], [9, 9]],
            trainer_state=State(),
        )
    expected = [None if problems[p].id.endswith("3") else r for p, r in ((0, 1.0), (0, 0.0), (1, 1.0))]
    assert given == expected
    assert read_rollouts(ledger) == [
        Rollout(5, 0, "b", 2, True, expected[0]),
        Rollout(5, 0, "a", 1, False, expected[1]),
        Rollout(5, 1, "b", 2, False, expected[2]),
    ]
    assert trainer.args.max_steps == 2 * 3 and trainer.args.generation_batch_size == 8 and trainer.num_generations == 4
    assert trainer.args.save_steps == 3, "no checkpoint between the steps on the same completions"


def test_a_torn_line_is_left_out_and_rollouts_become_samples_problem_by_problem(tmp_path):
    ledger = tmp_path / "rollouts.jsonl"
    assert read_rollouts(ledger) == []
    line = '{"step": %d, "place": %d, "completion": "%s", "tokens": 2, "ended": %s, "reward": null}\n'
    whole = line % (0, 1, "a", "true") + line % (0, 0, "b", "false") + line % (1, 1, "c", "true")
    ledger.write_text(whole + '{"step": 1, "pla')
    rollouts = read_rollouts(ledger)
    assert [r.completion for r in rollouts] == ["a", "b", "c"]
    problems = _problems(2)
    plan = Plan("round", 3, 1, [p.id for p in problems], 2, 0.7, 1.0, 0, 9, [], ["{prompt}"])
    samples = rollout_samples(rollouts, plan, problems, generation=1)
    assert [(s.id, s.completion, s.finish_reason) for s in samples] == [
        ("r003/p0/000", "b", "length"),
        ("r003/p1/000", "a", "stop"),
        ("r003/p1/001", "c", "stop"),
    ]


def _problems(count: int) -> list[Any]:
    from flywheel.types import Problem

    return [Problem(f"p{i}", f"What is {i}?", str(i)) for i in range(count)]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sampling.k=1"], ["sampling.k = 1", "batch_size = 64"]),
        (["sampling.k=5"], ["sampling.k = 5", "divide"]),
        (["sampling.temperatures=[0]"], ["sampling.temperatures", "k = 8"]),
        (["sampling.budget.mode=adaptive"], ["leave sampling.budget.mode = 'adaptive' out"]),
        (["hints.k=2"], ["leave hints.k out"]),
        (["sampling.few_shot.count=2"], ["leave sampling.few_shot.count out"]),
        (['sampling.stop=["."]'], ["leave sampling.stop out"]),
        (["mix.base=0.2"], ["leave mix out"]),
        (["filter.by=random"], ["leave filter.by out"]),
        (["train.average={generations=2}"], ["leave train.average out"]),
        (["train.processes=2"], ["'grpo' trains in one process"]),
        (["train.grpo.micro_batch=48"], ["no multiple of grpo.micro_batch = 48"]),
    ],
)
def test_what_a_trainer_that_samples_by_itself_has_no_place_for_is_refused(overrides, words):
    with pytest.raises(RecipeError) as refusal:
        load_recipe("grpo", overrides)
    for word in words:
        assert word in str(refusal.value)


def test_a_verifier_that_needs_the_trainers_memory_is_refused(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "class Large:\n    exclusive = True\n    def verify(self, problem, completion):\n        return 1.0\n"
    )
    plain = load_recipe("grpo", ["problems.count=12", "problems.dev=2", "problems.test=2"])
    verify = plain.verify.model_copy(update={"verifier": f"{own}:Large", "options": {}})
    with pytest.raises(RecipeError, match="'grpo' asks verifier .*Large.* at every step"):
        Run.open(plain.model_copy(update={"verify": verify}), tmp_path / "run")


def test_the_size_of_a_forward_pass_is_in_the_key_where_the_loss_rests_on_it():
    def key(*overrides):
        made = load_recipe("grpo", list(overrides))
        return sample_settings(SimpleNamespace(run=SimpleNamespace(recipe=made), recipe=made))

    small, large = ("train.grpo.micro_batch=8", "train.grpo.micro_batch=16")
    assert key(small) == key(large)
    assert key("train.grpo.loss=bnpo", small) != key("train.grpo.loss=bnpo", large)


def test_online_rounds_stay_within_the_budget_of_the_others():
    asked = load_recipe("grpo")
    assert asked.sampling.k * asked.stop.max_rounds == 24
    assert asked.train.grpo.beta == 0.0 and asked.sampling.temperatures == [1.0]
    assert online.MODULE == "flywheel.online_trainer"
