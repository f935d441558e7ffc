"""Proves that the thumbnail baseline never spends more than its bits, and is the best of everything it may choose."""

import math

import pytest
import torch
from torch.nn import functional as F

from smalti.eval.pixel import psnr
from smalti.eval.thumbnail import thumbnails


@pytest.fixture
def images() -> torch.Tensor:
    """Noise, a ramp, and a soft blob, 24 x 32."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 32), indexing="ij")
    blob = torch.exp(-8 * ((x - 0.4) ** 2 + (y - 0.6) ** 2))
    return torch.stack([torch.rand(3, 24, 32), x.expand(3, 24, 32), torch.stack([blob, 1 - blob, y])])


@pytest.mark.parametrize("bits", [0, 5.9, 6, 11, 55.5, 330, 2244, 50_000])
def test_bits_never_exceed_the_budget(images: torch.Tensor, bits: float) -> None:
    """The stated bits are those of the stated size and depth, and fit."""
    made = thumbnails(images, bits)
    assert (made.bits <= bits).all()
    assert torch.equal(made.bits, 3 * made.sides.prod(dim=1) * made.depths)
    assert made.images.shape == images.shape
    assert made.images.min() >= 0
    assert made.images.max() <= 1


def test_it_is_the_best_choice(images: torch.Tensor) -> None:
    """A search written apart from it finds nothing better for any image."""
    bits = 330
    made = psnr(images, thumbnails(images, bits).images)
    best = torch.full((3,), -math.inf, dtype=torch.float64)
    for h in range(1, 25):
        w = round(h * 32 / 24)
        for depth in range(2, 9):
            if 3 * h * w * depth > bits:
                continue
            small = F.interpolate(images, (h, w), mode="bicubic", antialias=True).clamp(0, 1)
            levels = 2**depth - 1
            back = F.interpolate((small * levels).round() / levels, (24, 32), mode="bicubic").clamp(0, 1)
            best = torch.maximum(best, psnr(images, back))
    torch.testing.assert_close(made, best)


def test_more_bits_are_never_worse(images: torch.Tensor) -> None:
    """Every choice of a smaller budget is open to a larger one."""
    curve = torch.stack([psnr(images, thumbnails(images, bits).images) for bits in (0, 11, 55, 154, 330, 1001, 2244)])
    assert (curve.diff(dim=0) >= 0).all()


def test_nothing_fits() -> None:
    """Below six bits there is only gray, and it costs nothing."""
    made = thumbnails(torch.rand(2, 3, 16, 16), 5)
    assert made.bits.tolist() == [0, 0]
    assert (made.images == 0.5).all()


def test_one_image_does_not_change_another(images: torch.Tensor) -> None:
    """The choice is per image."""
    alone = thumbnails(images[1:2], 330)
    together = thumbnails(images, 330)
    assert torch.equal(alone.images[0], together.images[1])
    assert together.sides.unique(dim=0).shape[0] > 1 or together.depths.unique().numel() > 1
