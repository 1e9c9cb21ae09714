"""Can a model judge its own kind of answers? Pairs of a right and a wrong answer, each shown to it in both orders.

    python benchmarks/judge_pairs.py                                # the judge of the recipe self_judge, 24 pairs
    python benchmarks/judge_pairs.py --recipe mine.toml --pairs 100

The wrong answer is the right one and up to ten more or less. Says how many pairs the judge decides, and for which of
the two; what turns with the order is not decided. The alternatives are left out: the other answer is the only rival.
"""

from __future__ import annotations

import argparse
from collections import Counter

from flywheel.fingerprint import rng
from flywheel.plugins import make_verifier
from flywheel.problems import load_problems
from flywheel.recipe import load_recipe
from flywheel.types import Split
from flywheel.verifiers.judge import Judge


def main() -> None:
    """Read the command line, judge, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="self_judge")
    parser.add_argument("--pairs", type=int, default=24)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    own = {"alternatives": [], "rivals": 1, "max_inconsistent": 0.0, "unsure": "error", "threshold": 1.0}
    judge = make_verifier(recipe.verify.verifier, {**recipe.verify.options, **own})
    if not isinstance(judge, Judge):
        raise SystemExit(f"{arguments.recipe} has the verifier {recipe.verify.verifier!r}; give a recipe with a judge")
    problems = [p for p in load_problems(recipe).problems if p.split == Split.TRAIN][: arguments.pairs]
    came_to: Counter[str] = Counter()
    details: Counter[str] = Counter()
    for number, problem in enumerate(problems):
        wrong = str(int(problem.answer) + rng("judge_pairs", number).choice([-10, -3, -1, 1, 2, 10]))
        right_one, wrong_one = judge.verify_group(problem, [f"The answer is {a}." for a in (problem.answer, wrong)])
        outcome = {("correct", "wrong"): "for the right one", ("wrong", "correct"): "for the wrong one"}
        came_to[outcome.get((str(right_one.outcome), str(wrong_one.outcome)), "undecided")] += 1
        details[right_one.detail] += 1
    judge.close()
    print(f"{len(problems)} pairs: {dict(came_to)}")
    for detail, times in details.most_common(5):
        print(f"{times:5d}  {detail}")


if __name__ == "__main__":
    main()
