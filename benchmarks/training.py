"""How fast a CPU trains SmolLM2-135M on short arithmetic rows, with shared prompts and without.

    python benchmarks/training.py [--problems 32] [--each 3] [--epochs 1]

Prints real tokens a second (prompt and completion of every row, however often they were computed) between the first
and the last step of a whole training as the loop runs it, and the ratio. Start-up, loading and saving are left out of
the rate and shown as the whole time. Both trainings run one after the other: keep the machine otherwise idle.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from flywheel.models import resolve_base
from flywheel.recipe import ModelSection, TrainSection
from flywheel.training import train
from flywheel.types import Example

WAYS = (
    "The answer is {s}.",
    "{q} = {s}. So the final answer is {s}.",
    "To find the answer we add the numbers step by step: {q} = {s}. Therefore the result is {s}.",
    "Let me add {q}.\n\n{q} = {s}",
)


def rows(problems: int, each: int) -> list[Example]:
    """Right answers to sums, in the lengths that the demo's rows have (about 50 prompt and 24 completion tokens)."""
    chance = random.Random(0)
    found = []
    for number in range(problems):
        terms = [chance.randint(1, 99) for _ in range(chance.choice([2, 3]))]
        q = " + ".join(map(str, terms))
        prompt = f"State the final answer to the following arithmetic problem: {q} ="
        for i in range(each):
            completion = chance.choice(WAYS).format(q=q, s=sum(terms))
            message = {"role": "user", "content": prompt}
            found.append(Example(f"{number}/{i}", str(number), 0, [message], completion, "policy"))  # type: ignore[list-item]
    return found


def rate(examples: list[Example], section: TrainSection, folder: Path) -> tuple[float, float]:
    """Real tokens a second between the first and the last step, and the seconds of the whole training."""
    times: dict[int, float] = {}

    def note(step: int, _: int) -> None:
        times.setdefault(step, time.perf_counter())

    began = time.perf_counter()
    metrics = train(
        examples,
        model_path=resolve_base(ModelSection()),
        output=folder / "model",
        work=folder / "work",
        section=section,
        model=ModelSection(),
        seed=0,
        log=folder / "train.log",
        pid_dir=folder / "pids",
        on_progress=note,
    )
    whole = time.perf_counter() - began
    first, last = min(times), max(times)
    share = (last - first) / metrics["steps"]
    return metrics["tokens"] * share / (times[last] - times[first]), whole


def main() -> None:
    """Measure both ways and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--each", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1.0)
    options = parser.parse_args()
    examples = rows(options.problems, options.each)
    found = {}
    for share in (True, False):
        with tempfile.TemporaryDirectory(prefix="flywheel-training-") as folder:
            section = TrainSection(epochs=options.epochs, share_prompts=share, save_steps=100_000)
            found[share], whole = rate(examples, section, Path(folder))
        name = "shared prompts" if share else "one row each"
        print(f"{name:15} {found[share]:7.0f} tokens/s   {whole:6.1f} s in all for {len(examples)} rows", flush=True)
    print(f"shared / plain  {found[True] / found[False]:7.2f}")


if __name__ == "__main__":
    main()
