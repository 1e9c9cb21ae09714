"""Loss and gradients must not depend on how examples are laid out, nor on which path computes them."""

import json
import random
from dataclasses import replace

import pytest
import torch

from flywheel import training
from flywheel.recipe import ModelSection, TrainSection
from flywheel.training import sft
from flywheel.training.collate import Encoded, lay_out, to_tensors
from flywheel.types import Example
from tests.training.conftest import sums


def encoded(count=12, seed=0):
    chance = random.Random(seed)
    prompts = [(1, 2, 3, *(chance.randrange(3, 90) for _ in range(chance.randrange(4, 20)))) for _ in range(4)]
    rows = []
    for _ in range(count):
        problem = chance.randrange(4)
        completion = tuple(chance.randrange(3, 90) for _ in range(chance.randrange(1, 12)))
        rows.append(Encoded(str(problem), prompts[problem], (*completion, 2), chance.choice([1.0, 0.25])))
    return rows


@pytest.fixture(scope="module")
def trainer(tiny_model, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    content = {
        "model_path": str(tiny_model),
        "target": str(work / "target"),
        "section": TrainSection(precision="float32", save_steps=1000).model_dump(),
        "model": ModelSection().model_dump(),
        "seed": 1,
    }
    (work / "job.json").write_text(json.dumps(content))
    job = sft.Job.read(work / "job.json")
    tokenizer = sft.load_tokenizer(tiny_model)
    rows = sft.encode_all(tokenizer, tiny_model, sums(4, 3), 1024)
    return sft.make_trainer(job, rows, [[[0, 1]]], tokenizer, accumulation=1)


def loss_and_gradients(trainer, batch, *, direct=True):
    trainer.model.zero_grad()
    batch = dict(batch)
    if direct:
        loss = trainer.compute_loss(trainer.model, batch)
    else:
        passed = {n: batch[n] for n in ("input_ids", "position_ids", "attention_mask")}
        labels = batch["shift_labels"]
        out = trainer.model(**passed, shift_labels=labels, use_cache=False, fused_lm_head=True)
        loss = -(out.log_probs * batch["loss_weights"]).sum() / (labels != -100).sum()
    loss.backward()
    gradients = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    return loss.item(), gradients


@pytest.mark.parametrize("cost", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("seed", [0, 1])
def test_sharing_prompts_changes_neither_loss_nor_gradients(trainer, cost, seed):
    rows = encoded(seed=seed)
    plain, plain_gradients = loss_and_gradients(trainer, to_tensors(lay_out(rows, share=False, attention_cost=0), 2))
    shared_rows = lay_out(rows, share=True, attention_cost=cost)
    assert len(shared_rows) < len(rows)
    shared, shared_gradients = loss_and_gradients(trainer, to_tensors(shared_rows, 2))
    assert shared == pytest.approx(plain, rel=1e-5)
    torch.testing.assert_close(shared_gradients, plain_gradients, rtol=1e-4, atol=1e-6)


def test_the_projection_on_a_cpu_equals_trls(trainer):
    batch = to_tensors(lay_out(encoded(), share=True, attention_cost=0.0), 2)
    ours, our_gradients = loss_and_gradients(trainer, batch)
    trls, trl_gradients = loss_and_gradients(trainer, batch, direct=False)
    assert ours == pytest.approx(trls, rel=1e-5)
    torch.testing.assert_close(our_gradients, trl_gradients, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_weighted_one_of_each_example_alone(trainer):
    rows = encoded(5)
    total, count = 0.0, 0
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.completion]])
        logits = trainer.model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(row.prompt)
        total -= row.weight * sum(logits[start + i - 1, t].item() for i, t in enumerate(row.completion))
        count += len(row.completion)
    batch = to_tensors(lay_out(rows, share=True, attention_cost=0.01), 2)
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(total / count, rel=1e-4)


def test_a_part_of_a_step_is_divided_by_the_targets_of_the_whole_step(trainer):
    rows = encoded(6)
    whole = to_tensors(lay_out(rows, share=True, attention_cost=0.01), 2)
    parts = [to_tensors(lay_out(p, share=True, attention_cost=0.01), 2) for p in (rows[:2], rows[2:])]
    count = torch.tensor(sum(len(row.completion) for row in rows))
    halves = sum(trainer.compute_loss(trainer.model, p, num_items_in_batch=count).item() for p in parts)
    assert halves == pytest.approx(trainer.compute_loss(trainer.model, whole).item(), rel=1e-5)


def test_a_batch_without_targets_has_a_loss_of_zero_with_gradients(trainer):
    loss, gradients = loss_and_gradients(trainer, to_tensors([], 2))
    assert loss == 0.0
    assert torch.all(gradients == 0)


def test_trees_are_only_used_where_every_layer_sees_everything():
    from transformers import Gemma3TextConfig, LlamaConfig, MambaConfig, MistralConfig

    assert sft.can_share(LlamaConfig(), 4096)
    assert sft.can_share(MistralConfig(sliding_window=4096), 100)
    assert not sft.can_share(MistralConfig(sliding_window=64), 100)
    assert not sft.can_share(Gemma3TextConfig(), 100)
    assert not sft.can_share(MambaConfig(), 100)


def test_an_examples_weight_reaches_the_loss_through_the_job_file(trainer, tiny_model, tmp_path):
    """From `Example.weight` as FILTER sets it to the gradient: weight 0 is none, weight 3 three times one."""
    examples = sums(3, 2)
    batches = {}
    for name, weights in {"one": (1, 1, 1), "part": (1, 0, 0), "triple": (3, 3, 3)}.items():
        weighted = [replace(e, weight=float(weights[int(e.problem_id[1:])])) for e in examples]
        job = training.write_job(
            weighted,
            model_path=tiny_model,
            target=tmp_path / "target",
            work=tmp_path,
            section=TrainSection(precision="float32"),
            model=ModelSection(),
            seed=1,
        )
        read = sft.Job.read(job).rows(Example)
        rows = sft.encode_all(sft.load_tokenizer(tiny_model), tiny_model, read, 1024)
        batches[name] = to_tensors(lay_out(rows, share=True, attention_cost=0.0), 2)
        if name == "part":
            alone = to_tensors(lay_out(rows[:2], share=True, attention_cost=0.0), 2)
    one, gradients = loss_and_gradients(trainer, batches["one"])
    triple, triple_gradients = loss_and_gradients(trainer, batches["triple"])
    assert triple == pytest.approx(3 * one, rel=1e-5)
    torch.testing.assert_close(triple_gradients, 3 * gradients, rtol=1e-4, atol=1e-6)
    part, _ = loss_and_gradients(trainer, batches["part"])
    first, _ = loss_and_gradients(trainer, alone)
    targets = [(batch["shift_labels"] != -100).sum().item() for batch in (batches["part"], alone)]
    assert part * targets[0] == pytest.approx(first * targets[1], rel=1e-5)
