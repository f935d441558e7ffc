"""Proves that our metrics give the values of the reference implementations, on the golden pairs of `metrics` folders.

Folders named `metrics` below the roots of `SMALTI_GOLDENS` (default: tests/goldens) are replayed; of their parts those
whose metrics exist here: pixel.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smalti.eval.pixel import psnr, ssim
from tests.test_goldens import ROOTS

PIXEL = [p for root in ROOTS for p in sorted(root.rglob("metrics/pixel"))]


def test_there_are_goldens() -> None:
    """No folder found would pass silently."""
    assert PIXEL


@pytest.fixture(params=PIXEL, ids=str)
def pixel(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """Reference and distorted images, float64 in [0, 1], and the reference values."""
    folder: Path = request.param
    pairs = load_file(folder / "pairs.safetensors")
    values = json.loads((folder / "values.json").read_text())
    return pairs["reference_u8"].double() / 255, pairs["distorted_u8"].double() / 255, values


def _named(values: dict, word: str) -> torch.Tensor:
    (name,) = [key for key in values if word in key]
    return torch.tensor(values[name], dtype=torch.float64)


def test_psnr(pixel) -> None:
    """Per image to 1e-6 dB, and the mean of them, which is not the PSNR of the pooled error."""
    reference, distorted, values = pixel
    ours = psnr(reference, distorted)
    torch.testing.assert_close(ours, _named(values["psnr_db"], "numpy per-image"), rtol=0, atol=1e-6)
    assert abs(ours.mean() - values["psnr_db"]["numpy mean of per-image"]) < 1e-6
    pooled = values["psnr_db"]["torchmetrics dataset-level(dim=None,data_range=1,f64)"]
    assert abs(ours.mean() - pooled) > 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ssim(pixel, dtype: torch.dtype) -> None:
    """The canonical value: to 1e-6 from float64 images, to 2e-5 from float32 ones."""
    reference, distorted, values = pixel
    ours = ssim(reference.to(dtype), distorted.to(dtype))
    tolerance = 1e-6 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(ours, _named(values["ssim"], "(canonical)"), rtol=0, atol=tolerance)


def test_edge_cases(pixel) -> None:
    """Identical pairs and black against white."""
    reference, _, values = pixel
    assert psnr(reference, reference).isinf().all()
    assert torch.allclose(ssim(reference, reference), torch.ones(len(reference), dtype=torch.float64))
    black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    edge = values["edge_cases"]["black vs white"]
    assert float(psnr(black, white)) == edge["torchmetrics psnr"]
    assert float(ssim(black, white)) == pytest.approx(edge["torchmetrics ssim"], abs=1e-6)
