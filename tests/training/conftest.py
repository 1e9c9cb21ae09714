"""A random model of a few thousand weights with a tokenizer of single characters, in an ordinary model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flywheel.types import Example

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write_tiny_model(folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    characters = [*SPECIAL, *(chr(c) for c in range(32, 127)), "\n"]
    bare = Tokenizer(models.BPE({c: i for i, c in enumerate(characters)}, [], unk_token=SPECIAL[0]))
    bare.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        additional_special_tokens=SPECIAL,
        chat_template=TEMPLATE,
    )
    config = LlamaConfig(
        vocab_size=len(characters),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {"eos_token_id": [2, 0], "temperature": 0.7, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


def sums(problems: int, each: int) -> list[Example]:
    """Examples of small sums, `each` a problem, written in different ways."""
    ways = ("{s}", "= {s}", "{a}+{b} = {s}", "so {s}", "it is {s}")
    return [
        Example(
            f"r000/p{a}/{i:03d}",
            f"p{a}",
            0,
            [{"role": "user", "content": f"{a} + 7 = ?"}],
            ways[i % len(ways)].format(a=a, b=7, s=a + 7),
            "policy",
        )
        for a in range(problems)
        for i in range(each)
    ]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))
