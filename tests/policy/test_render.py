"""Chat templates are applied in one place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flywheel.errors import ModelError
from flywheel.policy.render import load_tokenizer, prompt_ids, render_prompt

ASKED = [{"role": "user", "content": "1 + 1?"}]


def test_prompt_and_tokens_agree(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    assert render_prompt(tokenizer, ASKED) == "<|user|>1 + 1?<|end|><|assistant|>"
    assert tokenizer.decode(prompt_ids(tokenizer, ASKED)) == render_prompt(tokenizer, ASKED)


def test_no_token_is_added_to_what_the_template_writes(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model, chat_template="<|end|>{{ messages[0]['content'] }}")
    tokenizer.bos_token = "<|end|>"
    assert prompt_ids(tokenizer, ASKED).count(tokenizer.bos_token_id) == 1


def test_the_recipe_template_wins(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model, chat_template="Q: {{ messages[0]['content'] }} A:")
    assert render_prompt(tokenizer, ASKED) == "Q: 1 + 1? A:"


def test_a_template_that_refuses(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model, chat_template="{{ raise_exception('no system turn') }}")
    with pytest.raises(ModelError, match=r"refuses a conversation of the turns system, user: no system turn"):
        render_prompt(tokenizer, [{"role": "system", "content": "Be brief."}, *ASKED])


def test_no_tokenizer_and_no_template(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no tokenizer that can be read"):
        load_tokenizer(tmp_path)
    copy = tmp_path / "bare"
    shutil.copytree(tiny_model, copy)
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"has no chat template; give one as model.chat_template"):
        load_tokenizer(copy)
