"""Who predicts whom on a grid whose tokens are decided diagonal by diagonal (NAR, arXiv 2503.10696).

A token is predicted by the neighbors before it, one along each axis: the head of an axis says what comes one step
further along it, and the logits of a token are the mean over its predictors. The first token of all is predicted by all
heads of the last condition token.

Shape suffixes: A axes, last axis first, L tokens, n tokens to predict, m rows that predict, R rows of the batch,
D width, V codes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.decoding.schedules import Schedule


@dataclass(frozen=True, eq=False)
class Predictors:
    """For every token the row that predicts it along each axis."""

    rows: Tensor
    """int64 [A, n]: 1 + index of the row; 0 = nobody."""
    share: Tensor
    """float32 [n, 1]: 1 / number of predictors."""

    @classmethod
    def of(cls, rows: Tensor) -> Self:
        """The share follows from the rows."""
        return cls(rows, 1 / (rows > 0).sum(0)[:, None])

    def __getitem__(self, tokens: slice) -> Self:
        """Those of some tokens."""
        return type(self)(self.rows[:, tokens], self.share[tokens])

    def to(self, device: torch.device) -> Self:
        """The same tables on a device."""
        return type(self)(self.rows.to(device), self.share.to(device))

    def logits(self, heads: Iterable[Callable[[Tensor], Tensor]], h_RmD: Iterable[Tensor]) -> Tensor:
        """float32 [R, n, V]: mean over the predictors. `heads` have no bias, so that nobody, a row of zeros, says 0."""
        parts = zip(self.rows, heads, h_RmD, strict=True)
        return sum(head(F.pad(h, (0, 0, 1, 0))[:, rows]).float() for rows, head, h in parts) * self.share


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The tables of a grid and its schedule."""

    order: Tensor
    """int64 [L]: positions in the order they are decided."""
    step: Tensor
    """int64 [L]: the step that decides a position."""
    whole: Predictors
    """Of the positions in sequence order, among (last condition token, tokens in sequence order)."""
    stepwise: Predictors
    """Of the tokens in the order of decoding, among the tokens of the step before; of the first token, among (last
    condition token)."""

    @classmethod
    def of(cls, grid: Sequence[int], schedule: Schedule) -> Self:
        """The tables of a grid whose schedule decides all predictors of a step in the step before it."""
        positions = [step.positions for step in schedule if step.positions is not None]
        order = torch.cat(positions)
        coordinates = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"), -1).flatten(0, -2)
        step, row = torch.zeros_like(order), torch.zeros_like(order)
        for i, p in enumerate(positions):
            step[p], row[p] = i, torch.arange(len(p))
        whole, stepwise, stride = [], [], 1
        for axis in reversed(range(len(grid))):
            exists = coordinates[:, axis] > 0
            before = (torch.arange(len(order)) - stride).clamp_min(0)
            assert bool((step[before] == step - 1)[exists].all())
            whole.append(torch.where(exists, before + 2, 0).index_fill(0, order[:1], 1))
            stepwise.append(torch.where(exists, row[before] + 1, 0).index_fill(0, order[:1], 1)[order])
            stride *= grid[axis]
        return cls(order, step, Predictors.of(torch.stack(whole)), Predictors.of(torch.stack(stepwise)))

    def to(self, device: torch.device) -> Self:
        """The same tables on a device: ordinary tensors, with which one can train, even if moved in inference mode."""
        if self.order.device == device:
            return self
        with torch.inference_mode(False):
            return type(self)(
                self.order.to(device), self.step.to(device), self.whole.to(device), self.stepwise.to(device)
            )
