import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.training.collate import IGNORED, Collator, Encoded, lay_out, to_tensors, tree_row

TOKENS = st.lists(st.integers(0, 5), min_size=1, max_size=6).map(tuple)
EXAMPLES = st.lists(
    st.builds(
        Encoded, problem=st.sampled_from("abc"), prompt=TOKENS, completion=TOKENS, weight=st.sampled_from([1.0, 0.5])
    ),
    min_size=1,
    max_size=9,
)


def paths(batch):
    """What every target's position can see, in order of depth, with its target and weight: what the model is asked."""
    asked = []
    ids, positions, labels = batch["input_ids"], batch["position_ids"], batch["shift_labels"]
    for row in range(len(ids)):
        for place in range(ids.shape[1]):
            if labels[row, place] == IGNORED:
                continue
            if batch["attention_mask"].dim() == 4:
                visible = batch["attention_mask"][row, 0, place].nonzero().flatten().tolist()
            else:
                visible = list(range(place + 1))
            depths = [int(positions[row, v]) for v in visible]
            assert sorted(depths) == list(range(len(visible)))
            context = tuple(int(ids[row, v]) for _, v in sorted(zip(depths, visible, strict=True)))
            asked.append((context, int(labels[row, place]), float(batch["loss_weights"][row, place])))
    return sorted(asked)


def expected(examples):
    return sorted(
        ((*e.prompt, *e.completion[:i]), target, e.weight) for e in examples for i, target in enumerate(e.completion)
    )


@settings(deadline=None, max_examples=60)
@given(EXAMPLES, st.sampled_from([0.0, 0.02, 10.0]), st.booleans())
def test_every_target_sees_its_own_prompt_and_completion_and_nothing_else(examples, cost, share):
    batch = to_tensors(lay_out(examples, share=share, attention_cost=cost), pad_id=9)
    assert paths(batch) == expected(examples)


def test_a_shared_prompt_stands_once():
    pair = [Encoded("a", (1, 2, 3, 4), (5, 6)), Encoded("a", (1, 2, 3, 4), (7, 8))]
    row = tree_row(pair)
    assert row.tokens == [1, 2, 3, 4, 5, 4, 7]
    assert row.depths == [0, 1, 2, 3, 4, 3, 4]
    assert row.targets == [IGNORED, IGNORED, IGNORED, 5, 6, 7, 8]
    assert not row.is_chain()


def test_the_head_of_the_template_is_shared_by_different_problems():
    row = tree_row([Encoded("a", (1, 2, 3), (5,)), Encoded("b", (1, 2, 4), (5,))])
    assert row.tokens == [1, 2, 3, 4]


def test_dear_attention_leads_to_narrow_rows_and_cheap_attention_to_one():
    examples = [Encoded(p, (i, *range(10, 40)), (5, 6)) for i, p in enumerate("abcd") for _ in range(3)]
    assert len(lay_out(examples, share=True, attention_cost=0.0)) == 1
    assert len(lay_out(examples, share=True, attention_cost=1.0)) > 1
    assert len(lay_out(examples, share=False, attention_cost=0.0)) == len(examples)


def test_rows_without_sharing_take_an_ordinary_mask():
    batch = to_tensors(
        lay_out([Encoded("a", (1, 2), (3,)), Encoded("b", (1,), (3,))], share=False, attention_cost=0), 9
    )
    assert batch["attention_mask"].tolist() == [[1, 1] + [0] * 14, [1] + [0] * 15]


def test_a_process_without_examples_gets_a_row_in_no_loss():
    batch = Collator([], 9, True, 0.01)([{"members": []}])
    assert batch["input_ids"].shape == (1, 16)
    assert torch.all(batch["shift_labels"] == IGNORED)
