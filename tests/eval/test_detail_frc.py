"""Proves that Fourier ring correlation pools images in any order, batch and size, and finds a known cutoff."""

import math

import pytest
import torch
from torch import Tensor

from smalti.eval.detail.charts import dead_leaves, pink_noise, rng
from smalti.eval.detail.frc import RingCorrelation, ring_sums


def noise(count: int, seed: int, size: int = 64) -> Tensor:
    """White noise."""
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def low_passed(images: Tensor, cutoff: float) -> Tensor:
    """Without anything above `cutoff` cycles per pixel, but noise of the same power instead."""
    spectrum = torch.fft.fft2(images)
    other = torch.fft.fft2(noise(len(images), 99, images.shape[-1]))
    rows = torch.fft.fftfreq(images.shape[-1], dtype=torch.float64)
    return torch.fft.ifft2(torch.where(torch.hypot(rows[:, None], rows) < cutoff, spectrum, other)).real


def test_identical_and_unrelated() -> None:
    """1 in every ring; near 0 for independent noise."""
    images = noise(8, 0)
    same = ring_sums(images, images).pooled()
    assert torch.allclose(same.frc, torch.ones(32).double()) and torch.allclose(
        same.power_ratio, torch.ones(32).double()
    )
    assert same.resolution().isinf()
    assert float(ring_sums(images, noise(8, 1)).pooled().frc[2:].abs().mean()) < 0.1


def test_a_cutoff_is_found() -> None:
    """Where only noise follows, at one ring's width; less power is no less correlation."""
    images = noise(8, 0)
    sums = ring_sums(images, 0.3 + 0.5 * low_passed(images, 0.25)).pooled()
    assert float(sums.resolution(0.5)) == pytest.approx(0.25, abs=1 / 64)
    assert float(sums.resolution(1 / 7)) >= float(sums.resolution(0.5))
    assert torch.allclose(sums.power_ratio[2:14], torch.full((12,), 0.25).double(), rtol=0.05)


def test_order_batch_and_size_do_not_matter() -> None:
    """Streaming in any batches gives the pooled sums; images of several sizes share the rings."""
    first, second = noise(6, 0), low_passed(noise(6, 0), 0.2)
    whole = ring_sums(first, second).pooled()
    for order, batch in ((range(6), 1), ((5, 3, 1, 0, 2, 4), 4)):
        correlation = RingCorrelation()
        for part in torch.tensor(list(order)).split(batch):
            correlation.update(first[part], second[part])
        assert torch.allclose(correlation.sums.frc, whole.frc, atol=1e-12) and correlation.images == 6
    mixed = RingCorrelation()
    mixed.update(first, second)
    large = noise(2, 5, 96)[:, :, :80]
    mixed.update(large, large)
    assert (mixed.sums.frc > whole.frc - 1e-9).all()


def test_a_ring_without_power_is_disagreement() -> None:
    """A flat reconstruction resolves nothing."""
    images = noise(2, 0)
    assert float(ring_sums(images, torch.full_like(images, 0.5)).pooled().resolution()) == pytest.approx(1 / 128)


def test_textures_are_seeded() -> None:
    """The same stream, the same picture; 1/f noise has the slope of its name."""
    assert torch.equal(dead_leaves(32, rng(0, "a")), dead_leaves(32, rng(0, "a")))
    assert not torch.equal(dead_leaves(32, rng(0, "a")), dead_leaves(32, rng(1, "a")))
    pink = torch.stack([pink_noise(128, rng(i, "n")) for i in range(8)])
    sums = ring_sums(pink, pink)
    power = (sums.reference.sum(dim=0) / sums.count).log()
    x = sums.centers.log()
    inner = slice(3, 28)
    slope = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1)[inner], power[inner, None]).solution[0]
    assert float(slope) == pytest.approx(-2, abs=0.25)


def test_bad_input() -> None:
    """Too small for the rings, nothing given, NaN."""
    with pytest.raises(ValueError, match="at least 64 pixels a side, got 32x32"):
        ring_sums(noise(1, 0, 32), noise(1, 0, 32))
    with pytest.raises(ValueError, match="no images"):
        _ = RingCorrelation().sums
    with pytest.raises(ValueError, match="NaN"):
        ring_sums(noise(1, 0), noise(1, 0) * math.nan)
