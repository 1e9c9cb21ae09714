"""What `flywheel plan` foresees of shipped recipes, beside numbers worked out by hand."""

from __future__ import annotations

import pytest

from flywheel.forecast import Amount, Assumptions, Forecast, Problems, forecast
from flywheel.recipe import load_recipe

SIZES = Problems(train=20, dev=4, test=5)


def foreseen(name: str, *overrides: str, right: float = 0.5, sizes: Problems = SIZES) -> Forecast:
    return forecast(load_recipe(name, list(overrides)), sizes, Assumptions(right, length=0.5, prompt_tokens=10))


def both(number: int) -> Amount:
    return Amount(number, number)


def test_proof_flywheel_trains_on_its_library_even_where_nothing_is_right():
    found = foreseen("proof_flywheel", right=0.0, sizes=Problems(train=80, dev=20, test=40))
    # The page: 160 rows of the library alone, 60 steps (6 epochs of ten batches of 16).
    assert [r.rows.expected for r in found.rounds] == [160] * 4
    assert [r.steps.expected for r in found.rounds] == [60] * 4
    # At most 2 of each statement a round: 160, 320, 480, 640 of its own, to seven parts of which come three of the
    # library (69, 137, 206, 274), 160 at least.
    assert [r.rows.most for r in found.rounds] == [160 + 160, 320 + 160, 480 + 206, 640 + 274]
    assert [r.steps.most for r in found.rounds] == [6 * 20, 6 * 30, 6 * 43, 6 * 58]
    (stage,) = found.rounds[0].stages
    assert (stage.name, stage.read) == ("sft", both(0))
    # Prompts of 10 tokens, at most twice as long, and half of 52 tokens, at most all of them.
    assert stage.trained == Amount(6 * 320 * (20 + 52), 6 * 160 * (10 + 26))


def test_proof_flywheel_with_a_few_proofs():
    found = foreseen("proof_flywheel", right=0.05, sizes=Problems(train=80, dev=20, test=40))
    # 8 tries a statement, .4 of them right: 32 a round, all of which accumulate.
    assert [r.completions.expected for r in found.rounds] == [640] * 4
    assert [r.rows.expected for r in found.rounds] == [32 + 160, 64 + 160, 96 + 160, 128 + 160]
    assert [r.steps.expected for r in found.rounds] == [6 * 12, 6 * 14, 6 * 16, 6 * 18]
    none = foreseen("proof_flywheel", "train.min_examples=1", right=0.0)
    assert none.total("steps").expected == 0, "a round with fewer examples is not trained"


def test_addition_has_a_base_of_its_own_and_as_many_general_rows_as_own_ones():
    found = foreseen("addition", sizes=Problems(train=300, dev=600, test=3000))
    assert [r.problems for r in found.rounds] == [300] * 24  # those proposed for the round
    assert [r.rows for r in found.rounds] == [both(600 * n) for n in range(1, 25)]
    assert [r.steps for r in found.rounds[:4]] == [both(10), both(19), both(29), both(38)]  # of 64 rows
    assert found.total("steps").most == sum(-(-600 * n // 64) for n in range(1, 25))
    fewer = foreseen("addition", "mix.general_source.count=1000")
    assert fewer.rounds[-1].rows == both(24 * 300 + 1000)


def test_the_base_of_characters_is_counted_by_itself():
    base = foreseen("addition").base
    assert base is not None and base.name == "scratch" and base.steps == both(1200)
    # 36 sums a step; as long as only one and two of six digits are shown, three times as many.
    assert base.rows == Amount(1200 * 108, 1200 * 36)
    # A sum of n digits has 3n + 2 characters before its answer, which has 2n - 1, or two more, and an end: 5n + 3 in
    # the mean. The longer of two lengths from 1 to 6 is 161/36 in the mean. At most: two digits, 108 sums of 14.
    assert base.trained == Amount(1200 * 108 * 14, 1200 * (5 * 161 + 3 * 36))
    unsettled = foreseen("addition", "model.characters.settled=0").base
    assert unsettled is not None and unsettled.trained.most == 1200 * 36 * 34
    assert foreseen("demo").base is None


def test_privileged_trains_on_lessons_right_or_wrong():
    sizes = Problems(train=70, dev=40, test=60)  # the page's, whose run had 278 lessons and 18 steps
    found = foreseen("privileged", sizes=sizes).rounds[0]
    (stage,) = found.stages
    assert (stage.name, stage.rows, stage.steps) == ("privileged", both(280), both(18))
    assert stage.trained == Amount(280 * (20 + 48), 280 * (10 + 24))
    assert stage.read == stage.trained  # by the teacher, which is told the answer
    right, wrong = (
        foreseen("privileged", f"train.privileged.samples={which}", right=0.25, sizes=sizes).rounds[0].rows
        for which in ("right", "wrong")
    )
    assert right == Amount(280, 140) and wrong == both(280)  # two and six of eight, four at most
    assert foreseen("privileged", right=0.0).rounds[0].rows.expected == 0  # below train.min_examples
    taught = 'sampling.extra=[{model="x", share=0.75}]'
    assert foreseen("privileged", taught).rounds[0].rows == both(40), "only the policy's own samples are lessons"


def test_privileged_learns_this_rounds_lessons_alone():
    found = foreseen("privileged", "data.keep=accumulate")
    assert [r.rows for r in found.rounds] == [both(80)] * 3


def test_r1_distill_has_two_stages():
    (only,) = foreseen("r1_distill").rounds
    sft, dpo = only.stages
    # 40 examples and a quarter of the whole, 13, of general rows; twice four batches.
    assert (sft.name, sft.rows, sft.steps) == ("sft", both(53), both(8))
    assert sft.trained == Amount(2 * 53 * 68, 2 * 53 * 34)
    # Two pairs a problem, two texts each; the reference reads each of them once.
    assert (dpo.name, dpo.rows, dpo.steps) == ("dpo", both(40), both(3))
    assert dpo.trained == dpo.read == Amount(40 * 2 * 68, 40 * 2 * 34)
    assert only.steps == both(11) and only.trained.expected == 106 * 34 + 80 * 34
    (good,) = foreseen("r1_distill", right=0.95).rounds
    assert good.stages[1].rows == Amount(40, 8)  # .4 wrong ones a problem
    assert foreseen("r1_distill", right=1.0).rounds[0].stages[1].steps.expected == 0
    (twice,) = foreseen("r1_distill", "train.dpo.epochs=2").rounds
    assert twice.stages[1].trained.expected == 2 * dpo.trained.expected and twice.stages[1].read == dpo.read


def test_llama3_keeps_pairs_of_all_rounds():
    found = foreseen("llama3")
    sft, dpo = zip(*(r.stages for r in found.rounds), strict=True)
    assert [s.rows for s in sft] == [both(40 * n) for n in range(1, 7)]
    assert [s.steps for s in sft] == [both(2 * n) for n in (3, 5, 8, 10, 13, 15)]
    assert [s.rows for s in dpo] == [both(20 * n) for n in range(1, 7)]  # one a problem and round
    assert [s.steps for s in dpo] == [both(n) for n in (2, 3, 4, 5, 7, 8)]
    assert found.total("steps") == both(108 + 29)
    last = foreseen("llama3", "data.keep=window", "data.window=2").rounds[-1]
    assert [s.rows for s in last.stages] == [both(80), both(40)]


def test_pairs_take_two_completions_each():
    assert foreseen("llama3", "sampling.k=2").rounds[0].stages[1].rows == both(20)
    three = foreseen("llama3", "sampling.k=3", "train.dpo.cap=2", right=1 / 3).rounds[0]
    assert three.stages[1].rows == both(20), "one right and two wrong make one pair"


def test_grpo_learns_from_its_own_completions_in_whole_steps():
    found = foreseen("grpo")
    first = found.rounds[0]
    # 160 completions make two steps of 64; four problems do not fill a third, and are not asked.
    assert first.problems == 16 and first.completions == both(128)
    (stage,) = first.stages
    assert (stage.name, stage.rows, stage.steps, stage.read) == ("grpo", both(128), both(2), both(0))
    assert stage.trained == Amount(128 * 68, 128 * 34)
    assert found.sampled == Amount((3 * 128 + found.held_out) * 48, (3 * 128 + found.held_out) * 24)
    assert foreseen("grpo", right=0.0).rounds[0].stages == first.stages, "whatever the filter would keep"
    (twice,) = foreseen("grpo", "train.grpo.iterations=2").rounds[0].stages
    assert twice.rows == both(128) and twice.steps == both(4)
    assert twice.trained.expected == 2 * 128 * 34 and twice.read.expected == 128 * 34
    (held,) = foreseen("grpo", "train.grpo.beta=0.04").rounds[0].stages
    assert held.read == held.trained
    assert foreseen("grpo", sizes=Problems(train=7, dev=4, test=5)).total("steps") == both(0)


@pytest.mark.parametrize(("right", "expected"), [(0.5, 40), (0.05, 8), (0.0, 0)])
def test_demo_trains_on_what_the_filter_keeps(right, expected):
    found = foreseen("demo", right=right)
    assert [r.rows for r in found.rounds] == [Amount(40, expected)] * 3


def test_guided_examples_keep_to_their_shares():
    # All first attempts wrong: 40 hinted tries, 20 of them right, none beside an unguided one.
    assert foreseen("demo", "hints.k=2", right=0.0).rounds[0].rows.expected == 0
    found = foreseen("demo", "correction.k=2").rounds[0]
    assert found.completions == both(160 + 40)
    assert found.rows == both(40 + 13)  # of 40 second attempts, or 20 right ones, a quarter of the whole


def test_a_control_takes_as_many_as_it_is_told():
    found = foreseen("random_filter", "filter.rows=[7, 500]")
    assert [r.rows for r in found.rounds] == [both(7), both(160), both(160)]
