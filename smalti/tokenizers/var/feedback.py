"""What VAR is fed while it generates (arXiv 2404.02905, Algorithm 2).

Shape suffixes: B batch, C latent channels, h w latent grid, n codes of one scale.
"""

import numpy as np
import torch
from torch import Tensor

from smalti.nn.quantizers.multiscale import MultiScaleQuantizer
from smalti.tokens import Choice


class MultiScaleFeedback:
    """What VAR is fed after every scale: the sum of the maps so far, as the next scale sees it (Algorithm 2)."""

    def __init__(self, quantizer: MultiScaleQuantizer, batch: int) -> None:
        self.quantizer = quantizer
        side = quantizer.sides[-1]
        self.f_hat = quantizer.codebook.new_zeros(batch, quantizer.codebook.shape[1], side, side)
        self.steps = 0
        self._inputs: list[Tensor] = []
        self._soft = False

    def push(self, step: int, choice: Choice) -> Tensor | None:
        """Adds the map of scale `step`; returns the next scale's input [B, n, C], None after the last."""
        assert step == self.steps and choice.ids is not None, "scales are pushed in order, as ids"
        if choice.soft is None:
            added = self.quantizer.embed(step, choice.ids)
        else:
            added = self.quantizer.refine(step, choice.soft.to(self.f_hat.dtype) @ self.quantizer.codebook)
            self._soft = True
        self.f_hat = self.f_hat + added
        self.steps += 1
        if self.steps == len(self.quantizer.sides):
            return None
        self._inputs.append(self.quantizer.shrink(self.f_hat, self.steps))
        return self._inputs[-1]

    def push_prefix(self, ids: Tensor, steps: int) -> Tensor | None:
        """Adds the maps of all scales before `steps` that were not pushed yet."""
        sides = self.quantizer.sides
        starts = np.concatenate([[0], np.cumsum(np.square(sides))])
        for k in range(self.steps, steps):
            self.push(k, Choice(ids=ids[:, starts[k] : starts[k + 1]]))
        return self.history()

    def renew(self, ids: Tensor, aim: Tensor | None) -> Tensor:
        """Codes [B, n] of what is left of the features `aim` [B, C, h, w] at this scale; without them the same ids."""
        if aim is None:
            return ids
        return self.quantizer.choose(self.steps, aim - self.f_hat)

    def reached(self) -> Tensor:
        """The sum of the maps so far [B, C, h, w]."""
        return self.f_hat

    def history(self) -> Tensor | None:
        """Inputs of scales 1..steps, [B, n, C]."""
        return torch.cat(self._inputs, dim=1) if self._inputs else None

    def latents(self) -> Tensor | None:
        """The sum of the maps [B, C, h, w] if a choice was soft."""
        return self.f_hat if self._soft else None
