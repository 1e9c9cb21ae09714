import math

import pytest
import torch

from flywheel.training.optimiser import MasterAdamW


def trained(optimiser_class, dtype, steps=50, lr=1e-5, **settings):
    weight = torch.nn.Parameter(torch.linspace(0.5, 1.5, 64).to(dtype))
    optimiser = optimiser_class([weight], lr=lr, **settings)
    for step in range(steps):
        weight.grad = (torch.cos(torch.arange(64.0)) * (2 + math.sin(step))).to(dtype)
        optimiser.step()
    return weight.detach().float()


def test_small_updates_add_up_as_they_do_in_float32():
    exact = trained(torch.optim.AdamW, torch.float32, steps=2000, weight_decay=0.0)
    lost = trained(torch.optim.AdamW, torch.bfloat16, steps=2000, weight_decay=0.0)
    start = torch.linspace(0.5, 1.5, 64).bfloat16().float()
    assert torch.equal(lost, start), "plain bfloat16 should lose these updates, or this test shows nothing"
    far = trained(MasterAdamW, torch.bfloat16, steps=2000, weight_decay=0.0)
    assert (far - start).abs().max() > 0.01
    assert (far - exact).abs().max() < 2**-7  # half a unit in the last place of start and end each


def test_it_goes_on_from_a_saved_state_exactly(tmp_path):
    def steps(weight, optimiser, numbers):
        for number in numbers:
            weight.grad = torch.sin(torch.arange(8.0) * number).bfloat16()
            optimiser.step()

    whole = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    steps(whole, MasterAdamW([whole], lr=1e-4), range(1, 21))

    first = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    optimiser = MasterAdamW([first], lr=1e-4)
    steps(first, optimiser, range(1, 11))
    torch.save({"weight": first.detach(), "optimiser": optimiser.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    second = torch.nn.Parameter(saved["weight"])
    resumed = MasterAdamW([second], lr=1e-4)
    resumed.load_state_dict(saved["optimiser"])
    steps(second, resumed, range(11, 21))
    assert torch.equal(whole, second)
    assert torch.equal(optimiser.state_dict()["masters"][0], saved["optimiser"]["masters"][0])


def test_the_learning_rate_of_a_schedule_reaches_the_copies():
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimiser = MasterAdamW([weight], lr=0.5)
    optimiser.param_groups[0]["lr"] = 0.0
    weight.grad = torch.ones(4, dtype=torch.bfloat16)
    optimiser.step()
    assert torch.equal(weight.detach(), torch.ones(4, dtype=torch.bfloat16))


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="takes no closure"):
        MasterAdamW([torch.nn.Parameter(torch.ones(1))], lr=0.1).step(lambda: 0.0)
