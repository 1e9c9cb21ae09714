"""What a round learns from beside its examples: preference pairs, lessons, general data."""

from __future__ import annotations

from typing import Any

from flywheel import store
from flywheel.errors import RunError
from flywheel.lessons import lessons_of
from flywheel.measures.contamination import HeldOut
from flywheel.mix import rounds_kept
from flywheel.models import model_digest
from flywheel.online import TRAINED
from flywheel.pairs import Judged, preference_pairs
from flywheel.prompts import conversation
from flywheel.scope import Scope
from flywheel.stages.keys import round_index, rounds_to_learn
from flywheel.types import Example, Lesson, Origin, Pair, Problem, Sample, Verdict


def pairs_of(scope: Scope) -> tuple[list[Pair], dict[str, int]]:
    """The pairs of the rounds that `data.keep` names, and why problems of this one gave none."""
    kept = set(rounds_to_learn(scope)) & set(rounds_kept(scope.recipe, round_index(scope)))
    return preference_pairs([_judged(scope.run.round(i)) for i in sorted(kept)], scope.recipe.train.dpo)


def read_lessons(scope: Scope) -> tuple[list[Lesson], dict[str, int]]:
    """The lessons of the round's own samples, and why others give none."""
    run, section = scope.run, scope.run.recipe.filter
    judged = _judged(scope)
    held_out = None
    if section.contamination:
        held_out = HeldOut(
            run.frozen_problems, share=section.contamination_share, template_share=run.recipe.problems.template_share
        )
    return lessons_of(
        judged.samples,
        judged.verdicts,
        run.problem_by_id,
        scope.recipe.train.privileged,
        system=run.recipe.model.system,
        held_out=held_out,
    )


def problems_with_solutions(scope: Scope) -> tuple[list[Problem], int]:
    """The train problems whose human solutions may be learnt, and how many are refused because their prompt or their
    solution carries a held-out problem, as an example of theirs would be."""
    run, problems, section = scope.run, scope.train_problems, scope.run.recipe.filter
    if not (scope.recipe.mix.human and section.contamination):
        return problems, 0
    held_out = HeldOut(
        run.frozen_problems, share=section.contamination_share, template_share=run.recipe.problems.template_share
    )
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
    section = run.recipe.filter
    held_out = HeldOut(
        run.frozen_problems, share=section.contamination_share, template_share=run.recipe.problems.template_share
    )
    rows = [(p, p.solution or p.answer) for p in store.read_rows(file, Problem)]
    asked = {p.prompt for p in run.problems}
    others = [(p, said) for p, said in rows if p.prompt not in asked]
    clean = [(p, said) for p, said in others if not (section.contamination and held_out.carried(p, said))]
    system, index = run.recipe.model.system, round_index(scope)
    examples = [Example(p.id, p.id, index, conversation(p, system), said, Origin.GENERAL) for p, said in clean]
    return examples, len(rows) - len(clean)


def _judged(scope: Scope) -> Judged:
    verdicts = store.read_rows(scope.folder / "verdicts.parquet", Verdict)
    return Judged(
        store.read_rows(scope.folder / "samples.parquet", Sample),
        {v.sample_id: v for v in verdicts},
        store.read_rows(scope.folder / "examples.parquet", Example),
    )


def take_trained(scope: Scope) -> dict[str, Any]:
    """The weights that an online round's sampling has left, as its candidate; there are no rows to train on."""
    info = scope.manifest.entries()["sample"].info
    store.write_rows(scope.folder / "training_set.parquet", Example, [])
    store.link(scope.folder / TRAINED, scope.folder / "model")
    metrics = info["learnt"]
    return {
        "parent": scope.run.starting_generation(round_index(scope)).index,
        "rows": metrics["completions"],
        "origins": {},
        "digest": model_digest(scope.folder / "model"),
        **metrics,
    }


def sampled_files(scope: Scope) -> tuple[str, ...]:
    """The files of the stage `sample`."""
    return ("samples.parquet", *([TRAINED] if scope.run.recipe.train.objective == "grpo" else []))


def learnt_files(scope: Scope) -> tuple[str, ...]:
    """The files of the stage `train`."""
    beside = {"dpo": "pairs.parquet", "privileged": "lessons.parquet"}
    return ("training_set.parquet", *(beside[s] for s in scope.recipe.train.stages if s in beside), "model")
