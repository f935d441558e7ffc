"""Who predicts whom on a grid whose tokens are decided diagonal by diagonal (NAR, arXiv 2503.10696).

A token is predicted by the neighbors before it, one along each axis: the head of an axis says what comes one step
further along it, and the logits of a token are the mean over its predictors. The first token of all is predicted by all
heads of the last condition token.

Shape suffixes: A axes, last axis first, L tokens in the order of decoding, n of them, m rows that predict, R rows
(branches x batch), D width, E = A * D.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.decoding.schedules import Schedule


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The tables of a grid and its schedule."""

    order: Tensor
    """int64 [L]: position of every token in the grid."""
    rank: Tensor
    """int64 [L]: the inverse, the place of every position in the order of decoding."""
    step: Tensor
    """int64 [L]: the step that decides each token."""
    rows: Tensor
    """int64 [A, L]: what predicts each token along each axis: 0 nobody, 1 the last condition token, 2 + i token i."""
    share: Tensor
    """float32 [L, 1]: 1 / number of predictors."""

    @classmethod
    def of(cls, grid: Sequence[int], schedule: Schedule) -> Self:
        """The tables of a grid whose schedule decides all predictors of a step in the step before it."""
        positions = [step.positions for step in schedule if step.positions is not None]
        order = torch.cat(positions)
        rank = order.argsort()
        step = torch.cat([torch.full_like(p, i) for i, p in enumerate(positions)])
        coordinates = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"), -1).flatten(0, -2)
        rows, stride = [], 1
        for axis in reversed(range(len(grid))):
            exists = coordinates[order, axis] > 0
            before = rank[(order - stride).clamp_min(0)]
            assert bool((step[before] == step - 1)[exists].all())
            rows.append(torch.where(exists, before + 2, 0))
            rows[-1][0] = 1
            stride *= grid[axis]
        table = torch.stack(rows)
        return cls(order, rank, step, table, 1 / (table > 0).sum(0)[:, None])

    def gather(self, h_RmD: Sequence[Tensor], tokens: slice = slice(None), first: int = 0) -> Tensor:
        """[R, n, E]: for every token its predictors' states beside each other, times their share; zero where nobody is.

        `h_RmD` are the states that the heads read, of all rows from row 1 + `first` of the table on.
        """
        rows_An = (self.rows[:, tokens] - first).clamp_min(0)
        parts = [F.pad(h, (0, 0, 1, 0))[:, rows] for rows, h in zip(rows_An, h_RmD, strict=True)]
        return torch.cat(parts, dim=-1) * self.share[tokens].to(parts[0].dtype)

    def to(self, device: torch.device) -> Self:
        """The same tables on a device: ordinary tensors, with which one can train, even if moved in inference mode."""
        if self.order.device == device:
            return self
        with torch.inference_mode(False):
            return type(self)(
                self.order.to(device),
                self.rank.to(device),
                self.step.to(device),
                self.rows.to(device),
                self.share.to(device),
            )
