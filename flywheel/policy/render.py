"""The one place where chat templates are applied: sampling and training render a conversation alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.errors import ModelError
from flywheel.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(model_path: Path, chat_template: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with the recipe's `model.chat_template` in place of its own if given.

    Raises ModelError where the folder has none, or no chat template is to be had.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{model_path} has no tokenizer that can be read: {_first_line(error)}") from None
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if tokenizer.chat_template is None:
        raise ModelError(f"{model_path} has no chat template; give one as model.chat_template in the recipe")
    return tokenizer


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """The text a model is asked with: the conversation in its chat template, up to where the answer begins.

    Raises ModelError where the template refuses the conversation (some allow no system turn).
    """
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        roles = ", ".join(m["role"] for m in messages)
        raise ModelError(f"the chat template refuses a conversation of the turns {roles}: {error}") from None
    assert isinstance(text, str)
    return text


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """The tokens of `render_prompt`. The template writes special tokens itself, so none is added (no doubled BOS)."""
    ids = tokenizer(render_prompt(tokenizer, messages), add_special_tokens=False)["input_ids"]
    assert isinstance(ids, list)
    return ids


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
