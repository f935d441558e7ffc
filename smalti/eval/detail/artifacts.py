"""Grid artifacts, answers to a shift, and drift over repeated coding.

Shape suffixes: B batch, H W pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.signal import check_gray
from smalti.eval.pixel import psnr
from smalti.images import check_images


def blockiness(images: Tensor, stride: int) -> Tensor:
    """float64 [B]: mean |jump| between neighbors across token borders over that inside tokens, of [B, H, W].

    Borders lie at multiples of `stride` pixels, both axes are pooled; about 1 without a grid. NaN for an image
    without jumps inside tokens. Errors: ValueError below two tokens a side.
    """
    if stride < 2:
        raise ValueError(f"stride={stride}: a token border needs tokens of at least 2 pixels a side")
    check_gray(images, minimum=2 * stride, what=f"blockiness at {stride} px")
    images = images.double()
    border, inside = [], []
    for axis in (1, 2):
        jump = images.diff(dim=axis).abs()
        at = torch.arange(1, images.shape[axis], device=images.device) % stride == 0
        border.append(jump.index_select(axis, at.nonzero().flatten()).flatten(1))
        inside.append(jump.index_select(axis, (~at).nonzero().flatten()).flatten(1))
    across, within = torch.cat(border, dim=1).mean(dim=1), torch.cat(inside, dim=1).mean(dim=1)
    return (across / within).where(within > 0, math.nan)


def shifted_views(canvas: Tensor, size: int, shift: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two [B, 3, size, size] windows of canvas [B, 3, H, W], the second `shift` (x, y) >= 0 pixels further on."""
    x, y = shift
    if min(x, y) < 0 or canvas.shape[-1] < size + x or canvas.shape[-2] < size + y:
        raise ValueError(f"a canvas of {list(canvas.shape[-2:])} holds no {size} px window moved by {shift}")
    return canvas[..., :size, :size], canvas[..., y : y + size, x : x + size]


def shift_consistency(first: Tensor, second: Tensor, shift: tuple[int, int], border: int = 0) -> Tensor:
    """float64 [B]: PSNR in dB between reconstructions [B, 3, H, W] of two `shifted_views`, where both show the scene.

    It says how much the answer to the same pixels depends on where the token grid lies: inf for a reconstruction that
    moves with its image. `border` pixels at the rim of the overlap are left out.
    """
    check_images(first)
    check_images(second)
    x, y = shift
    height, width = first.shape[-2] - y, first.shape[-1] - x
    if min(height, width) - 2 * border < 8:
        raise ValueError(f"a shift of {shift} and a border of {border} px leave less than 8 px of {first.shape[-2:]}")
    inner = (..., slice(border, height - border), slice(border, width - border))
    return psnr(first[..., y:, x:][inner], second[..., :height, :width][inner])


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounds:
    """PSNR in dB over rounds of coding; both float64 [rounds, B], inf for an identical pair."""

    original: Tensor
    """Each round against the original."""
    previous: Tensor
    """Each round against the one before."""


def reencoded(reconstruct: Callable[[Tensor], Tensor], images: Tensor, rounds: int = 5) -> Rounds:
    """Codes images [B, 3, H, W] in [0, 1] again and again: each round gets what the last one gave."""
    check_images(images)
    current, original, previous = images, [], []
    for _ in range(rounds):
        after = reconstruct(current)
        check_images(after)
        original.append(psnr(images, after))
        previous.append(psnr(current, after))
        current = after
    return Rounds(original=torch.stack(original), previous=torch.stack(previous))
