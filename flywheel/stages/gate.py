"""The gate's work: decide on the candidate, and try its mixtures with the champion before it is rejected.

A mixture is made and measured in a scope of its own below the round's folder, by stages with keys and manifests of
their own: a kill costs no mixture that was finished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flywheel import store
from flywheel.errors import ModelError
from flywheel.gate import Decision, Metrics, decide
from flywheel.models import model_digest
from flywheel.repair import Mixture, repaired
from flywheel.scope import Scope
from flywheel.stages.keys import round_index
from flywheel.stages.stage import Stage, run_stage
from flywheel.training.average import interpolate
from flywheel.types import Generation


def gating(evaluate: Stage) -> Callable[[Scope, str], dict[str, Any]]:
    """The work of the stage `gate`; mixtures are measured by the stage `evaluate`."""

    def gate_stage(scope: Scope, key: str) -> dict[str, Any]:
        """Whether the candidate becomes champion, as it was trained or mixed with the one there is."""
        run = scope.run
        champion = run.policy_generation(round_index(scope))
        decision, record, tokens = _decide(scope, champion), None, 0
        if not decision.accepted and run.recipe.gate.repair == "interpolate":
            decision, record, tokens = _repair(scope, champion, decision, evaluate)
        content = {**decision.as_json(), "champion_before": champion.index, "repair": record}
        store.write_json(scope.folder / "gate.json", content)
        if not decision.accepted or record:
            for reason in decision.reasons:
                run.reporter.message(f"{scope.label} · {'accepted' if decision.accepted else 'rejected'}: {reason}")
        cost = {"alpha": record["taken"], "tokens": tokens} if record else {}
        return {"accepted": decision.accepted, "reasons": decision.reasons, **cost}

    return gate_stage


def _metrics(scope: Scope) -> Metrics:
    found: Metrics = store.read_json(scope.folder / "metrics.json")
    return found


def _decide(scope: Scope, champion: Generation) -> Decision:
    run = scope.run
    return decide(
        _metrics(scope),
        _metrics(run.evaluation_of(champion)),
        _metrics(run.baseline()),
        gate=run.recipe.gate,
        evaluate=run.recipe.evaluate,
        seed=run.recipe.seed,
    )


def _repair(
    scope: Scope, champion: Generation, decision: Decision, evaluate: Stage
) -> tuple[Decision, dict[str, Any], int]:
    """Mix, measure and choose; the decision, what `gate.json` keeps of it, and the tokens it cost."""
    run, mixtures, tokens = scope.run, [], 0
    k = str(run.recipe.evaluate.samples)
    try:
        for alpha in run.recipe.gate.alphas:
            mixture = run.mixture(round_index(scope), alpha)
            run_stage(INTERPOLATE, mixture)
            tokens += run_stage(evaluate, mixture)["tokens"]
            pass_at = _metrics(mixture)["dev"]["pass_at"]
            # A k that no problem has judged completions for is absent.
            mixtures.append(Mixture(alpha, _decide(mixture, champion), pass_at.get("1", 0.0), pass_at.get(k, 0.0)))
    except ModelError as error:  # of another shape, or not safetensors: the candidate stays as it was judged
        record: dict[str, Any] = {"method": "interpolate", "taken": None, "mixtures": [], "impossible": str(error)}
        reasons = [*decision.reasons, f"it could not be mixed with the champion: {error}"]
        return Decision(False, reasons, decision.checks), record, tokens
    before = _metrics(run.evaluation_of(champion))["dev"]["pass_at"].get("1", 0.0)
    return *repaired(decision, mixtures, before), tokens


def _mixed_models(scope: Scope) -> dict[str, Any]:
    run, index = scope.run, round_index(scope)
    return {
        "champion": run.model_digest(run.policy_generation(index)),
        "candidate": run.model_digest(run.generation(scope.generation)),
    }


def _interpolate_stage(scope: Scope, key: str) -> dict[str, Any]:
    run, index = scope.run, round_index(scope)
    assert scope.alpha is not None
    champion, candidate = run.policy_generation(index), run.generation(scope.generation)
    interpolate(run.model_path(champion), run.model_path(candidate), scope.alpha, scope.folder / "model")
    return {"digest": model_digest(scope.folder / "model")}


INTERPOLATE = Stage(
    "interpolate", 1, lambda _: ("model",), lambda s: {"alpha": s.alpha}, _mixed_models, _interpolate_stage
)
