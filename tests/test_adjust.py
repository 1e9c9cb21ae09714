"""Adjust: what a rejection changes in the next round, with the reason; nothing else and no longer."""

from __future__ import annotations

import pytest

from flywheel.adjust import adjust, applied
from flywheel.recipe import GateSection, load_recipe
from flywheel.stopping import RoundRecord


def rejected(index, *lines):
    return RoundRecord(index, 100, 20, 10, False, 0.1, tuple(lines))


def recipe(*overrides):
    return load_recipe("demo", ["train.learning_rate=4e-5", "sampling.temperatures=[0.8, 1.15]", *overrides])


def changes(found):
    return {c["what"]: (c["from"], c["to"]) for c in found}


def test_without_a_rejection_nothing_changes():
    assert adjust(recipe(), []) == []
    assert applied(recipe(), []) == recipe()
    assert adjust(recipe("gate.adjust=false"), [rejected(1, "pass_1")]) == []


def test_worse_asks_for_a_smaller_step():
    [change] = adjust(recipe(), [rejected(1, "pass_1")])
    assert change == {
        "what": "train.learning_rate",
        "from": 4e-5,
        "to": 2e-5,
        "why": "round 1 was rejected (pass_1): a smaller step stays nearer to the champion",
    }


def test_a_second_stage_takes_a_smaller_step_too():
    both = recipe("train.objective=sft_then_dpo", "train.dpo.learning_rate=4e-6")
    found = changes(adjust(both, [rejected(1, "pass_1")]))
    assert found == {"train.learning_rate": (4e-5, 2e-5), "train.dpo.learning_rate": (4e-6, 2e-6)}
    assert applied(both, adjust(both, [rejected(1, "pass_1")])).train.of_stage("dpo").learning_rate == 2e-6


@pytest.mark.parametrize("line", ["pass_k", "paths", "markers"])
def test_narrower_asks_for_heat_and_for_the_base(line):
    found = changes(adjust(recipe(), [rejected(1, line)]))
    assert found["sampling.temperatures"] == ([0.8, 1.15], [0.9, 1.2])
    assert found["mix.base"] == (0.0, 0.2)


def test_the_rows_of_a_first_round_that_was_rejected_are_no_anchor():
    assert "mix.base" not in changes(adjust(recipe(), [rejected(0, "paths")], base_rows=False))
    later = changes(adjust(recipe(), [rejected(2, "paths")], base_rows=False))
    assert "mix.base" not in later and "sampling.temperatures" in later


@pytest.mark.parametrize("objective", ["dpo", "privileged", "grpo"])
def test_what_learns_from_no_rows_gets_none_of_the_base(objective):
    found = adjust(recipe(f"train.objective={objective}"), [rejected(1, "paths")])
    assert "sampling.temperatures" in changes(found) and "mix.base" not in changes(found)
    assert applied(recipe(f"train.objective={objective}"), found).mix.base == 0.0


def test_a_plan_promises_nothing_that_has_no_effect():
    swept = recipe("sampling.sweep.temperatures=[0.6, 1.0]")
    assert changes(adjust(swept, [rejected(1, "paths")])).keys() == {"train.learning_rate", "mix.base"}
    taught = recipe('sampling.extra=[{model="teacher", share=1.0}]')
    assert "mix.base" not in changes(adjust(taught, [rejected(1, "paths")]))


def test_no_end_asks_for_cooler_samples_and_both_at_once_for_neither():
    assert changes(adjust(recipe(), [rejected(1, "cut_off")]))["sampling.temperatures"][1] == [0.7, 1.05]
    assert "sampling.temperatures" not in changes(adjust(recipe(), [rejected(1, "cut_off", "paths")]))


def test_a_second_rejection_goes_further_and_back_to_the_champion():
    found = changes(adjust(recipe("train.start_from=previous"), [rejected(1, "paths"), rejected(2, "pass_1", "ood")]))
    assert found == {
        "train.learning_rate": (4e-5, 1e-5),
        "train.start_from": ("previous", "champion"),
        "mix.base": (0.0, 0.4),
    }


@pytest.mark.parametrize("line", GateSection().lines)
@pytest.mark.parametrize("times", [1, 2, 12])
def test_the_changed_recipe_is_a_recipe(line, times):
    hot = recipe("sampling.temperatures=[0.0, 5.0]", "mix.human=0.95")
    found = adjust(hot, [rejected(i + 1, line) for i in range(times)])
    after = applied(hot, found)
    assert after.train.learning_rate == hot.train.learning_rate / 2**times
    assert after.mix.human + after.mix.base < 1
    assert after.sampling.temperatures[1] >= 0.5, "what the recipe asks for beyond the bounds is left alone"
    untouched = {"problems", "verify", "filter", "evaluate", "gate", "stop", "model", "data"}
    assert all(getattr(after, name) == getattr(hot, name) for name in untouched)


def test_what_is_asked_of_a_planned_round_holds_against_its_plan():
    found = adjust(recipe(), [rejected(1, "paths")])
    after = applied(recipe("train.learning_rate=1e-6", "mix.human=0.1"), found)
    assert after.train.learning_rate == 1e-6 and after.mix.human == 0.1
    assert after.mix.base == changes(found)["mix.base"][1], "the other changes stay"
