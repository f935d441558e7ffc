"""Learned position tables, resampled to another grid as the DINO code base does it.

Shape suffixes: n places of the table, h w grid, D width.
"""

import math

import torch.nn.functional as F
from torch import Tensor


def resample_positions(
    table_1nD: Tensor, height: int, width: int, *, offset: float = 0.1, antialias: bool = False
) -> Tensor:
    """The table [1, n, D] of a square grid at a grid of `height` x `width`: [1, height * width, D].

    Bicubic with the scale factors (height + offset) / side and (width + offset) / side: the published models were
    trained with these factors, which with an offset are not quite those of the sizes.
    """
    side = math.isqrt(table_1nD.shape[1])
    if (height, width) == (side, side):
        return table_1nD
    scale = ((height + offset) / side, (width + offset) / side)
    grid_1Dhw = table_1nD.transpose(1, 2).unflatten(2, (side, side))
    grid_1Dhw = F.interpolate(grid_1Dhw, scale_factor=scale, mode="bicubic", antialias=antialias)
    return grid_1Dhw.flatten(2).transpose(1, 2)
