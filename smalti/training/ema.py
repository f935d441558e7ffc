"""Exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Averaged parameters and float buffers of a model; other buffers are taken as they are.

    average = d * average + (1 - d) * weights with d = min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.averages = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after step `step` (from 0)."""
        state = self.model.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        pairs = [self.averages[n] for n in floats], [state[n] for n in floats]
        torch._foreach_lerp_(*pairs, weight)  # pyright: ignore[reportPrivateImportUsage]
        for name in state.keys() - set(floats):
            self.averages[name].copy_(state[name])

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        state = self.model.state_dict()
        kept = {name: value.clone() for name, value in state.items()}
        _copy(state, self.averages)
        try:
            yield
        finally:
            _copy(state, kept)


@torch.no_grad()
def _copy(to: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, value in to.items():
        value.copy_(values[name])
