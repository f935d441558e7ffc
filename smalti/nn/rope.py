"""Rotary positions (arXiv 2104.09864) over a grid of tokens.

Shape suffixes: R rows, H heads, n tokens, d head width, p = d / 2 pairs of channels.
"""

import torch
from torch import Tensor


def grid_rotations(rows: int, columns: int, head_dim: int, base: float = 10000.0) -> Tensor:
    """complex64 [rows * columns, d / 2]: the turn of every pair of channels of the cell (r, c), cells in raster order.

    With half = d / 2 and f_i = base^(-2 i / half), i < half / 2, the first half of the pairs turn by r f_i, the second
    by c f_i (LlamaGen, arXiv 2406.06525). Errors: ValueError for a head width that 4 does not divide.
    """
    if head_dim % 4:
        raise ValueError(f"2D rotary positions need a head width that is a multiple of 4, got {head_dim}")
    half = head_dim // 2
    frequencies = 1.0 / base ** (torch.arange(0, half, 2).float() / half)
    row_angles = torch.arange(rows).float()[:, None] * frequencies
    column_angles = torch.arange(columns).float()[:, None] * frequencies
    parts = [row_angles[:, None].expand(-1, columns, -1), column_angles[None].expand(rows, -1, -1)]
    angles = torch.cat(parts, dim=-1).flatten(0, 1)
    return torch.complex(angles.cos(), angles.sin())


def without_place(rotations_np: Tensor, count: int) -> Tensor:
    """`count` rows of zeros in front: queries and keys of tokens before the grid become zero vectors.

    Kept: LlamaGen and its descendants multiply the condition tokens by zero instead of leaving them unturned, so every
    logit of attention that touches one is 0.
    """
    return torch.cat([rotations_np.new_zeros(count, rotations_np.shape[1]), rotations_np])


def on_device(rotations_np: Tensor, device: torch.device) -> Tensor:
    """The same table on a device: an ordinary tensor, with which one can train, even if asked for in inference mode."""
    with torch.inference_mode(False):
        return rotations_np.to(device)


def rotate(x_RnHd: Tensor, rotations_np: Tensor) -> Tensor:
    """Turns neighboring channels (x[2 i], x[2 i + 1]) of [..., n, H, d] as complex numbers, in float32.

    The rotations may also come as pairs of real numbers, [n, p, 2], as a compiled block gets them (its compiler has no
    complex ones): the last digit may differ then.
    """
    pairs = x_RnHd.float().unflatten(-1, (-1, 2))
    if rotations_np.is_complex():
        turned = torch.view_as_real(torch.view_as_complex(pairs) * rotations_np[:, None])
    else:
        (a, b), (cos, sin) = pairs.unbind(-1), rotations_np[:, None].unbind(-1)
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1)
    return turned.flatten(-2).to(x_RnHd.dtype)
