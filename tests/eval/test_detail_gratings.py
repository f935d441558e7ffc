"""Proves that the lock-in tells what is kept of a wave from what is put in its place, and regions from each other."""

import math

import pytest
import torch
from torch import Tensor

from smalti.eval.detail.charts import grating, siemens_star, three_bars, zone_plate
from smalti.eval.detail.charts.waves import BLUE_YELLOW, RED_GREEN, chroma
from smalti.eval.detail.gratings import f50, lock_in, third_octaves
from smalti.eval.detail.signal import LUMA, by_label, first_crossing, luminance

U, V = torch.tensor([0.1, 0.0, 0.15]), torch.tensor([0.0, 0.2, -0.15])


def waves(phase: float = 0.0, contrast: float = 0.8) -> Tensor:
    """Three gratings."""
    return grating(64, U, V, torch.full((3,), phase), torch.full((3,), contrast))


def test_identical_waves() -> None:
    """Gain 1, phase 0, coherence 1, nothing invented."""
    found = lock_in(waves(), waves(), U, V)
    for value, truth in ((found.gain, 1), (found.phase, 0), (found.coherence2, 1), (found.faithful, 1)):
        assert torch.allclose(value, torch.full((3,), float(truth)).double(), atol=1e-12)
    assert found.hallucinated.abs().max() < 1e-12


def test_fading_moving_and_inverting() -> None:
    """Half the contrast; a quarter period; the negative."""
    faded = lock_in(waves(), waves(contrast=0.4), U, V)
    assert torch.allclose(faded.faithful, torch.full((3,), 0.5).double(), atol=1e-9)
    assert faded.hallucinated.abs().max() < 1e-9
    moved = lock_in(waves(), waves(phase=math.pi / 2), U, V)
    assert torch.allclose(moved.phase, torch.full((3,), math.pi / 2).double(), atol=0.01)
    assert moved.faithful.abs().max() < 0.01 and float(moved.hallucinated.min()) > 0.99
    assert torch.allclose(lock_in(waves(), 1 - waves(), U, V).faithful, torch.full((3,), -1.0).double())


def test_noise_is_hallucinated_energy() -> None:
    """Added noise of a known power is what is found besides the wave; a flat field is neither."""
    noise = 0.1 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = lock_in(waves(), waves() + noise, U, V)
    wave_power = (waves() - 0.5).square().mean(dim=(1, 2))
    assert torch.allclose(found.hallucinated, 0.01 / wave_power, rtol=0.15)
    assert torch.allclose(found.faithful, torch.ones(3).double(), atol=0.02)
    flat = lock_in(waves(), torch.full((3, 64, 64), 0.5), U, V)
    assert flat.faithful.abs().max() == flat.hallucinated.abs().max() == flat.coherence2.max() == 0


def test_gratings_are_area_sampled() -> None:
    """Against the mean of 32 x 32 points a pixel."""
    fine = (torch.arange(16 * 32, dtype=torch.float64) + 0.5) / 32 - 0.5
    points = 0.5 + 0.4 * torch.cos(2 * math.pi * (0.15 * fine - 0.15 * fine[:, None]) + 0.3)
    truth = points.reshape(16, 32, 16, 32).mean(dim=(1, 3))
    ours = grating(16, U[2:], V[2:], torch.tensor([0.3]), torch.tensor([0.8]))
    assert torch.allclose(ours[0], truth, atol=1e-4)


def test_f50_and_frequencies() -> None:
    """First crossing, interpolated; none is inf; the grid ends at the Nyquist frequency."""
    x = torch.tensor([0.1, 0.2, 0.4])
    curves = torch.tensor([[1.0, 0.75, 0.25], [1.0, 0.9, 0.8], [0.3, 0.9, 0.2]])
    assert f50(x, curves).tolist() == pytest.approx([0.3, math.inf, 0.1])
    assert first_crossing(x, torch.tensor([math.nan, 0.9, 0.1]), 0.5).isfinite()
    assert third_octaves(1 / 64)[0] == pytest.approx(1 / 64) and len(third_octaves(1 / 64)) == 16
    assert third_octaves(1 / 32, step=2)[-1] == 0.5


@pytest.mark.parametrize("direction", [RED_GREEN, BLUE_YELLOW])
def test_chroma_gratings_have_no_luminance(direction) -> None:
    """Luminance of a chroma grating is flat and its code values stay in range."""
    images = chroma(waves(), direction)
    assert images.min() >= 0 and images.max() <= 1
    assert luminance(images).std(dim=(1, 2)).max() < 1e-12
    assert sum(w * d for w, d in zip(LUMA, direction, strict=True)) == pytest.approx(0, abs=1e-12)


def test_regions_are_regressed_one_by_one() -> None:
    """Each region has its own faithful contrast; flat or absent regions are NaN; the mean does not count."""
    x = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    label = (torch.arange(8) // 3).expand(8, 8).clone()
    label[0] = -1
    r = torch.where(label == 0, 0.5 * x + 0.2, torch.where(label == 1, -x, x))
    faithful, invented = by_label(x, r, label, 4)
    assert torch.allclose(faithful[:, :3], torch.tensor([0.5, -1.0, 1.0]).double().expand(2, -1))
    assert faithful[:, 3].isnan().all() and invented[:, :3].abs().max() < 1e-9
    flat, _ = by_label(torch.full_like(x, 0.3), r, label, 3)
    assert flat.isnan().all()


def test_patterns() -> None:
    """Range, symmetry and the elements of the bar chart."""
    plate, star = zone_plate(64), siemens_star(64)
    assert torch.allclose(plate, plate.T) and torch.allclose(plate, plate.flip(0))
    assert float(star.min()) == 0 and float(star.max()) == 1
    chart = three_bars(64, vertical=True)
    assert len(chart.widths) > 8 and chart.widths[0] == 4
    assert set(chart.element.unique().tolist()) == {-1, *range(len(chart.widths))}
    assert torch.allclose(three_bars(64, vertical=False).gray.sum(), chart.gray.sum())


def test_bad_input() -> None:
    """A chart without the wave, NaN, other shapes, too small."""
    with pytest.raises(ValueError, match="does not hold the wave"):
        lock_in(torch.full((3, 64, 64), 0.5), waves(), U, V)
    with pytest.raises(ValueError, match="NaN"):
        lock_in(waves(), waves() * math.nan, U, V)
    with pytest.raises(ValueError, match="one shape"):
        lock_in(waves(), waves()[:, :32], U, V)
    with pytest.raises(ValueError, match="at least 16 pixels"):
        zone_plate(8)
    with pytest.raises(ValueError, match="NaN"):
        luminance(torch.full((1, 3, 8, 8), math.nan))
