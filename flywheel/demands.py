"""What a recipe's sampling levers demand of problems, files and verifiers: checked before anything costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from flywheel.errors import RecipeError
from flywheel.judgeable import answer_is_question, undecidable, unfit_for
from flywheel.plugins import make_verifier
from flywheel.problem_sources import describe
from flywheel.prompt_files import read_examples, read_paraphrases
from flywheel.prompts import Shot
from flywheel.protocols import Traits, label_free, traits
from flywheel.recipe import Recipe, VerifySection
from flywheel.types import Problem, Split


def check_levers(recipe: Recipe, problems: Sequence[Problem], traits: Callable[[Problem], Traits]) -> None:
    """Raise RecipeError, in one line, where a lever cannot work with a run's train `problems` or their verifiers.

    `traits` tells how the verifier of a problem wants to be called.
    """
    few_shot = recipe.sampling.few_shot
    if few_shot.count:
        pool = examples_of(recipe, problems)
        if len(pool) <= few_shot.count:
            where = few_shot.path or "train problems with a solution (problems.columns.solution)"
            raise RecipeError(
                f"sampling.few_shot.count = {few_shot.count} takes at least {few_shot.count + 1} examples to choose "
                f"from, one of which may be the problem itself; {where} gives {len(pool)}"
            )
    if recipe.sampling.paraphrases:
        read_paraphrases(recipe.sampling.paraphrases, problems)
    if recipe.hints.k and "{solution}" in recipe.hints.template and not any(p.solution for p in problems):
        raise RecipeError(
            "hints.template shows {solution} and no train problem has one; map one with problems.columns.solution, or "
            "show {answer}"
        )
    privileged = recipe.train.objective == "privileged" and "{solution}" in recipe.train.privileged.template
    if privileged and not any(p.solution for p in problems):
        raise RecipeError(
            "train.privileged.template shows {solution} and no train problem has one; map one with "
            "problems.columns.solution, or show {answer}"
        )
    _check_told(recipe, problems)
    _check_steps(recipe, problems)
    _check_verdicts(recipe, problems, traits)


def _check_told(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """A hint, or a teacher that is told the solution, needs more than the question in other words."""
    templates = {
        "hints.template": recipe.hints.template if recipe.hints.k else None,
        "train.privileged.template": recipe.train.privileged.template if "privileged" in recipe.train.stages else None,
    }
    without = [field for field, template in templates.items() if template and "{solution}" not in template]
    names = sorted({p.verifier or recipe.verify.verifier for p in problems} if without else ())
    if names and all(answer_is_question(make_verifier(n, recipe.verify.options_of(n))) for n in names):
        raise RecipeError(
            f"{without[0]} shows {{answer}}, which for verifier {names[0]!r} states what is asked (a theorem without "
            "its proof) and so tells nothing; show {solution}"
        )


def _check_steps(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """A trainer that samples by itself needs a round's completions to fill one optimiser step."""
    if recipe.train.objective != "grpo":
        return
    propose, sampling, size = recipe.propose, recipe.sampling, recipe.train.grpo.batch_size
    known = 0 if propose.kind and propose.ask == "new" else len(problems)
    asked = known + (propose.count if propose.kind else 0)
    asked = min(asked, sampling.problems or asked)
    if asked * sampling.k < size:
        raise RecipeError(
            f"train.grpo.batch_size = {size} completions is one optimiser step, and a round has {asked * sampling.k}: "
            f"{asked} problems with sampling.k = {sampling.k}; lower batch_size, or give more problems"
        )


def _check_verdicts(recipe: Recipe, problems: Sequence[Problem], traits: Callable[[Problem], Traits]) -> None:
    """Levers that decide from verdicts need them one completion at a time, and while the engine is there."""
    levers = {
        "sampling.budget.mode = 'adaptive'": recipe.sampling.budget.mode == "adaptive",
        "hints.k": bool(recipe.hints.k),
        "correction.k": bool(recipe.correction.k),
        "sampling.sweep.temperatures": bool(recipe.sampling.sweep.temperatures),
    }
    used = {p.verifier or recipe.verify.verifier: p for p in problems}
    for name, problem in used.items():
        if recipe.train.objective == "grpo" and traits(problem).exclusive:
            raise RecipeError(
                f"train.objective = 'grpo' asks verifier {name!r} at every step, and it needs the memory that the "
                "trainer holds; take another verifier"
            )
    for lever in (name for name, on in levers.items() if on):
        for name, problem in used.items():
            if traits(problem).group:
                reason = "judges all completions of a problem as one"
            elif traits(problem).exclusive and not lever.startswith("sampling.sweep"):
                reason = "needs the memory that the engine holds until a round is sampled"
            else:
                continue
            raise RecipeError(
                f"{lever} decides from single verdicts before a round's end, and verifier {name!r} {reason}; "
                "leave that lever out or take another verifier"
            )


def check_votes(recipe: Recipe, problems: Sequence[Problem], traits: Callable[[Problem], Traits]) -> None:
    """Raise RecipeError where a verifier that votes would get fewer completions of a problem than a vote takes.

    `problems` are all of the run's, held-out ones included.
    """
    seen = {(p.verifier or recipe.verify.verifier, p.split == Split.TRAIN and not p.ood): p for p in problems}
    for (name, trained_on), problem in seen.items():
        field, count = (
            ("sampling.k", recipe.sampling.k) if trained_on else ("evaluate.samples", recipe.evaluate.samples)
        )
        if (votes := traits(problem).min_votes) > count:
            raise RecipeError(
                f"verifier {name!r} takes {votes} completions of a problem for a vote (min_votes), and {field} = "
                f"{count} gives it {count}; raise {field} or take a verifier that judges single completions"
            )
        if why := undecidable(make_verifier(name, recipe.verify.options_of(name)), count):
            raise RecipeError(
                f"{_named(recipe.verify, name)} with {field} = {count} could judge nothing: {why}; raise {field}, or "
                "change the verifier's options"
            )


def check_fit(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Raise RecipeError where a verifier could judge none of the problems that it is to judge.

    `problems` are all of the run's. A few that it cannot judge are the round's affair (`verify.max_error_share`).
    """
    verify = recipe.verify
    judged: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        judged[problem.verifier or verify.verifier].append(problem)
    if verify.observer is not None:
        judged[verify.observer] += [p for p in problems if p.split == Split.TRAIN and not p.ood]
    for name, its in judged.items():
        verifier = make_verifier(name, verify.options_of(name))
        if all(unfit_for(verifier, problem) for problem in its):
            raise RecipeError(
                f"{_named(verify, name)} can judge none of its {len(its)} problems ({describe(recipe.problems)}); "
                f"{its[0].id!r}: {unfit_for(verifier, its[0])}; take another verifier, other options, or problems that "
                "are made for it"
            )


def _named(verify: VerifySection, name: str) -> str:
    """A verifier by the field that names it, or as that of single problems."""
    for field in ("verifier", "held_out", "observer"):
        if getattr(verify, field) == name:
            return f"verify.{field} = {name!r}"
    return f"the problems' own verifier {name!r}"


def check_evaluation(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Raise RecipeError where `evaluate.by` names a field that no held-out problem of the run has."""
    by = recipe.evaluate.by
    if by is None:
        return
    held_out = [p for p in problems if p.split != Split.TRAIN or p.ood]
    fields = {name for p in held_out for name, value in p.meta.items() if isinstance(value, str | int | float)}
    if by not in fields:
        there = f"they have {', '.join(sorted(fields))}" if fields else "they have no field of their own"
        raise RecipeError(f"evaluate.by = {by!r} is a field of no held-out problem; {there}, or leave it out")


def check_label_free(recipe: Recipe) -> None:
    """Raise RecipeError where problems that the policy writes would be judged by reference answers, which they lack."""
    name = recipe.verify.verifier
    if recipe.propose.kind == "model" and not label_free(make_verifier(name, recipe.verify.options)):
        raise RecipeError(
            f"propose.kind = 'model' with verify.verifier = {name!r}: what the policy writes has no "
            "reference answer, and this verifier is not known to do without (label_free); take 'majority' or 'judge'"
        )


def check_observer(recipe: Recipe) -> None:
    """Raise RecipeError where `verify.observer` does not judge completions one by one beside an engine."""
    verify = recipe.verify
    if verify.observer is None:
        return
    how = traits(make_verifier(verify.observer, verify.options_of(verify.observer)))
    if how.group or how.exclusive:
        needs = "all completions of a problem at once" if how.group else "the engine's memory"
        raise RecipeError(f"verify.observer = {verify.observer!r} needs {needs}; name one such as 'math'")


def examples_of(recipe: Recipe, problems: Sequence[Problem]) -> list[Shot]:
    """What few-shot blocks are drawn from: the recipe's file, else the solutions of train `problems`."""
    if recipe.sampling.few_shot.path:
        return read_examples(recipe.sampling.few_shot.path)
    return [Shot(id=p.id, prompt=p.prompt, completion=p.solution) for p in problems if p.solution]
