"""What a model answers on passages it has learnt in different words: the table of a finished `self_edit` run.

    python benchmarks/edits.py runs/self_edit

For the test passages, which no round trained on, the share of questions answered without the passage in sight: by the
untouched model; after the inner fine-tune on the passage itself, as one line and a sentence a line; after that on the
edits of the run's base, and on those of its champion, whose scores the finale has. The same verifier with the run's
options judges all of them. Intervals of 95 % are over passages, differences paired by passage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from flywheel import store
from flywheel.figures import share
from flywheel.measures.passk import interval
from flywheel.plugins import make_verifier
from flywheel.run import Run
from flywheel.types import Outcome, Problem, Split, Verdict
from flywheel.verifiers.self_edit import SelfEdit

Scores = dict[str, float]
"""Passage id → share of its questions that are answered."""


def main() -> None:
    """Judge the passages themselves, and put the edits' scores beside them."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--json", action="store_true", help="the scores by passage as JSON")
    options = parser.parse_args()
    run = Run.load(options.run)
    judge = make_verifier("self_edit", run.recipe.verify.options)
    if not isinstance(judge, SelfEdit):
        parser.error(f"self_edit is {type(judge).__name__} here, not flywheel's own")
    passages = run.split(Split.TEST)
    rows = {
        "untouched": {p.id: judge.answered_before(p) for p in passages},
        "the passage, as one line": learnt_from(judge, passages, "{0}"),
        "the passage, a sentence a line": learnt_from(judge, passages, "{1}"),
        "the base's edits": of_edits(run, 0),
        "the champion's edits": of_edits(run, run.champion().index),
    }
    print(json.dumps(rows, indent=1) if options.json else "\n".join(table(run, rows)))


def learnt_from(judge: SelfEdit, passages: list[Problem], form: str) -> Scores:
    """The scores of edits that are the passages themselves: `{0}` a whole one, `{1}` its sentences on lines."""
    scores = {}
    for problem in passages:
        text = problem.prompt.rpartition("\n")[2]  # the generator's prompt ends with the passage
        judged = judge.verify(problem, form.format(text, text.replace(". ", ".\n")))
        print(f"{problem.id}: {judged.score:.2f}", file=sys.stderr)
        scores[problem.id] = judged.score
    return scores


def of_edits(run: Run, generation: int) -> Scores:
    """The mean score of a generation's edits of each test passage; an edit without a line teaches nothing (0)."""
    scores: dict[str, list[float]] = {}
    for v in store.read_rows(run.finale().folder / f"generation_{generation:03d}_verdicts.parquet", Verdict):
        if v.outcome != Outcome.ERROR:
            scores.setdefault(v.problem_id, []).append(v.score)
    return {problem: sum(found) / len(found) for problem, found in scores.items()}


def table(run: Run, rows: dict[str, Scores]) -> list[str]:
    """The rows as Markdown, each beside the one of the base's edits."""
    section, seed = run.recipe.evaluate, run.recipe.seed
    lines = ["| learnt from | questions answered | − the base's edits |", "|---|---|---|"]
    edits = rows["the base's edits"]
    for name, scores in rows.items():
        values = np.array([scores[p] for p in sorted(scores)])
        low, high = interval(values, section, seed=seed)
        cells = [name, f"{share(values.mean())} [{share(low)}, {share(high)}]"]
        both = sorted(scores.keys() & edits.keys())
        difference = np.array([scores[p] - edits[p] for p in both])
        low, high = interval(difference, section, seed=seed)
        cells.append("" if scores is edits else f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
