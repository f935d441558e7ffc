"""Fixed sine-cosine position tables (arXiv 1706.03762), in one dimension and on a grid as in MAE (arXiv 2111.06377)."""

import torch
from torch import Tensor


def sincos(positions: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """float64 [N, width] for positions [N]: sin(p r_i), then cos(p r_i), with rates r_i = base^(-2i / width)."""
    rates = base ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = positions.double()[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def sincos_grid(height: int, width: int, channels: int) -> Tensor:
    """float64 [height * width, channels] in raster order: one half of the channels codes the column, then the row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.cat([sincos(axis.flatten(), channels // 2) for axis in (columns, rows)], dim=1)
