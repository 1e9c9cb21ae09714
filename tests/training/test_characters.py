"""The model of characters: an ordinary folder, taught nothing but short sums, the same after a kill."""

from __future__ import annotations

import pytest

from flywheel.recipe import CharactersOptions
from flywheel.sums import Style, write

TINY = CharactersOptions(
    **{"digits": 3, "hints": 8, "layers": ["near", "nope"], "width": 8, "inner": 8, "heads": 2},
    **{"steps": 8, "batch_size": 6, "save_steps": 3},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from flywheel.training.characters import pretrain

    place = tmp_path_factory.mktemp("characters")
    pretrain(TINY, place / "model", place / "work")
    return place / "model"


def test_sums_are_of_at_most_the_bases_digits_and_the_short_ones_come_first():
    from flywheel.training.characters import lengths_at

    options = CharactersOptions(steps=100, curriculum=0.4, digits=6, batch_size=12)
    longest = [max(lengths_at(step, options)) for step in range(options.steps)]
    assert longest == [2] * 20 + [3] * 20 + [6] * 60
    shown = lengths_at(99, options)
    assert {length: shown.count(length) for length in set(shown)} == dict.fromkeys(range(1, 7), 2)
    assert len(lengths_at(0, options)) == 36
    assert max(lengths_at(0, options.model_copy(update={"curriculum": 0.0}))) == 6


def test_only_the_answer_and_the_end_are_learnt():
    from flywheel.training.characters import encoded, vocabulary

    tokens = vocabulary()
    inputs, targets = encoded([write(5, 3, 1, Style("columns", 8)), write(35, 21, 2, Style("columns", 8))])
    names = {number: token for token, number in tokens.items()}
    assert [names[int(i)] for i in inputs[0]] == [*"53a=a8", "<end>", *["<pad>"] * 5]
    assert [names.get(int(t)) for t in targets[0]] == [None] * 4 + ["a", "8", "<end>"] + [None] * 5


def test_layers_know_positions_as_the_options_say(folder):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    assert config.no_rope_layers == [1, 0]
    assert config.layer_types == ["sliding_attention", "full_attention"]
    assert config.sliding_window == TINY.window


def test_without_positions_the_order_of_what_came_before_does_not_count():
    import torch

    from flywheel.training.characters import make_model

    def last(kind, ids):
        model = make_model(TINY.model_copy(update={"layers": [kind]})).eval()
        return model(input_ids=torch.tensor([ids])).logits[0, -1]

    assert torch.allclose(last("nope", [4, 5, 6]), last("nope", [5, 4, 6]), atol=1e-5)
    assert not torch.allclose(last("rope", [4, 5, 6]), last("rope", [5, 4, 6]), atol=1e-3)
    # A near layer sees `window` characters and no more.
    assert torch.allclose(last("near", [4, 5, 6, 7, 8]), last("near", [9, 5, 6, 7, 8]), atol=1e-5)


def test_the_contract_between_sampling_and_training_holds(folder):
    from flywheel.recipe import ModelSection
    from flywheel.training.contract import inspect

    found = inspect(folder, ModelSection(base="characters", dtype="float32"), [{"role": "user", "content": "51a32b="}])
    assert (found["prompt_tokens"], found["stop_token"], found["template_agrees"]) == (7, "<end>", True)


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(folder, tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM

    from flywheel.training import characters

    taken, steps = characters._step, []

    def until_the_sixth(*arguments):
        if len(steps) == 5:
            raise KeyboardInterrupt
        steps.append(1)
        return taken(*arguments)

    monkeypatch.setattr(characters, "_step", until_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        characters.pretrain(TINY, tmp_path / "model", tmp_path / "work")
    steps[:] = [0] * 6
    monkeypatch.setattr(characters, "_step", lambda *a: (steps.append(1), taken(*a))[1])
    characters.pretrain(TINY, tmp_path / "model", tmp_path / "work")
    assert sum(steps) == TINY.steps - 3  # from the checkpoint of step 3
    one, other = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (folder, tmp_path / "model"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"width": 20, "heads": 4}, "does not make 4 heads"),
        ({"hints": 6}, "hints = 6 letters for sums of 6 digits"),
        ({"layers": []}, "at least 1 item"),
        ({"layers": ["far"]}, "'near', 'rope' or 'nope'"),
    ],
)
def test_shapes_that_cannot_be(given, says):
    with pytest.raises(ValueError, match=says):
        CharactersOptions(**given)
