"""How charts become pixels: the mean of the ideal pattern over the square of each pixel, then 8 bits.

Shape suffixes: B batch, H W pixels.
"""

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from smalti.images import to_uint8


def rng(seed: int, name: str) -> np.random.Generator:
    """A random stream of its own for every named chart, so that no chart depends on which others are drawn."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def check_side(size: int, minimum: int, what: str) -> None:
    """A ValueError unless a chart of `size` pixels a side can show what it is for."""
    if size < minimum:
        raise ValueError(f"{what} needs at least {minimum} pixels a side, got {size}: use a larger image size")


def area_sample(pattern: Callable[[Tensor, Tensor], Tensor], height: int, width: int, oversample: int = 16) -> Tensor:
    """float64 [..., H, W]: `pattern(x, y)` averaged over each pixel.

    `pattern` gets the coordinates [1, W n] and [H n, 1] in pixels, where the center of pixel (0, 0) is at (0.5, 0.5),
    and gives [..., H n, W n]; the mean is taken over n x n points of each pixel (midpoint rule).
    """
    steps = torch.arange(max(height, width) * oversample, dtype=torch.float64)
    at = (steps + 0.5) / oversample
    values = pattern(at[None, : width * oversample], at[: height * oversample, None])
    shape = (*values.shape[:-2], height, oversample, width, oversample)
    return values.to(torch.float64).reshape(shape).mean(dim=(-3, -1))


def as_images(gray: Tensor) -> Tensor:
    """float32 [B, 3, H, W] of gray [B, H, W] or RGB [B, 3, H, W] charts, as an 8-bit file holds them."""
    rgb = gray[:, None].expand(-1, 3, -1, -1) if gray.ndim == 3 else gray
    return to_uint8(rgb).float() / 255
