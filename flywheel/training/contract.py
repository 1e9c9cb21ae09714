"""What must hold between sampling and training, checked before the first costly hour.

A model that is sampled with one text and trained on another, or that never sees its stop token in the loss, trains
without any error and gets worse. (Seen in open-r1 #604, trl #5988, marin #4760.)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flywheel import guard
from flywheel.errors import ModelError
from flywheel.policy.render import load_tokenizer, prompt_ids, render_prompt
from flywheel.recipe import ModelSection
from flywheel.types import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from flywheel.training.collate import Encoded

PROBE = "The answer is 42."
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "CUDA_VISIBLE_DEVICES": ""}


def check_contract(
    model_path: Path, model: ModelSection, messages: Sequence[Message], *, log: Path, pid_dir: Path
) -> dict[str, Any]:
    """Check a model folder with a prompt as it will be sampled, in a child process; return what was found.

    Raises ModelError saying which of these does not hold: the training text begins with the sampling text, an answer
    stands in it, the stop token is inside the loss and is one that sampling stops at, no BOS is doubled. A toy model
    has no text to check.
    """
    if (model_path / "toy.json").is_file():
        return {"model": "toy"}
    with TemporaryDirectory(prefix="flywheel-contract-") as folder:
        job, result = Path(folder) / "job.json", Path(folder) / "result.json"
        job.write_text(
            json.dumps({"model": str(model_path), "section": model.model_dump(), "messages": list(messages)})
        )
        command = [sys.executable, "-m", "flywheel.training.contract", str(job), str(result)]
        child = guard.spawn(command, name="contract", log=log, pid_dir=pid_dir, env=_ENVIRONMENT)
        try:
            code = child.wait()
        finally:
            child.terminate()
        if not result.is_file():
            raise ModelError(
                f"{model_path} cannot be checked: {guard.last_lines(log, 1) or f'exit code {code}'} (see {log})"
            )
        found: dict[str, Any] = json.loads(result.read_text())
    if "refused" in found:
        raise ModelError(f"{model_path}: {found['refused']}")
    return found


def inspect(model_path: Path, model: ModelSection, messages: Sequence[Message]) -> dict[str, Any]:
    """The checks of `check_contract`, in this process (it imports transformers). Raises ModelError."""
    tokenizer = load_tokenizer(model_path, model.chat_template)
    stops = stop_tokens(model_path, tokenizer)
    asked, asked_ids = render_prompt(tokenizer, messages), prompt_ids(tokenizer, messages)
    if not asked_ids:
        raise ModelError("the chat template renders a prompt to nothing; give another as model.chat_template")
    bos = tokenizer.bos_token_id
    if bos is not None and asked_ids[:2] == [bos, bos]:
        raise ModelError(
            f"the prompt begins with two BOS tokens ({tokenizer.bos_token!r}); take one out of the template"
        )
    answered = render_answered(tokenizer, messages, PROBE)
    if PROBE not in answered:
        raise ModelError("the chat template leaves out the assistant's answer; give another as model.chat_template")
    end = end_of_turn(tokenizer, messages, stops)
    trained = encode(tokenizer, Example("", "", 0, list(messages), PROBE, ""), end)
    if list(trained.prompt) != asked_ids or trained.completion[-1] != end or len(trained.completion) < 2:
        raise ModelError(f"the training text does not continue the sampling text {asked[-60:]!r}")
    return {
        "prompt_tokens": len(asked_ids),
        "stop_token": tokenizer.convert_ids_to_tokens(end),
        "stop_token_id": end,
        "template_agrees": answered.startswith(asked + PROBE),
        "generation_config": (model_path / "generation_config.json").is_file(),
    }


def encode(tokenizer: PreTrainedTokenizerBase, example: Example, end: int) -> Encoded:
    """An example in tokens: the prompt as sampling renders it, the completion, and the stop token."""
    from flywheel.training.collate import Encoded

    completion = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
    prompt = prompt_ids(tokenizer, example.messages)
    return Encoded(example.problem_id, tuple(prompt), (*completion, end), example.weight)


def stop_tokens(model_path: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens at which sampling stops: generation_config.json says so, else config.json, else the tokenizer.

    Raises ModelError where none of them does: such a model would never learn to end.
    """
    for name in ("generation_config.json", "config.json"):
        if (file := model_path / name).is_file():
            found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
            if found is not None:
                return found if isinstance(found, list) else [found]
    if tokenizer.eos_token_id is None:
        raise ModelError("it names no stop token; set eos_token_id in its generation_config.json")
    return [tokenizer.eos_token_id]


def end_of_turn(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], stops: Sequence[int]) -> int:
    """The token that the chat template ends an answer with if sampling stops at it, else the first one it stops at."""
    suffix = render_answered(tokenizer, messages, PROBE).rpartition(PROBE)[2]
    after = tokenizer(suffix, add_special_tokens=False)["input_ids"]
    return next((token for token in after if token in stops), stops[0])


def render_answered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], answer: str) -> str:
    """The conversation with an answer, in the model's chat template."""
    text = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], tokenize=False)
    assert isinstance(text, str)
    return text


def main() -> None:
    """Check one model; `check_contract` calls this."""
    parser = argparse.ArgumentParser(prog="python -m flywheel.training.contract")
    parser.add_argument("job", type=Path)
    parser.add_argument("result", type=Path)
    options = parser.parse_args()
    job = json.loads(options.job.read_text())
    try:
        found = inspect(Path(job["model"]), ModelSection(**job["section"]), job["messages"])
    except ModelError as error:
        found = {"refused": str(error)}
    options.result.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
