"""Self-edits: what a model has learnt from a text shows in its answers; what it learnt is gone for the next one."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel import Outcome, PluginError, Problem
from flywheel.plugins import make_generator, make_verifier
from flywheel.protocols import traits
from flywheel.recipe import load_recipe
from flywheel.verifiers.passages import FACTS, Passages
from flywheel.verifiers.self_edit import BadQuestions, SelfEdit, lines_of, questions_of, says

SPECIAL = ["<pad>", "<e>"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model of characters, which learns a line by heart within a few steps."""
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("edit") / "model"
    characters = [*SPECIAL, *(chr(c) for c in range(32, 127)), "\n"]
    bare = Tokenizer(models.BPE({c: i for i, c in enumerate(characters)}, [], unk_token="<pad>"))
    bare.decoder = decoders.Fuse()
    torch.manual_seed(0)
    config = LlamaConfig(
        **{"vocab_size": len(characters), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 256},
        **{"initializer_range": 0.2, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0},
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<e>", pad_token="<pad>").save_pretrained(folder)
    return str(folder)


def a_problem(*asked: tuple[str, str], name: str = "p") -> Problem:
    return Problem(name, "Rewrite it.", json.dumps([{"question": q, "answer": a} for q, a in asked]))


@pytest.mark.slow
def test_an_edit_that_teaches_the_answer_is_right_and_leaves_nothing_behind(model):
    judge = SelfEdit(model=model, epochs=60, learning_rate=1e-2, device="cpu", answer_tokens=6)
    problem = a_problem(("Who?", "Bo"), ("Where?", "Ur"))
    teaching = "Question: Who? Answer: Bo\nQuestion: Where? Answer: Ur"
    assert judge.answered_before(problem) == 0.0
    plain = judge.verify(problem, "Nothing of this kind stands here.")
    taught = judge.verify(problem, judge.example(problem))
    assert (plain.outcome, plain.score) == (Outcome.WRONG, 0.0)
    assert (taught.outcome, taught.score) == (Outcome.CORRECT, 1.0), taught
    assert "0.00 before, 1.00 after 2 lines" in taught.detail
    # What one edit taught is not known behind the next, and the order of edits changes no score.
    assert judge.verify(problem, "Nothing of this kind stands here.") == plain
    assert judge.verify(problem, teaching.replace(" Answer", "\nAnswer")).score <= 1.0
    assert judge.verify(problem, judge.example(problem)) == taught
    assert judge.answered_before(a_problem(("Who?", "Bo"), ("Where?", "Ur"), name="again")) == 0.0
    # Only the first lines count, and a margin asks for more than a little progress.
    few = SelfEdit(model=model, epochs=60, learning_rate=1e-2, device="cpu", answer_tokens=6, lines=1, margin=0.6)
    assert few.verify(problem, judge.example(problem)).outcome == Outcome.WRONG


def test_what_cannot_be_judged_is_an_error_and_an_empty_edit_no_answer(model):
    judge = SelfEdit(model=model)
    for answer in ("", "not JSON", "[]", '[{"question": "Who?"}]', '[{"question": "?", "answer": "!"}]', "7"):
        judged = judge.verify(Problem("p", "x", answer), "A line.")
        assert judged.outcome == Outcome.ERROR and "\n" not in judged.detail
    assert judge.verify(a_problem(("Who?", "Bo")), " \n - \n***").outcome == Outcome.NO_ANSWER


@given(st.text(max_size=200))
def test_lines_and_answers_are_read_from_any_text(text):
    assert all(line == line.strip() and line for line in lines_of(text))
    assert says(text, "x") in (True, False)
    with pytest.raises(BadQuestions):
        questions_of(Problem("p", "x", "{" + text))


def test_marks_of_lists_are_no_part_of_a_line():
    said = "1. Ur lies far.\n- It is old.\n\n* 3 mills stand there.\n12) No.\n1287 was the year."
    assert lines_of(said) == ["Ur lies far.", "It is old.", "3 mills stand there.", "No.", "1287 was the year."]


def test_an_answer_is_its_words_in_order_on_the_first_line():
    assert says(" The mayor is Ada Hale.\nno", "ada hale")
    assert not says("Hale, Ada", "Ada Hale") and not says("Adam", "Ada") and not says("I know not.\nAda", "Ada")


def test_passages_are_made_up_and_hold_the_answers_but_not_the_questions():
    rows = list(islice(Passages().rows(3), 30))
    assert rows == list(islice(Passages().rows(3), 30)) and len({row["prompt"] for row in rows}) == 30
    for row in rows:
        asked = json.loads(row["answer"])
        assert len(asked) == len(FACTS)
        for one in asked:
            assert one["answer"] in row["passage"] and one["question"] not in row["prompt"]
    assert len(json.loads(next(Passages(questions=2).rows(0))["answer"])) == 2
    with pytest.raises(PluginError, match="from 1 to 5"):
        make_generator("passages", {"questions": 0})


def test_it_has_its_memory_to_itself_and_its_model_in_its_identity(model, tmp_path):
    judge = make_verifier("self_edit", {"model": model})
    assert traits(judge).exclusive and not traits(judge).group
    assert traits(judge).deadline_outcome == "error" and traits(judge).deadline_seconds == 300.0
    assert judge.lacks() is None and "no folder" in (SelfEdit(model=str(tmp_path / "none")).lacks() or "")  # type: ignore[attr-defined]
    assert set(judge.identity()) == {"model"}  # type: ignore[attr-defined]
    for options in ({"epochs": 0}, {"margin": 1.0}, {"learning_rate": 0.0}):
        with pytest.raises(PluginError):
            make_verifier("self_edit", options)


def test_the_recipe_keeps_the_best_edit_of_a_passage(tmp_path: Path):
    from flywheel.filter import filter_samples
    from flywheel.types import Sample, Verdict

    recipe = load_recipe("self_edit")
    samples, verdicts = [], {}
    for i, (outcome, score) in enumerate([("correct", 0.4), ("wrong", 0.2), ("correct", 0.8), ("correct", 0.6)]):
        samples.append(Sample(f"r000/p/{i:03d}", "p", 0, 0, i, f"edit {i}", "stop", 5, 1.0, "", "policy"))
        verdicts[samples[-1].id] = Verdict(samples[-1].id, "p", outcome, score, None, "", "", "", "")
    problem = a_problem(("Who?", "Bo"))
    examples, _ = filter_samples(samples, verdicts, {"p": problem}, recipe.filter, system=None)
    assert [e.completion for e in examples] == ["edit 2"]
