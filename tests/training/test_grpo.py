"""`to_trl` in a real trainer of TRL: one step of GRPO on a model of a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flywheel import to_trl


@pytest.mark.slow
def test_a_step_of_grpo_with_a_verifier_as_its_reward(tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    own = tmp_path / "own.py"
    own.write_text(
        "class Even:\n    def verify(self, problem, completion):\n"
        "        if problem.meta['level'] == 2: raise ValueError('this one cannot be judged')\n"
        "        return len(completion) % 2 == 0\n"
    )
    rows = [
        {"prompt": [{"role": "user", "content": f"{i}+{i}"}], "answer": str(2 * i), "level": i % 3} for i in range(4)
    ]
    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "out"),
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 6,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    with to_trl(f"{own}:Even") as reward:
        seen: list[list[float | None]] = []

        def watched(*arguments: Any, **columns: Any) -> list[float | None]:
            seen.append(reward(*arguments, **columns))
            return seen[-1]

        trainer = GRPOTrainer(
            model=str(tiny_model),
            reward_funcs=[reward, watched],
            args=GRPOConfig(**settings),
            train_dataset=Dataset.from_list(rows),
        )
        trainer.train()
    (log,) = [entry for entry in trainer.state.log_history if "rewards/Even/mean" in entry]
    assert 0.0 <= log["rewards/Even/mean"] <= 1.0
    assert 0.0 <= log["Even/error_share"] <= 1.0
    assert seen and all(len(rewards) == 4 for rewards in seen)
    assert {r for rewards in seen for r in rewards} <= {0.0, 1.0, None}
