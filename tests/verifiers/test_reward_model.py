"""The reward model: a real sequence-classification model, tiny and random, scores conversations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from flywheel import ModelError, Outcome, PluginError, Problem, Sample
from flywheel.identity import verifier_identity
from flywheel.plugins import make_verifier
from flywheel.protocols import traits
from flywheel.recipe import VerifySection
from flywheel.verifiers.reward_model import RewardModel
from flywheel.verify import VerifierPool

TEMPLATE = "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}<e>{% endfor %}"
SPECIAL = ["<pad>", "<e>", "<s>", "<u>", "<a>"]


def write_model(folder: Path, *, outputs: int = 1, pad: str | None = "<pad>", template: str | None = TEMPLATE) -> Path:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    characters = [*SPECIAL, *(chr(c) for c in range(32, 127)), "\n"]
    bare = Tokenizer(models.BPE({c: i for i, c in enumerate(characters)}, [], unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token="<e>", pad_token=pad, additional_special_tokens=SPECIAL, chat_template=template
    )
    torch.manual_seed(3)
    config = LlamaConfig(
        **{"vocab_size": len(characters), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "num_labels": outputs},
        **{
            "initializer_range": 0.4,
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": None if pad is None else 0,
        },
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("reward") / "model"))


PROBLEM = Problem(id="p", prompt="What is 6 * 7?", answer="42")
TEXTS = ["42", "It is forty-two, I think, because six sevens are that.", "no", "x" * 150, "42 42 42", "?"]


def raw(judgement: Any) -> float:
    return float(judgement.detail.split()[1])


def test_a_completion_scores_the_same_alone_and_in_any_batch(model: str) -> None:
    alone = [RewardModel(model=model).verify(PROBLEM, t).score for t in TEXTS]
    assert len({round(s, 3) for s in alone}) == len(TEXTS), "the random model should tell them apart"
    for size in (1, 2, 4, 16):
        batch = RewardModel(model=model, batch_size=size).verify_batch([PROBLEM] * len(TEXTS), TEXTS)
        assert [j.score for j in batch] == pytest.approx(alone, abs=1e-5)


def test_a_tokenizer_that_pads_on_the_left_or_not_at_all_changes_nothing(model: str, tmp_path: Path) -> None:
    import json

    expected = [j.score for j in RewardModel(model=model).verify_batch([PROBLEM] * len(TEXTS), TEXTS)]
    left = write_model(tmp_path / "left")
    settings = json.loads((left / "tokenizer_config.json").read_text())
    (left / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    unpadded = write_model(tmp_path / "unpadded", pad=None)
    for folder in (left, unpadded):
        own = RewardModel(model=str(folder))
        batch = [j.score for j in own.verify_batch([PROBLEM] * len(TEXTS), TEXTS)]
        assert batch == pytest.approx([own.verify(PROBLEM, t).score for t in TEXTS], abs=1e-5)
        if folder == left:
            assert batch == pytest.approx(expected, abs=1e-5)


def test_prompt_and_completion_go_through_the_chat_template(model: str) -> None:
    reward = RewardModel(model=model)
    ids, note = reward._tokens(PROBLEM, "42")
    assert reward._ready()[1].decode(ids).replace(" ", "") == "<u>Whatis6*7?<e><a>42<e>" and note == ""
    talk = Problem(
        id="q", prompt="", answer="", messages=[{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    )
    assert reward._ready()[1].decode(reward._tokens(talk, "A")[0]).replace(" ", "") == "<s>S<e><u>U<e><a>A<e>"


def test_a_model_without_a_template_gets_plain_text(tmp_path: Path) -> None:
    reward = RewardModel(model=str(write_model(tmp_path / "plain", template=None)))
    assert reward._ready()[1].decode(reward._tokens(PROBLEM, "42")[0]).replace(" ", "") == "Whatis6*7?\n\n42"
    assert reward.verify(PROBLEM, "42").outcome != Outcome.ERROR


def test_the_score_is_the_sigmoid_of_the_raw_output(model: str) -> None:
    judged = RewardModel(model=model).verify(PROBLEM, "42")
    assert judged.score == pytest.approx(1 / (1 + math.exp(-raw(judged))), abs=1e-3)
    moved = RewardModel(model=model, centre=raw(judged)).verify(PROBLEM, "42")
    assert moved.score == pytest.approx(0.5, abs=1e-3)
    wide = RewardModel(model=model, centre=raw(judged) - 1, spread=2.0).verify(PROBLEM, "42")
    assert wide.score == pytest.approx(1 / (1 + math.exp(-0.5)), abs=1e-3)


def test_right_is_the_threshold(model: str) -> None:
    score = RewardModel(model=model).verify(PROBLEM, "42").score
    assert RewardModel(model=model, threshold=score - 1e-4).verify(PROBLEM, "42").outcome == Outcome.CORRECT
    assert RewardModel(model=model, threshold=score + 1e-4).verify(PROBLEM, "42").outcome == Outcome.WRONG


def test_of_several_outputs_one_label_s_probability_counts(tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "three", outputs=3))
    scores = [RewardModel(model=folder, label=n).verify(PROBLEM, "42").score for n in range(3)]
    assert sum(scores) == pytest.approx(1.0, abs=1e-6)
    assert RewardModel(model=folder).verify(PROBLEM, "42").score == scores[2]
    with pytest.raises(ModelError, match="has 3 outputs, and so no output 3"):
        RewardModel(model=folder, label=3).verify(PROBLEM, "42")


def test_truncation_keeps_the_end_and_says_so(model: str) -> None:
    short = RewardModel(model=model, max_length=40)
    judged = short.verify_batch([PROBLEM] * 2, ["y" * 200 + "42", "42"])
    assert judged[0].detail.endswith("· cut to its last 40 of 220 tokens"), judged[0]
    (judged_whole,) = RewardModel(model=model).verify_batch([PROBLEM], ["x" * 1000])
    assert "· cut to its last 512 of " in judged_whole.detail, "it has no more positions, whatever max_length says"
    assert "cut" not in judged[1].detail
    assert judged[0].score == pytest.approx(short.verify(PROBLEM, "y" * 300 + "42").score, abs=1e-5)


def test_any_text_is_scored_or_has_no_answer(model: str) -> None:
    nasty = ["", " \n", "\x00", "\ud800", "é数", "x" * 100_000]
    judged = RewardModel(model=model, max_length=256).verify_batch([PROBLEM] * len(nasty), nasty)
    assert [str(j.outcome) for j in judged[:2]] == ["no_answer", "no_answer"]
    assert all(j.outcome in (Outcome.CORRECT, Outcome.WRONG) for j in judged[2:])


def test_a_model_that_is_not_there_is_lacking(model: str, tmp_path: Path) -> None:
    assert RewardModel(model=model).lacks() is None
    assert str(tmp_path / "nowhere") in (RewardModel(model=str(tmp_path / "nowhere")).lacks() or "")


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path, model: str) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaForCausalLM

    loaded = AutoModelForSequenceClassification.from_pretrained(model)
    LlamaForCausalLM(loaded.config).save_pretrained(tmp_path / "causal")
    AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "causal")
    with pytest.raises(ModelError, match="no trained sequence-classification model"):
        RewardModel(model=str(tmp_path / "causal")).verify(PROBLEM, "42")


def test_through_a_worker(model: str) -> None:
    section = VerifySection(verifier="reward_model", options={"model": model}, workers=2, deadline_seconds=30.0)
    samples = [Sample(f"s{i}", "p", 0, 0, i, t, "stop", 1, 1.0, "", "policy") for i, t in enumerate(TEXTS)]
    with VerifierPool(section) as pool:
        verdicts = pool.submit([PROBLEM], samples).result(120)
    expected = RewardModel(model=model).verify_batch([PROBLEM] * len(TEXTS), TEXTS)
    assert [v.score for v in verdicts] == pytest.approx([j.score for j in expected], abs=1e-5)
    assert [v.outcome for v in verdicts] == [j.outcome for j in expected]


def test_a_model_that_is_not_there_is_an_error_of_each_sample(tmp_path: Path) -> None:
    section = VerifySection(verifier="reward_model", options={"model": str(tmp_path)}, workers=1)
    with VerifierPool(section) as pool:
        (verdict,) = pool.submit([PROBLEM], [Sample("s", "p", 0, 0, 0, "x", "stop", 1, 1.0, "", "policy")]).result(120)
    assert verdict.outcome == "error" and verdict.detail.startswith("ModelError: ")


def test_traits_and_identity(model: str, tmp_path: Path) -> None:
    made = make_verifier("reward_model", {"model": model, "batch_size": 5})
    assert traits(made).exclusive and traits(made).batch and traits(made).at_once == 5
    other = str(write_model(tmp_path / "other", outputs=2))
    first, second = (verifier_identity("reward_model", {"model": m})["identity"] for m in (model, other))
    assert first != second


def test_options_that_do_not_fit_are_refused(model: str) -> None:
    for options in (
        {},
        {"model": model, "threshold": 2.0},
        {"model": model, "spread": 0.0},
        {"model": model, "batch_size": 0},
    ):
        with pytest.raises(PluginError):
            make_verifier("reward_model", options)
