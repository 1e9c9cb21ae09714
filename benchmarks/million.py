"""What a million samples cost: all metrics, the filter's rules and the report, in time and memory.

    python benchmarks/million.py [--samples 1000000] [--problems-of 8] [--steps metrics,filter,report]

Writes synthetic samples and verdicts (arithmetic answers of about 60 words, a third of them right, in a few hundred
thousand wordings) as the Parquet files of a run, then times each step in a process of its own at a quarter, a half and
all of them, so that its growth shows, and says the most memory that it held. Microseconds are the processor's.

    metrics    `flywheel.evaluate.measure_table` over the files, paired with the counts of another generation
    filter     `flywheel.filter.filter_samples` over rows, with 1,000 held-out problems to look for
    report     `flywheel.report.write_report` of a run (of the toy policy, one round) whose round has these samples
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from flywheel import store
from flywheel.evaluate import measure_table
from flywheel.filter import filter_samples
from flywheel.loop import spin
from flywheel.measures.contamination import HeldOut
from flywheel.measures.table import counts, read_judged
from flywheel.recipe import EvaluateSection, FilterSection, load_recipe
from flywheel.report import write_report
from flywheel.run import Run
from flywheel.types import Dropped, Outcome, Problem, Sample, Split, Verdict

CHUNK = 20_000
STEPS = ("metrics", "filter", "report")
MOST_BYTES = 5_000_000
"""Of a report."""
OPENINGS = ("Let me see.", "First, I add them up.", "Okay, step by step.", "Wait, let me check that.", "Here is how:")
PLACES = ("market", "mill", "harbour", "orchard", "library", "station", "meadow", "bakery")


def a_completion(chance: random.Random, right: bool) -> tuple[str, int]:
    """A worked answer of about 60 words, and what it comes to."""
    a, b, c = (chance.randint(2, 99) for _ in range(3))
    answer = a + b - c if right else a + b - c + chance.randint(1, 9)
    one, two = chance.choices(PLACES, k=2)
    text = (
        f"{chance.choice(OPENINGS)} At the {one} there were {a} of them, and then {b} more came from the {two}, which "
        f"makes {a} + {b} = {a + b} all together. Perhaps some of these were counted twice, so I go through it once "
        f"more.\n- from the {one}: {a}\n- from the {two}: {b}\nAfter that {c} left again, so {a + b} - {c} = {answer}. "
        f"The answer is {answer}."
    )
    return text, answer


def chunks(samples: int, a_problem: int) -> Iterator[tuple[list[Sample], list[Verdict]]]:
    """Samples and verdicts in pieces, drawn from their position."""
    for start in range(0, samples, CHUNK):
        rows, verdicts = [], []
        for i in range(start, min(samples, start + CHUNK)):
            chance = random.Random(i)
            problem, index = f"p{i // a_problem:06d}", i % a_problem
            right = chance.random() < (i // a_problem % 100) / 150
            text, answer = a_completion(chance, right)
            name = f"r000/{problem}/{index:03d}"
            rows.append(Sample(name, problem, 0, 0, index, text, "stop", 90, 1.0, "{prompt}", "policy", -0.7))
            outcome = Outcome.CORRECT if right else Outcome.WRONG
            verdicts.append(Verdict(name, problem, outcome, float(right), str(answer), "", "math", "2", "worker"))
        yield rows, verdicts


def write(folder: Path, samples: int, a_problem: int) -> None:
    """The Parquet files that a round of so many samples leaves."""
    schemas = {"samples": store.arrow_schema(Sample), "verdicts": store.arrow_schema(Verdict)}
    files = {n: pq.ParquetWriter(folder / f"{n}.parquet", schema, compression="zstd") for n, schema in schemas.items()}
    for rows, verdicts in chunks(samples, a_problem):
        files["samples"].write_table(store.to_table(Sample, rows))
        files["verdicts"].write_table(store.to_table(Verdict, verdicts))
    for file in files.values():
        file.close()


def problems(count: int) -> dict[str, Problem]:
    """The problems asked, and 1,000 held-out ones that no sample carries."""
    asked = [Problem(f"p{i:06d}", f"Problem {i}: how many are left?", "1") for i in range(count)]
    chance = random.Random(0)
    secret = [
        Problem(
            f"d{i}",
            " ".join(f"{chance.choice(PLACES)}{chance.randint(0, 99)}" for _ in range(40)),
            "1",
            split=Split.DEV,
        )
        for i in range(1000)
    ]
    return {p.id: p for p in [*asked, *secret]}


def metrics(folder: Path) -> None:
    """All metrics of a set, against the counts of another generation."""
    section = EvaluateSection(samples=8)
    table = read_judged(folder / "samples.parquet", folder / "verdicts.parquet")
    own = counts(table)
    other = {problem: (n, max(0, c - 1)) for problem, (n, c) in own.items()}
    measured = measure_table(table, section, seed=0, base=other, champion=own)
    store.write_json(folder / "metrics.json", measured)


def filtered(folder: Path) -> None:
    """Every rule of the filter with its defaults, contamination included."""
    rows = store.read_rows(folder / "samples.parquet", Sample)
    verdicts = {v.sample_id: v for v in store.read_rows(folder / "verdicts.parquet", Verdict)}
    known = problems(len({s.problem_id for s in rows}))
    held_out = HeldOut(list(known.values()), share=0.7, template_share=0.05)
    examples, dropped = filter_samples(rows, verdicts, known, FilterSection(), system=None, held_out=held_out)
    if len(examples) + len(dropped) != len(rows):
        raise SystemExit(f"{len(rows)} samples became {len(examples)} examples and {len(dropped)} dropped ones")


def reported(folder: Path) -> None:
    """The page of the run that `write_run` made. Exits where it is larger than a page may be."""
    size = write_report(Run.load(folder / "run")).stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"the report has {size:,} bytes; at most {MOST_BYTES:,} were to be")


WORK = {"metrics": metrics, "filter": filtered, "report": reported}


def write_run(folder: Path, samples: int, a_problem: int) -> None:
    """A run of the toy policy whose only round has these samples; the wrong ones are its dropped ones."""
    recipe = load_recipe("toy", ["stop.max_rounds=1", "problems.count=40", "problems.dev=8", "problems.test=8"])
    with Run.open(recipe, folder / "run") as run:
        spin(run)
    round_0 = run.round(0).folder
    for name in ("samples", "verdicts"):
        (folder / f"{name}.parquet").rename(round_0 / f"{name}.parquet")
        (folder / f"{name}.parquet").symlink_to(round_0 / f"{name}.parquet")
    known = problems(-(-samples // a_problem)).values()
    store.write_rows(folder / "run/problems.parquet", Problem, [*run.problems, *known])
    schema = store.arrow_schema(Dropped)
    with pq.ParquetWriter(round_0 / "dropped.parquet", schema, compression="zstd") as file:
        for _, verdicts in chunks(samples, a_problem):
            wrong = [v for v in verdicts if v.outcome != Outcome.CORRECT]
            rows = [Dropped(v.sample_id, v.problem_id, 0, str(v.outcome)) for v in wrong]
            file.write_table(store.to_table(Dropped, rows))


def measured(step: str, folder: Path) -> list[float]:
    """Seconds, processor seconds and GiB of a step in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--do", step, str(folder)], capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure each step at three sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--problems-of", type=int, default=8, help="samples a problem")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--do", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        started = time.perf_counter()
        WORK[given.do[0]](Path(given.do[1]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux gives KiB
        print(json.dumps([time.perf_counter() - started, time.process_time(), peak]))
        return
    print(f"{'step':10s} {'samples':>10s} {'seconds':>8s} {'processor s':>12s} {'µs a sample':>12s} {'GiB':>6s}")
    for size in (given.samples // 4, given.samples // 2, given.samples):
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch), size, given.problems_of)
            if "report" in given.steps.split(","):
                write_run(Path(scratch), size, given.problems_of)
            for step in given.steps.split(","):
                seconds, busy, peak = measured(step, Path(scratch))
                each = 1e6 * busy / size
                print(f"{step:10s} {size:10,d} {seconds:8.1f} {busy:12.1f} {each:12.1f} {peak:6.2f}", flush=True)


if __name__ == "__main__":
    main()
