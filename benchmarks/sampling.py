"""How fast flywheel samples with vLLM on this machine, against vLLM called directly.

    python benchmarks/sampling.py [--problems 32] [--samples 8] [--repeats 4] [--compiled]

Three engines load the same model and answer the same arithmetic prompts, turn about, so that what else
the machine does falls on all of them alike:

    flywheel   the policy that a recipe opens, in its guarded child process
    direct     vLLM's own LLM class in one script, with the same engine arguments and environment
    eager      LLM(model=..., enforce_eager=True), vLLM's defaults but for compiling
    defaults   LLM(model=...) with nothing set at all; compiling takes it minutes on a CPU, which every
               generation would pay anew (only with --compiled)

and ratios of tokens a second: flywheel to direct (what our layers cost and our sampler saves), and flywheel to
vLLM's defaults (what our settings bring), each over all turns, with its range from turn to turn in brackets: a
shared machine's noise. Loading and one warm-up call are not in the times. The two default engines get the same
key-value cache as ours, without which vLLM asks for nine tenths of the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.models import resolve_base
from flywheel.policy import Request
from flywheel.policy.opening import open_policy
from flywheel.policy.vllm import engine_arguments, environments, on_cpu
from flywheel.recipe import ModelSection, PolicySection, VllmOptions

LONGEST = 512
MAX_TOKENS = 128
MODEL = ModelSection()
Draw = Callable[[int], tuple[int, float]]  # from the number of problems to tokens and seconds


def prompts(count: int) -> list[str]:
    """Sums of two or three terms, as reasoning-gym words them."""
    import reasoning_gym

    made = reasoning_gym.create_dataset(
        "chain_sum", size=count, seed=7, min_terms=2, max_terms=3, min_digits=1, max_digits=2
    )
    return [entry["question"] for entry in made]


def through_flywheel(path: Path, options: VllmOptions, samples: int, folder: Path) -> tuple[Draw, Callable[[], None]]:
    """The policy of a recipe."""
    section = PolicySection(name="vllm", vllm=options)
    policy = open_policy(
        section, MODEL, path, seed=0, max_model_len=LONGEST, log=folder / "engine.log", pid_dir=folder / "pids"
    )

    def draw(count: int) -> tuple[int, float]:
        asked = [
            Request(str(n), [{"role": "user", "content": text}], tuple(range(samples)), 1.0, MAX_TOKENS)
            for n, text in enumerate(prompts(count))
        ]
        started = time.perf_counter()
        tokens = sum(c.tokens for group in policy.generate(asked) for c in group)
        return tokens, time.perf_counter() - started

    return draw, policy.close


def in_script(path: Path, kind: str, options: VllmOptions, samples: int) -> tuple[Draw, Callable[[], None]]:
    """vLLM called directly, in a process of its own that answers a number with tokens and seconds."""
    settings: dict[str, Any] = {"model": str(path), "seed": 0}
    environment = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if kind == "eager":
        settings["enforce_eager"] = True
    if kind == "direct":
        settings = engine_arguments(path, MODEL, options, cpu=on_cpu(), seed=0, max_model_len=LONGEST)
        environment = environments(options)[0]
    child = subprocess.Popen(
        [sys.executable, __file__, "--serve", json.dumps(settings), "--samples", str(samples)],
        env={**os.environ, **environment, "VLLM_LOGGING_LEVEL": "ERROR"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None
    asking, answering = child.stdin, child.stdout

    def draw(count: int) -> tuple[int, float]:
        asking.write(f"{count}\n")
        asking.flush()
        for line in answering:  # vLLM prints lines of its own
            if line.startswith("DREW "):
                _, tokens, seconds = line.split()
                return int(tokens), float(seconds)
        raise SystemExit(f"the {kind} engine ended with exit code {child.wait()}")

    def close() -> None:
        asking.close()
        child.wait()

    return draw, close


def serve(settings: dict[str, Any], samples: int) -> None:
    """Answer each number on standard input by drawing for so many problems."""
    from vllm import LLM, SamplingParams

    engine = LLM(**settings)
    tokenizer = engine.get_tokenizer()
    parameters = SamplingParams(temperature=1.0, n=samples, max_tokens=MAX_TOKENS)
    for line in sys.stdin:
        asked = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in prompts(int(line))
        ]
        started = time.perf_counter()
        outputs = engine.generate(asked, parameters, use_tqdm=False)
        seconds = time.perf_counter() - started
        tokens = sum(len(c.token_ids) for output in outputs for c in output.outputs)
        sys.stdout.write(f"\nDREW {tokens} {seconds}\n")
        sys.stdout.flush()


def measure(options: VllmOptions, problems: int, samples: int, repeats: int, *, compiled: bool) -> None:
    """Print the table and the ratios."""
    path = resolve_base(MODEL)
    turns: dict[str, list[tuple[int, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        engines = {
            "flywheel": lambda: through_flywheel(path, options, samples, Path(folder)),
            "direct": lambda: in_script(path, "direct", options, samples),
            "eager": lambda: in_script(path, "eager", options, samples),
            "defaults": lambda: in_script(path, "defaults", options, samples),
        }
        if not compiled:
            del engines["defaults"]
        running: dict[str, tuple[Draw, Callable[[], None]]] = {}
        try:
            for name, start in engines.items():
                started = time.perf_counter()
                running[name] = start()
                running[name][0](4)
                sys.stdout.write(f"{name:9} loaded and warm in {time.perf_counter() - started:.0f} s\n")
                turns[name] = []
            for turn in range(repeats):
                for name, (draw, _) in running.items():
                    tokens, seconds = draw(problems)
                    turns[name].append((tokens, seconds))
                    sys.stdout.write(f"turn {turn + 1} {name:9} {tokens / seconds:7.0f} tokens/s\n")
                    sys.stdout.flush()
        finally:
            for _, close in running.values():
                close()
    for name in turns:
        speed = _speed(turns[name])
        sys.stdout.write(f"{name:9} {speed:7.0f} tokens/s over {repeats} turns of {problems} prompts x {samples}\n")
    goals = {"direct": "goal: at least 0.95", "eager": "goal on a CPU: at least 1.7", "defaults": "compiled"}
    for name, goal in goals.items():
        if name in turns:
            each = [
                _speed([ours]) / _speed([theirs]) for ours, theirs in zip(turns["flywheel"], turns[name], strict=True)
            ]
            ratio = _speed(turns["flywheel"]) / _speed(turns[name])
            sys.stdout.write(f"flywheel / {name:8} {ratio:.2f} [{min(each):.2f}, {max(each):.2f}]  ({goal})\n")


def _speed(turns: list[tuple[int, float]]) -> float:
    return sum(tokens for tokens, _ in turns) / sum(seconds for _, seconds in turns)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=32, help="prompts a turn")
    parser.add_argument("--samples", type=int, default=8, help="completions a prompt")
    parser.add_argument("--repeats", type=int, default=4, help="turns for each engine")
    parser.add_argument("--options", default="{}", help="policy.vllm options to measure, as JSON")
    parser.add_argument("--compiled", action="store_true", help="measure vLLM's compiled defaults as well")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(json.loads(given.serve), given.samples)
    else:
        measure(
            VllmOptions(**json.loads(given.options)),
            given.problems,
            given.samples,
            given.repeats,
            compiled=given.compiled,
        )


if __name__ == "__main__":
    main()
