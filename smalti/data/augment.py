"""Augmentation of a batch on its device, each image differently, without blur.

Images are moved on a grid twice as fine as the output (bicubic) and then shrunk with antialiasing, so that the result
is as sharp as a plain resize. Random numbers are drawn on the CPU: a GPU sees the same batch.

Shape suffixes: B batch, S stored side, s output side.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.images import Resize, resize_images


def resize_exactly(images: Tensor, size: int, resize: Resize) -> Tensor:
    """float [B, 3, s, s] in [0, 1] of uint8 [B, 3, S, S], as evaluation resizes."""
    return resize_images(images.float() / 255, size, resize)


def move(
    images: Tensor,
    size: int,
    *,
    scale: Tensor,
    angle: Tensor,
    shift: Tensor,
    flip: Tensor | None = None,
    pad: str = "white",
) -> Tensor:
    """Scaled, rotated and shifted images, float [B, 3, s, s] in [0, 1], of float [B, 3, S, S].

    scale [B]: > 1 makes the content larger; angle [B]: degrees; shift [B, 2]: share of the side, right and down;
    flip [B]: bool, mirrored left-right; pad: what is seen beyond the border: "white", "border" or "reflection".
    """
    radians = angle * (math.pi / 180)
    cos, sin = radians.cos() / scale, radians.sin() / scale
    mirror = torch.ones_like(cos) if flip is None else 1 - 2 * flip.to(cos)
    rows = [
        torch.stack([cos * mirror, -sin, -2 * shift[:, 0] * mirror], -1),
        torch.stack([sin * mirror, cos, -2 * shift[:, 1]], -1),
    ]
    matrix_B23 = torch.stack(rows, 1).to(images.device)
    grid = F.affine_grid(matrix_B23, [len(images), 3, 2 * size, 2 * size], align_corners=False)
    white = pad == "white"
    mode = "zeros" if white else pad
    fine = F.grid_sample(1 - images if white else images, grid, mode="bicubic", padding_mode=mode, align_corners=False)
    fine = F.interpolate(fine, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return (1 - fine if white else fine).clamp(0, 1)


def _uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(shape, generator=rng) * (high - low) + low


def _sometimes(rng: torch.Generator, share: float, values: Tensor, otherwise: float) -> Tensor:
    keep = torch.rand((len(values), *[1] * (values.ndim - 1)), generator=rng) < share
    return torch.where(keep, values, otherwise)


def emoji(images: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Scale -15..+25 %, sometimes +-8 degrees, shift, sometimes a light tint; never mirrored (arrows, letters)."""
    count = len(images)
    moved = move(
        images.float() / 255,
        size,
        scale=_uniform(rng, 0.85, 1.25, count),
        angle=_sometimes(rng, 0.4, _uniform(rng, -8, 8, count), 0.0),
        shift=_uniform(rng, -0.06, 0.06, count, 2),
    )
    tint = _sometimes(rng, 0.2, _uniform(rng, 0.75, 1.0, count, 3), 1.0)
    return moved * tint[:, :, None, None].to(moved.device)


def photos(images: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Mirrored half of the time, up to 25 % larger, sometimes +-8 degrees, small changes of brightness."""
    count = len(images)
    moved = move(
        images.float() / 255,
        size,
        scale=_uniform(rng, 1.0, 1.25, count),
        angle=_sometimes(rng, 0.2, _uniform(rng, -8, 8, count), 0.0),
        shift=_uniform(rng, -0.08, 0.08, count, 2),
        flip=torch.rand(count, generator=rng) < 0.5,
        pad="reflection",
    )
    gain = _uniform(rng, 0.8, 1.15, count, 1)[:, :, None, None].to(moved.device)
    return (moved * gain).clamp(0, 1)


def text(images: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Shifted, sometimes inverted, sometimes with other light and dark colors."""
    count = len(images)
    moved = move(
        images.float() / 255,
        size,
        scale=torch.ones(count),
        angle=torch.zeros(count),
        shift=_uniform(rng, -0.06, 0.06, count, 2),
        pad="border",
    )
    invert = (torch.rand(count, generator=rng) < 0.3)[:, None, None, None].to(moved.device)
    light = _sometimes(rng, 0.4, _uniform(rng, 0.75, 1.0, count, 3), 1.0)[:, :, None, None].to(moved.device)
    dark = _sometimes(rng, 0.4, _uniform(rng, 0.0, 0.4, count, 3), 0.0)[:, :, None, None].to(moved.device)
    tinted = dark + moved * (light - dark)
    return torch.where(invert, 1 - tinted, tinted)


def mild(images: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Scale +-8 %, shift of at most 3 of 64 pixels, on white: what a generator may learn as the drawing itself."""
    count = len(images)
    return move(
        images.float() / 255,
        size,
        scale=_uniform(rng, 0.92, 1.08, count),
        angle=torch.zeros(count),
        shift=_uniform(rng, -3 / 64, 3 / 64, count, 2),
    )


AUGMENT: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {"emoji": emoji, "photos": photos, "text": text}
