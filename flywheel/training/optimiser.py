"""AdamW for weights in 16 bits, without losing small updates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class MasterAdamW(torch.optim.Optimizer):
    """AdamW on a float32 copy of every weight (Micikevicius et al. 2018, arXiv:1710.03740, section 3.1).

    A bfloat16 weight has 8 significant bits, so an update smaller than 1/256 of it would round to nothing. The
    update is made on the float32 copy, and the weight becomes that copy rounded.
    """

    def __init__(self, params: Iterable[Any], lr: float, **settings: Any) -> None:
        super().__init__(params, {"lr": lr})
        groups = [
            {**group, "params": [p.detach().float().clone() for p in group["params"]]} for group in self.param_groups
        ]
        self._inner = torch.optim.AdamW(groups, lr=lr, fused=True, **settings)

    def _pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        groups = zip(self.param_groups, self._inner.param_groups, strict=True)
        return [pair for ours, masters in groups for pair in zip(ours["params"], masters["params"], strict=True)]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update the copies from the weights' gradients, and the weights from the copies."""
        if closure is not None:
            raise ValueError("MasterAdamW takes no closure: it makes one pass over the gradients a step")
        for ours, masters in zip(self.param_groups, self._inner.param_groups, strict=True):
            masters["lr"] = ours["lr"]
        pairs = self._pairs()
        for weight, master in pairs:
            master.grad = None if weight.grad is None else weight.grad.float()
        self._inner.step()
        for weight, master in pairs:
            weight.copy_(master)
            master.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The inner optimiser's state and the float32 copies (the base class would round them on loading)."""
        return {
            "state": {},
            "param_groups": super().state_dict()["param_groups"],
            "inner": self._inner.state_dict(),
            "masters": [master for _, master in self._pairs()],
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        self._inner.load_state_dict(state_dict["inner"])
        for (_, master), saved in zip(self._pairs(), state_dict["masters"], strict=True):
            master.copy_(saved)
