"""The model of characters: an ordinary folder, taught nothing but short sums, the same after a kill."""

from __future__ import annotations

import re

import pytest

from flywheel.recipe import CharactersOptions
from flywheel.sums import Style, write

TINY = CharactersOptions(
    **{"digits": 3, "hints": 8, "packed": 2, "layers": ["near", "nope"], "width": 8, "inner": 8, "heads": 2},
    **{"steps": 8, "batch_size": 6, "save_steps": 3},
)
SUMS = {"problems": {"source": "generator", "name": "sums"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from flywheel.training.characters import pretrain

    place = tmp_path_factory.mktemp("characters")
    pretrain(TINY, place / "model", place / "work")
    return place / "model"


def test_short_sums_come_first_and_longer_ones_when_the_loss_has_settled():
    from flywheel.training.characters import SETTLED_STEPS, Curriculum

    curriculum = Curriculum(CharactersOptions(digits=9, packed=1, settled=0.3))
    seen = []
    for loss in [2.0] * 30 + [0.2] * 100:
        seen.append(curriculum.longest)
        curriculum.saw(loss)
    assert sorted(set(seen)) == [2, 4, 9] and seen == sorted(seen)
    assert seen.count(4) == SETTLED_STEPS  # each needs losses of its own
    assert seen.index(4) > 30 + SETTLED_STEPS / 2
    assert Curriculum(CharactersOptions(digits=9, packed=1, settled=0.0)).longest == 9
    assert Curriculum(CharactersOptions(digits=1)).longest == 1


def test_before_all_lengths_are_shown_a_step_has_those_so_far_and_more_sums_where_they_are_short():
    from flywheel.training.characters import rows_at

    options = CharactersOptions(digits=6, batch_size=12)
    for longest in (2, 3):
        shown = [one.digits for (one,) in rows_at(7, longest, options)]
        assert {length: shown.count(length) for length in set(shown)} == dict.fromkeys(
            range(1, longest + 1), 72 // longest**2
        )


def test_rows_of_several_sums_have_no_letter_twice_and_no_sum_is_longer_than_the_base_is_taught():
    from flywheel.training.characters import rows_at

    options = CharactersOptions(digits=6, batch_size=20, packed=4)
    for step in range(20):
        rows = rows_at(step, 6, options)
        assert sum(map(len, rows)) == 20
        assert {len(row) for row in rows} == {1, 2, 3, 4}
        for row in rows:
            letters = [set(re.findall(r"[^\d+=]", one.prompt + one.answer)) for one in row]
            assert len(set().union(*letters)) == sum(map(len, letters))
            assert all(1 <= one.digits <= 6 for one in row)


def test_only_the_answer_and_the_end_are_learnt():
    from flywheel.training.characters import encoded, vocabulary

    tokens = vocabulary()
    style = Style("columns", 8)
    inputs, targets = encoded([[write(5, 3, 1, style)], [write(35, 21, 2, style), write(4, 1, 1, style, first=3)]])
    names = {number: token for token, number in tokens.items()}
    assert [names[int(i)] for i in inputs[0]] == [*"53a=a8", "<end>", *["<pad>"] * 12]
    assert [names.get(int(t)) for t in targets[0]] == [None] * 5 + ["8", "<end>"] + [None] * 12
    assert "".join(names[int(i)] for i in inputs[1]) == "51a32b=a6b5<end>41d=d5<end>"
    assert [names.get(int(t)) for t in targets[1]][8:] == ["6", "b", "5", "<end>", *[None] * 5, "5", "<end>"]


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

    found = inspect(folder, ModelSection(base="characters", dtype="float32"), [{"role": "user", "content": "51a32b=a"}])
    assert (found["prompt_tokens"], found["stop_token"], found["template_agrees"]) == (8, "<end>", True)


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


@pytest.mark.parametrize("settled", [0.0, 0.3])
def test_no_step_has_more_tokens_than_the_forecast_says(settled):
    from flywheel.forecast.stages import base_stage
    from flywheel.recipe import validate
    from flywheel.training.characters import PAD, encoded, rows_at, vocabulary

    made = CharactersOptions(digits=6, batch_size=12, packed=2, settled=settled, steps=1)
    foreseen = base_stage(validate({"model": {"base": "characters", "dtype": "float32", "characters": made}, **SUMS}))
    for longest in (2, 3, 6) if settled else (6,):
        tokens = [int((encoded(rows_at(n, longest, made))[0] != vocabulary()[PAD]).sum()) for n in range(50)]
        assert max(tokens) <= foreseen.trained.most
    assert sum(tokens) / 50 == pytest.approx(foreseen.trained.expected, rel=0.05)  # once all lengths are shown
