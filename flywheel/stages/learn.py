"""What a round learns from beside its examples: preference pairs, lessons, general data."""

from __future__ import annotations

from flywheel import store
from flywheel.errors import RunError
from flywheel.lessons import lessons_of
from flywheel.measures.contamination import HeldOut
from flywheel.mix import rounds_kept
from flywheel.pairs import Judged, preference_pairs
from flywheel.prompts import conversation
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.stages.keys import round_index, rounds_to_learn
from flywheel.types import Example, Lesson, Origin, Pair, Problem, Sample, Verdict


def pairs_of(scope: Scope) -> tuple[list[Pair], dict[str, int]]:
    """The pairs of the rounds that `data.keep` names, and why problems of this one gave none."""
    kept = set(rounds_to_learn(scope)) & set(rounds_kept(scope.recipe, round_index(scope)))
    return preference_pairs([_judged(scope.run.round(i)) for i in sorted(kept)], scope.recipe.train.dpo)


def read_lessons(scope: Scope) -> tuple[list[Lesson], dict[str, int]]:
    """The lessons of the round's own samples, and why others give none."""
    run, judged = scope.run, _judged(scope)
    return lessons_of(
        judged.samples,
        judged.verdicts,
        run.problem_by_id,
        scope.recipe.train.privileged,
        system=run.recipe.model.system,
        held_out=held_out_text(run),
    )


def problems_with_solutions(scope: Scope) -> tuple[list[Problem], int]:
    """The train problems whose human solutions may be learnt, and how many are refused because their prompt or their
    solution carries a held-out problem, as an example of theirs would be."""
    problems = scope.train_problems
    held_out = held_out_text(scope.run) if scope.recipe.mix.human else None
    if held_out is None:
        return problems, 0
    clean = [p for p in problems if not (p.solution and held_out.carried(p, p.solution))]
    return clean, len(problems) - len(clean)


def general_rows(scope: Scope) -> tuple[list[Example], int]:
    """The run's general data as examples, and how many rows were refused: problems of the run (a row would tell the
    policy what it is to find), and what carries a held-out one."""
    run = scope.run
    if not scope.recipe.mix.general:
        return [], 0
    file = run.directory / "general.parquet"
    if not file.is_file():
        raise RunError(
            f"mix.general is set, but {run.directory} was started without it and has no general data; start a new run"
        )
    held_out = held_out_text(run)
    rows = [(p, p.solution or p.answer) for p in store.read_rows(file, Problem)]
    asked = {p.prompt for p in run.problems}
    others = [(p, said) for p, said in rows if p.prompt not in asked]
    clean = [(p, said) for p, said in others if not (held_out and held_out.carried(p, said))]
    system, index = run.recipe.model.system, round_index(scope)
    examples = [Example(p.id, p.id, index, conversation(p, system), said, Origin.GENERAL) for p, said in clean]
    return examples, len(rows) - len(clean)


def held_out_text(run: Run) -> HeldOut | None:
    """The text of held-out problems, which nothing learnt may carry; None where `filter.contamination` is off."""
    section = run.recipe.filter
    if not section.contamination:
        return None
    return HeldOut(
        run.frozen_problems, share=section.contamination_share, template_share=run.recipe.problems.template_share
    )


def _judged(scope: Scope) -> Judged:
    verdicts = store.read_rows(scope.folder / "verdicts.parquet", Verdict)
    return Judged(
        store.read_rows(scope.folder / "samples.parquet", Sample),
        {v.sample_id: v for v in verdicts},
        store.read_rows(scope.folder / "examples.parquet", Example),
    )
