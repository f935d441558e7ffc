"""Proves that noise, broken lines, token grids, shifts and drift are measured at known strengths."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.eval.detail.artifacts import blockiness, reencoded, shift_consistency, shifted_views
from smalti.eval.detail.charts import thin_line
from smalti.eval.detail.lines import line_contrast
from smalti.eval.detail.texture import contrast_ratio, noise_floor


def images(count: int = 2, size: int = 64) -> Tensor:
    """Smooth random pictures."""
    coarse = torch.rand(count, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def test_noise_floor() -> None:
    """Noise of 3 gray levels reads 3; a wrong but flat color reads 0."""
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 3 / 255
    assert torch.allclose(noise_floor(0.5 + noise), torch.full((4,), 3.0).double(), rtol=0.03)
    flat = torch.tensor([0.2, 0.4, 0.6])[None, :, None, None].expand(1, 3, 8, 8)
    assert float(noise_floor(flat)) < 1e-6
    with pytest.raises(ValueError, match="leaves nothing"):
        noise_floor(flat, border=4)


def test_contrast_ratio() -> None:
    """Half the deviation; NaN where there is none to keep."""
    gray = images()[:, 0]
    assert torch.allclose(contrast_ratio(gray, 0.5 * gray), torch.full((2,), 0.5).double())
    assert contrast_ratio(torch.full_like(gray, 0.5), gray).isnan().all()


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0])
def test_lines_keep_what_they_keep(angle) -> None:
    """A perfect copy, half the contrast, and one that is gone in its second half."""
    offset = (1.3, -0.4)
    line = thin_line(64, width=1, angle=angle, offset=offset)
    half_gone = line.clone()
    if angle in (0.0, 30.0, 135.0):
        half_gone[32:] = 0.9
    else:
        half_gone[:, 32:] = 0.9
    charts = line.expand(3, -1, -1)
    found = line_contrast(charts, torch.stack([line, 0.9 + 0.6 * (line - 0.9), half_gone]), [angle] * 3, [offset] * 3)
    assert found.contrast.tolist() == pytest.approx([1, 0.6, 0.5], abs=0.06)
    assert found.continuity.tolist() == pytest.approx([1, 1, 0.5], abs=0.06)
    length = float(found.longest[0])
    assert length >= 56 and float(found.longest[2]) == pytest.approx(length / 2, abs=4)


def test_thin_lines_are_as_wide_as_they_say() -> None:
    """Ink per row of an upright line; the same area at a slant."""
    for width in (1, 2, 3):
        ink = (0.9 - thin_line(64, width=width, angle=0, offset=(0.2, 0))) / 0.8
        assert torch.allclose(ink.sum(dim=1), torch.full((64,), float(width)).double(), atol=1e-4)


def test_blockiness() -> None:
    """Without a grid 1; means of 8 x 8 pixels have nearly all their jumps at the borders; flat says nothing."""
    noise = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(blockiness(noise, 8), torch.ones(2).double(), atol=0.05)
    mosaic = F.avg_pool2d(noise[:, None], 8).repeat_interleave(8, 2).repeat_interleave(8, 3)[:, 0]
    assert float(blockiness(0.01 * noise + mosaic, 8).min()) > 8
    assert float(blockiness(0.01 * noise + mosaic.roll((4, 4), dims=(1, 2)), 8).max()) < 0.5  # a grid elsewhere
    assert blockiness(torch.full((1, 64, 64), 0.5), 8).isnan().all()
    with pytest.raises(ValueError, match="at least 16 pixels a side"):
        blockiness(noise[:, :12], 8)
    with pytest.raises(ValueError, match="stride=1"):
        blockiness(noise, 1)


def test_shift_consistency() -> None:
    """inf for what moves with its image; finite for what is tied to a grid."""
    canvas = images(size=80)
    first, second = shifted_views(canvas, 64, (3, 5))
    assert torch.equal(first[..., 5:, 3:], second[..., :59, :61])
    assert shift_consistency(first, second, (3, 5)).isinf().all()

    def tied(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)

    assert float(shift_consistency(tied(first), tied(second), (3, 5)).max()) < 40
    eight = shifted_views(canvas, 64, (8, 8))
    assert shift_consistency(tied(eight[0]), tied(eight[1]), (8, 8)).min() > 100
    with pytest.raises(ValueError, match="holds no 64 px window"):
        shifted_views(canvas, 64, (17, 0))
    with pytest.raises(ValueError, match="leave less than 8 px"):
        shift_consistency(first, second, (60, 0))


def test_rounds_of_coding() -> None:
    """A projection changes once and never again; fading goes on."""
    rounds = reencoded(lambda x: (x * 16).round() / 16, images(), 5)
    assert rounds.original.shape == (5, 2) and rounds.previous[0].isfinite().all() and rounds.previous[1:].isinf().all()
    fading = reencoded(lambda x: 0.5 + 0.9 * (x - 0.5), images(), 3).original
    assert (fading[1:] < fading[:-1]).all()
    with pytest.raises(ValueError, match="NaN"):
        reencoded(lambda x: x * math.nan, images(), 2)
