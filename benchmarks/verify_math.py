"""Throughput of the `math` verifier beside math-verify called directly, on the same rows in the same run.

    python benchmarks/verify_math.py [--data FOLDER] [--workers 2] [--rows 2000]

Three sets of rows: grade-school answers (`gsm8k_test.jsonl`), competition answers (`math500_test.jsonl`), and
math-verify's own test suite (`math_cases_mathverify.jsonl`), read from --data or the folder in FLYWHEEL_DATA. Where a
file is not there, rows of the same kind are made up and the table says so. Each reference is met by a right completion
and, from another row, a wrong one. math-verify runs in this process as its users call it, `verify(parse(gold), parse(completion))`, and is
loaded before the clock starts; ours runs in the pool that a run uses, with its start outside the clock as well. A
second figure calls our verifier in this process.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from flywheel import Problem, Sample
from flywheel.recipe import VerifySection
from flywheel.verifiers.math import Math
from flywheel.verify import VerifierPool

Row = tuple[str, str]
"""A reference and a completion."""


def main() -> None:
    """Print a table: rows a second for each, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=os.environ.get("FLYWHEEL_DATA", ""), help="folder with the .jsonl files")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=2000, help="at most so many rows of each set")
    options = parser.parse_args()
    theirs = _math_verify()
    print(f"{'rows':32} {'n':>5} {'math-verify':>12} {'ours, 1 proc':>13} {'ours, pool':>11} {'ratio':>7}   agree")
    for title, rows in _sets(Path(options.data) if options.data else None, options.rows):
        direct, their_verdicts = _timed(theirs, rows)
        alone, _ = _timed(_ours(), rows)
        pooled, our_verdicts = _pool(rows, options.workers)
        agree = sum(a == b for a, b in zip(their_verdicts, our_verdicts, strict=True)) / len(rows)
        rates = f"{direct:10.0f}/s {alone:11.0f}/s {pooled:9.0f}/s {pooled / direct:6.1f}x"
        print(f"{title:32} {len(rows):5} {rates}   {agree:.1%}")


def _timed(verify: Callable[[str, str], bool], rows: list[Row]) -> tuple[float, list[bool]]:
    verify("\\boxed{x+1}", "\\boxed{1+x}")
    start = time.perf_counter()
    verdicts = [verify(gold, completion) for gold, completion in rows]
    return len(rows) / (time.perf_counter() - start), verdicts


def _math_verify() -> Callable[[str, str], bool]:
    from math_verify import parse, verify

    logging.disable(logging.ERROR)
    return lambda gold, completion: bool(verify(parse(gold), parse(completion)))


def _ours() -> Callable[[str, str], bool]:
    verifier = Math(last_number=True, last_maths=True)
    return lambda gold, completion: verifier.verify(Problem("p", "", gold), completion).outcome == "correct"


def _pool(rows: list[Row], workers: int) -> tuple[float, list[bool]]:
    problems = [Problem(f"p{i}", "", gold) for i, (gold, _) in enumerate(rows)]
    samples = [
        Sample(f"s{i}", f"p{i}", 0, 0, 0, text, "stop", 1, 1.0, "", "policy") for i, (_, text) in enumerate(rows)
    ]
    section = VerifySection(verifier="math", options={"last_number": True, "last_maths": True}, workers=workers)
    with VerifierPool(section) as pool:
        warm = [Problem("w", "", "\\int_0^1 x dx")]
        loads = [
            Sample(f"w{i}", "w", 0, 0, 0, "\\boxed{0.5}", "stop", 1, 1.0, "", "policy") for i in range(4 * workers)
        ]
        pool.submit(warm, loads).result()
        start = time.perf_counter()
        verdicts = pool.submit(problems, samples).result()
        rate = len(rows) / (time.perf_counter() - start)
    return rate, [v.outcome == "correct" for v in verdicts]


def _sample(name: str, problem: str, text: str) -> Sample:
    return Sample(name, problem, 0, 0, 0, text, "stop", 1, 1.0, "", "policy")


# -- rows -------------------------------------------------------------------------------------------


def _sets(data: Path | None, most: int) -> list[tuple[str, list[Row]]]:
    return [
        _read(data, "gsm8k_test.jsonl", "answer", "grade school", _made_up_grade_school, most),
        _read(data, "math500_test.jsonl", "answer", "competition", _made_up_competition, most),
        _suite(data, most),
    ]


def _read(
    data: Path | None, name: str, field: str, kind: str, make: Callable[[], list[Row]], most: int
) -> tuple[str, list[Row]]:
    if data is None or not (data / name).is_file():
        return f"{kind} (made up)", make()[:most]
    rows = [json.loads(line) for line in (data / name).read_text().splitlines()]
    solutions = [str(r.get("solution") or f"The answer is \\boxed{{{r[field]}}}.") for r in rows]
    pairs = [(f"\\boxed{{{r[field]}}}", s) for r, s in zip(rows, solutions, strict=True)]
    pairs += [(f"\\boxed{{{r[field]}}}", s) for r, s in zip(rows, solutions[1:] + solutions[:1], strict=True)]
    random.Random(0).shuffle(pairs)
    return f"{kind} ({name})", pairs[:most]


def _suite(data: Path | None, most: int) -> tuple[str, list[Row]]:
    path = data / "math_cases_mathverify.jsonl" if data is not None else None
    if path is None or not path.is_file():
        return "suite-like (made up)", _made_up_competition()[:most]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return "math-verify's own suite", [(r["gold"], r["pred"]) for r in rows][:most]


def _made_up_grade_school() -> list[Row]:
    """Short solutions that end as GSM8K's do, half of them right."""
    draw = random.Random(0)
    rows = []
    for _ in range(2000):
        price, count = draw.randint(2, 900), draw.randint(2, 40)
        right = price * count
        said = right if draw.random() < 0.5 else right + draw.randint(1, 9)
        steps = f"Each one costs ${price}. There are {count} of them, so {count} * {price} = {right}."
        rows.append((f"\\boxed{{{right:,}}}", f"{steps}\n#### {said}"))
    return rows


def _made_up_competition() -> list[Row]:
    """Surds, fractions, pairs, intervals and polynomials, each against an equal and an unequal form."""
    rows: list[Row] = []
    for n in range(2, 52):
        forms = [
            (f"\\sqrt{{{n * n * 3}}}", f"{n}\\sqrt{{3}}"),
            (f"\\frac{{{n}}}{{{n + 2}}}", f"\\dfrac{{{2 * n}}}{{{2 * n + 4}}}"),
            (f"({n},\\frac{{1}}{{2}})", f"\\left({n}, 0.5\\right)"),
            (f"[{n},\\infty)", f"x \\ge {n}"),
            (f"x^2-{n * n}", f"(x-{n})(x+{n})"),
        ]
        for i, (gold, equal) in enumerate(forms):
            unequal = forms[i - 1][1]
            rows += [(f"\\boxed{{{gold}}}", f"So it is $\\boxed{{{said}}}$.") for said in (equal, unequal)]
    return rows


if __name__ == "__main__":
    main()
