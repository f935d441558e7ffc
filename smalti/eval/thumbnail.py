"""The baseline every tokenizer must beat: a small bicubic copy of the image, coded at the same number of bits.

Shape suffixes: B batch, H W pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.eval.pixel import psnr

DEPTHS = range(2, 9)
"""Bits per color channel that are tried."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Thumbnails:
    """Decoded thumbnails of a batch and what each of them cost."""

    images: Tensor
    """float [B, 3, H, W] in [0, 1], at the size of the source."""
    sides: Tensor
    """int64 [B, 2]: height and width of the thumbnail; 0, 0 = nothing fitted, the image is plain gray."""
    depths: Tensor
    """int64 [B]: bits per color channel."""
    bits: Tensor
    """int64 [B]: 3 * height * width * depth, at most the budget."""


def thumbnails(images: Tensor, bits: float) -> Thumbnails:
    """The best thumbnail of every image [B, 3, H, W] in [0, 1] within `bits` bits.

    For an h x w thumbnail of d bits per channel (2 to 8) the cost is 3 h w d; its shorter side takes every value, its
    longer one follows the aspect ratio. Shrinking: bicubic with antialiasing; rounding to 2^d uniform levels;
    enlarging: bicubic, clamped. Per image the (side, depth) of the highest PSNR is taken, and naming that choice costs
    nothing: the baseline is given every advantage.
    """
    height, width = images.shape[-2:]
    batch = images.shape[0]
    best = Thumbnails(
        images=torch.full_like(images, 0.5),
        sides=torch.zeros(batch, 2, dtype=torch.int64),
        depths=torch.zeros(batch, dtype=torch.int64),
        bits=torch.zeros(batch, dtype=torch.int64),
    )
    best_psnr = psnr(images, best.images).cpu()
    for h, w in _shapes(height, width, bits):
        small = F.interpolate(images, (h, w), mode="bicubic", antialias=True).clamp(0, 1)
        for depth in DEPTHS:
            cost = 3 * h * w * depth
            if cost > bits:
                break
            coded = _enlarge(_round(small, depth), height, width)
            value = psnr(images, coded).cpu()
            better = value > best_psnr
            best.images[better] = coded[better]
            best.sides[better] = torch.tensor([h, w])
            best.depths[better] = depth
            best.bits[better] = cost
            best_psnr = torch.where(better, value, best_psnr)
    return best


def _shapes(height: int, width: int, bits: float) -> list[tuple[int, int]]:
    """Every thumbnail shape of the image's aspect ratio that the budget can pay at the lowest depth."""
    short = min(height, width)
    limit = min(short, math.isqrt(int(bits) // (3 * DEPTHS[0])))
    shapes = [(max(1, round(n * height / short)), max(1, round(n * width / short))) for n in range(1, limit + 1)]
    return [(h, w) for h, w in shapes if 3 * h * w * DEPTHS[0] <= bits]


def _round(x: Tensor, depth: int) -> Tensor:
    levels = 2**depth - 1
    return (x * levels).round() / levels


def _enlarge(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)
