"""The model card of a champion: README.md in its folder, with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel import __version__, store
from flywheel.recipe import ProblemSource, Recipe
from flywheel.types import Generation
from flywheel.view import RunView

NAME = "README.md"
HUB_NAMES = {"smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Bases that a recipe calls by a name of ours."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def write_card(run: RunView) -> Path | None:
    """Write the champion's card into its folder, anew once test figures are there; None where the base is champion."""
    champion = run.champion()
    folder = run.directory / champion.path
    if champion.index == 0 or not folder.is_dir():
        return None
    path = folder / NAME
    with store.replacing(path) as temporary:
        temporary.write_text(card(run, champion), encoding="utf-8")
    return path


def card(run: RunView, champion: Generation) -> str:
    """The card's text. It holds no clock and no path of this machine, so that the same run gives the same card."""
    test = _test(run, champion)
    return "\n".join(["---", *_front_matter(run, champion, test), "---", "", *_body(run, champion, test), ""])


def _test(run: RunView, champion: Generation) -> dict[str, Any] | None:
    """The test figures, once the finale has measured this champion."""
    if "finale" not in run.finale().manifest.entries():
        return None
    metrics = store.read_json(run.finale().folder / "metrics.json")
    return metrics["test"] if metrics["champion"] == champion.index else None


def base_name(recipe: Recipe) -> tuple[str, bool]:
    """What the base is called, and whether that is its name on the Hub. Of a local path only the last part is told."""
    base = HUB_NAMES.get(recipe.model.base, recipe.model.base)
    local = Path(base).expanduser()
    if _HUB_ID.fullmatch(base) and not local.exists():
        return base, True
    return local.name, False


# ---- what machines read --------------------------------------------------------------------------


def _front_matter(run: RunView, champion: Generation, test: dict[str, Any] | None) -> Iterator[str]:
    """YAML, each value written as JSON, which is YAML too: no text of a recipe can change its structure."""
    base, on_hub = base_name(run.recipe)
    fields: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if on_hub:
        fields |= {"base_model": base, "base_model_relation": "finetune"}
    named = [source_name(source) for source in _sources(run.recipe)]
    if datasets := list(dict.fromkeys(name for name, from_hub in named if from_hub)):
        fields["datasets"] = datasets
    fields["tags"] = ["flywheel", "expert-iteration", "rejection-sampling-fine-tuning", f"recipe:{run.recipe.name}"]
    measured, split = (test["champion"], "test") if test else (champion.metrics["dev"], "dev")
    fields["model-index"] = [
        {
            "name": f"{run.recipe.name}, generation {champion.index}",
            "results": [
                {
                    "task": {"type": "text-generation"},
                    "dataset": {"name": _told(run.recipe.problems), "type": named[0][0], "split": split},
                    "metrics": [
                        {"type": f"pass@{k}", "name": f"pass@{k} ({split})", "value": round(value, 4)}
                        for k, value in sorted(measured["pass_at"].items(), key=lambda item: int(item[0]))
                    ],
                }
            ],
        }
    ]
    for name, value in fields.items():
        yield f"{name}: {json.dumps(value, ensure_ascii=False)}"


def _sources(recipe: Recipe) -> list[ProblemSource]:
    return [recipe.problems, *recipe.ood]


def source_name(source: ProblemSource) -> tuple[str, bool]:
    """What problems are called, and whether that is their name on the Hub: a task, a generator, a data set, or files.
    Of a local path only the last part is told."""
    if source.source == "file":
        paths = source.path if isinstance(source.path, list) else [source.path or ""]
        return ", ".join(Path(path).name for path in paths), False
    if source.source == "reasoning_gym":
        return source.name, False
    on_hub = source.source == "datasets" and not Path(source.name).expanduser().exists()
    if on_hub and _HUB_ID.fullmatch(source.name):
        return source.name, True
    return Path(source.name).name, False


def _told(source: ProblemSource) -> str:
    """What the problems are called, for people."""
    name, _ = source_name(source)
    return f"reasoning-gym {name}" if source.source == "reasoning_gym" else name


# ---- what people read ----------------------------------------------------------------------------


def _body(run: RunView, champion: Generation, test: dict[str, Any] | None) -> Iterator[str]:
    recipe = run.recipe
    base, on_hub = base_name(recipe)
    shown = f"[{base}](https://huggingface.co/{base})" if on_hub else f"`{base}`"
    counts = run.facts["problems"]["counts"]
    yield f"# {recipe.name}, generation {champion.index}"
    yield ""
    yield f"{shown}, {_method(recipe)}, with flywheel {__version__}."
    if recipe.gate.enabled:
        yield "A gate accepts or rejects each generation."
    yield ""
    yield "## Figures"
    yield ""
    yield from _figures(run, champion, test)
    yield ""
    yield "## How it was made"
    yield ""
    yield f"- Recipe `{recipe.name}`{f': {recipe.description}' if recipe.description else ''}."
    yield f"- Problems: {_told(recipe.problems)}; {', '.join(f'{n:,} {name}' for name, n in sorted(counts.items()))}."
    yield f"- Verifier: {_verifiers(run)}."
    yield from _lineage(run, champion)
    yield ""
    yield "## Limits"
    yield ""
    yield from _limits(run, test)


def _method(recipe: Recipe) -> str:
    """What made these weights, as the end of a sentence."""
    whose = "answers of its own and of other models" if recipe.sampling.extra else "its own answers"
    if recipe.train.objective == "grpo":
        return "trained by policy gradients (GRPO) on the rewards of its own completions"
    if recipe.filter.by != "verdict":
        return (
            f'fine-tuned on {whose} whatever the verifier said of them (`filter.by = "{recipe.filter.by}"`): a control'
        )
    return f"fine-tuned by expert iteration: rounds of sampling, verification, and training on what was kept of {whose}"


def _figures(run: RunView, champion: Generation, test: dict[str, Any] | None) -> Iterator[str]:
    percent = f"{run.recipe.evaluate.confidence * 100:g} %"
    asked = f"temperature {run.recipe.evaluate.temperature:g}, {run.recipe.evaluate.samples} completions a problem"
    if test is None:
        dev, base = champion.metrics["dev"], run.generation(0).metrics["dev"]
        yield f"On {dev['n_problems']:,} dev problems ({asked}), by which it was chosen: these are optimistic."
        yield "The test split is measured when the run ends."
        yield from _rates(base, dev, champion.metrics["dev"].get("against_base") or {})
    else:
        yield f"On {test['champion']['n_problems']:,} test problems that nothing was selected on ({asked}):"
        yield from _rates(test["base"], test["champion"], test["difference"])
    yield ""
    yield f"Brackets are {percent} bootstrap intervals over problems; the gain is paired by problem."
    for label, measured in champion.metrics.get("ood", {}).items():
        before = run.generation(0).metrics["ood"].get(label)
        if before and "1" in before["pass_at"] and "1" in measured["pass_at"]:
            yield ""
            yield f"Out of distribution, {label}: pass@1 {_rate(before, '1')} → {_rate(measured, '1')}."


def _rates(base: dict[str, Any], champion: dict[str, Any], gains: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "| | base | this model | gain |"
    yield "|---|---|---|---|"
    for k in sorted(champion["pass_at"], key=int):
        gain = gains.get(k)
        told = f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" if gain else "–"
        yield f"| pass@{k} | {_rate(base, k)} | {_rate(champion, k)} | {told} |"


def _rate(measured: dict[str, Any], k: str) -> str:
    if k not in measured["pass_at"]:
        return "–"
    low, high = measured["intervals"].get(k, (None, None))
    interval = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
    return f"{measured['pass_at'][k]:.3f}{interval}"


def _verifiers(run: RunView) -> str:
    found = run.facts.get("verifiers", {})
    named = [(Path(name).name, identity.get("version", "")) for name, identity in sorted(found.items())]
    return ", ".join(f"`{name}` {version}".rstrip() for name, version in named)


def _lineage(run: RunView, champion: Generation) -> Iterator[str]:
    """The rounds whose training led to this model, from the base on."""
    generations = {g.index: g for g in run.generations()}
    chain, at = [], champion
    while at.parent is not None:
        chain.append(at)
        at = generations[at.parent]
    yield f"- Trained in {len(chain)} round{'s' * (len(chain) != 1)} on top of the base:"
    for generation in reversed(chain):
        train = run.round(generation.index - 1).manifest.entries()["train"].info
        mixed = (
            ""
            if generation.alpha is None
            else f"; {generation.alpha:g} of it mixed with {1 - generation.alpha:g} of its parent"
        )
        origins = ", ".join(f"{n:,} {origin}" for origin, n in train["origins"].items())
        learnt = [f"{train['rows']:,} rows ({origins})"] if train["rows"] else []
        if "pairs" in train:
            learnt.append(f"{train['pairs']['pairs']:,} preference pairs")
        if "lessons" in train:
            learnt.append(f"{train['lessons']:,} lessons from itself, told the solution")
        yield f"  - round {generation.index - 1}: {', '.join(learnt)}{mixed}."
    section = run.recipe.train
    yield (
        f"- {section.epochs:g} epochs a round, learning rate {section.learning_rate:g}, {section.schedule}, batches of "
        f"{section.batch_size}{f', LoRA rank {section.lora.rank}' if section.lora else ''}; seed {run.recipe.seed}."
    )
    yield f"- Digest of the weights: `{run.model_digest(champion)}`."


def _limits(run: RunView, test: dict[str, Any] | None) -> Iterator[str]:
    elsewhere = "was measured only on the sets above" if run.recipe.ood else "was not measured"
    yield "- It was trained and measured on the problems above and on nothing else."
    yield f"  What it may have lost elsewhere {elsewhere}."
    yield "- Right means that the verifier accepted the final answer; the reasoning before it may be wrong."
    if test is None:
        yield "- The dev split chose this model, so its figures there are too good."
    yield "- Its licence follows from the base model's and the problems'; flywheel sets none."
