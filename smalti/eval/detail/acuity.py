"""Which of several known templates a reconstructed cell shows: acuity without a reader.

Shape suffixes: B cells, N templates, P placements, H W pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.charts.shapes import ORIENTATIONS, landolt_rings
from smalti.eval.detail.signal import check_gray

CHANCE = 1 / ORIENTATIONS


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What cells were read as."""

    choice: Tensor
    """int64 [B]: index of the template that correlates best."""
    margin: Tensor
    """float64 [B]: its correlation minus the second best."""


def decide(cells: Tensor, templates: Tensor) -> Decision:
    """Reads cells [B, H, W] by the normalized cross-correlation with templates [B, N, H, W] or [N, H, W].

    Both are centered and scaled to norm 1 over the cell; the largest product wins, the first of equal ones. A flat
    cell correlates with nothing and is read as template 0, which is a guess.
    """
    check_gray(cells, minimum=3, what="reading a cell")
    bank = templates if templates.ndim == 4 else templates.expand(len(cells), *templates.shape)
    if bank.shape[0] != len(cells) or bank.shape[2:] != cells.shape[1:] or bank.shape[1] < 2:
        raise ValueError(f"cells {list(cells.shape)} need templates [B, N >= 2, H, W], got {list(templates.shape)}")
    scores_BN = torch.einsum("bp,bnp->bn", _unit(cells.double().flatten(1)), _unit(bank.double().flatten(2)))
    best, order = scores_BN.topk(2, dim=1)
    first = scores_BN.argmax(dim=1)  # topk does not promise the first of equal scores
    return Decision(choice=torch.where(best[:, 0] == best[:, 1], first, order[:, 0]), margin=best[:, 0] - best[:, 1])


def read_rings(cells: Tensor, gap: float, offsets: Tensor, levels: tuple[float, float] = (0.9, 0.1)) -> Decision:
    """Orientations (k * 45 degrees) of Landolt rings in square cells [B, s, s] with known sub-pixel offsets [B, 2]."""
    pairs = [(float(x), float(y)) for x, y in offsets]
    return decide(cells, landolt_rings(gap, pairs, levels=levels, cell=cells.shape[-1]))


def _unit(values: Tensor) -> Tensor:
    """Vectors [..., n] centered and of norm 1; flat ones 0."""
    centered = values - values.mean(dim=-1, keepdim=True)
    norm = centered.norm(dim=-1, keepdim=True)
    return torch.where(norm > 1e-9, centered / norm.clamp(min=1e-9), 0.0)
