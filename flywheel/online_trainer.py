"""GRPO by TRL's trainer: a job file in, a model folder and the completions that it learnt from out.

The control that the other methods are held against (Shao et al. 2024, arXiv:2402.03300, section 4.1): it samples from
the weights that it is changing. Prompts, verifier, number of completions and their ledger are those of any other round.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from flywheel.online import ASKED, ROLLOUTS, Asked, Rollout, read_rollouts
from flywheel.policy.render import load_tokenizer
from flywheel.prompts import conversation
from flywheel.recipe import VerifySection
from flywheel.training.contract import stop_tokens
from flywheel.training.job import (
    Job,
    Start,
    Watch,
    arguments,
    ends,
    lora_config,
    newest_checkpoint,
    run_job,
    write_model,
)
from flywheel.trl_reward import TrlReward
from flywheel.types import Problem


class Reward(TrlReward):
    """The verifiers' scores, by the run's own problems; each completion is written down as it is rewarded."""

    def __init__(self, verify: VerifySection, problems: Sequence[Problem], stops: Sequence[int], ledger: Path) -> None:
        super().__init__(verify, "answer")
        self._problems, self._stops, self._ledger = problems, frozenset(stops), ledger

    def _problem(self, id: str, prompt: Any, row: dict[str, Any]) -> Problem:
        return self._problems[row["place"]]

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """The rewards, as `TrlReward` gives them."""
        rewards = super().__call__(prompts, completions, **columns)
        step = columns["trainer_state"].global_step
        with open(self._ledger, "a", encoding="utf-8") as file:
            for place, said, ids, reward in zip(
                columns["place"], completions, columns["completion_ids"], rewards, strict=True
            ):
                ended = bool(ids) and ids[-1] in self._stops
                text = said[-1]["content"]
                file.write(json.dumps(asdict(Rollout(step, place, text, len(ids), ended, reward))) + "\n")
        return rewards


def make_trainer(job: Job, asked: Asked, problems: Sequence[Problem], reward: TrlReward) -> GRPOTrainer:
    """The trainer of a round, with the model loaded: each problem once, in the plan's order."""
    section, options, start = job.section, job.section.grpo, Start.load(job)
    tokenizer = load_tokenizer(job.model_path, job.model.chat_template)
    whole = len(problems) * asked.k // options.batch_size
    if not whole:
        raise ValueError(
            f"{len(problems)} problems with k = {asked.k} make no step of train.grpo.batch_size = {options.batch_size} "
            "completions; lower it"
        )
    settings = arguments(
        job,
        steps=whole * options.iterations,
        accumulation=options.batch_size // options.micro_batch,
        direct=start.direct,
    )
    del settings["max_length"], settings["train_sampling_strategy"]  # SFTTrainer's; GRPO's sampler repeats its rows
    settings |= {
        "per_device_train_batch_size": options.micro_batch,
        "num_generations": asked.k,
        "shuffle_dataset": False,
        "max_completion_length": asked.max_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "num_iterations": options.iterations,
        # A generation is in no checkpoint: going on in the middle of its steps, the trainer would draw it once more.
        "save_steps": math.ceil(section.save_steps / options.iterations) * options.iterations,
        "beta": options.beta,
        "epsilon": options.epsilon,
        "scale_rewards": options.scale_rewards,
        "loss_type": options.loss,
        "log_completions": False,
    }
    rows = [{"prompt": conversation(p, job.model.system), "place": place} for place, p in enumerate(problems)]
    optimizer = None
    if start.optimizer is not None:
        kind, given = start.optimizer
        optimizer = kind(start.network.parameters(), **given)
    return GRPOTrainer(
        model=start.network,
        reward_funcs=reward,
        args=GRPOConfig(**settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Watch(job.work)],
        optimizers=(optimizer, None),
        peft_config=lora_config(section),
    )


def run(job: Job) -> dict[str, Any]:
    """Sample and learn by turns, write the model to `job.target` and the completions beside the job; the metrics."""
    asked, problems = Asked.read(job.work / ASKED), job.rows(Problem)
    ledger, checkpoint = job.work / ROLLOUTS, newest_checkpoint(job.work / "checkpoints")
    # What was sampled behind the checkpoint is sampled again, from the same state of the random numbers.
    begun = int(checkpoint.name.partition("-")[2]) if checkpoint else 0
    kept = [rollout for rollout in read_rollouts(ledger) if rollout.step < begun]
    ledger.write_text("".join(json.dumps(asdict(rollout)) + "\n" for rollout in kept), encoding="utf-8")
    tokenizer = load_tokenizer(job.model_path, job.model.chat_template)
    with Reward(asked.verify, problems, stop_tokens(job.model_path, tokenizer), ledger) as reward:
        trainer = make_trainer(job, asked, problems, reward)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    write_model(trainer, job)
    rollouts = read_rollouts(ledger)
    rewards = [r.reward for r in rollouts if r.reward is not None]
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    return {
        "steps": trainer.state.global_step,
        "completions": len(rollouts),
        "tokens": int(trainer.state.num_input_tokens_seen),
        "completion_tokens": sum(r.tokens for r in rollouts),
        "without_signal": sum(entry["frac_reward_zero_std"] for entry in log) / len(log),
        "reward_mean": sum(rewards) / len(rewards) if rewards else None,
        **ends([entry["reward"] for entry in log], "reward"),
        **ends([entry["entropy"] for entry in log], "entropy"),
    }


if __name__ == "__main__":
    run_job(run, "flywheel.online_trainer")
