"""Proves that the slanted edge reads the analytic MTF of blurs, shifts and rings, and says when it cannot read."""

import math

import pytest
import torch
from torch import Tensor

from smalti.eval.detail.charts import slanted_edge
from smalti.eval.detail.mtf import edge_response, transferred

GRID = torch.arange(33, dtype=torch.float64) / 64


def analytic(angle: float, sigma: float) -> Tensor:
    """MTF of an area-sampled edge blurred by a Gaussian, along its normal."""
    a, b = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    return torch.exp(-2 * (math.pi * sigma * GRID) ** 2) * (torch.sinc(GRID * a) * torch.sinc(GRID * b)).abs()


@pytest.mark.parametrize("angle", [5.0, -7.0, 12.0])
@pytest.mark.parametrize("sigma", [0.0, 0.8, 1.5])
@pytest.mark.parametrize("levels", [(0.2, 0.8), (0.8, 0.2), (0.4, 0.6)])
def test_blurred_edges_read_their_analytic_mtf(angle, sigma, levels) -> None:
    """Within .01 up to the Nyquist frequency, in both polarities and contrasts, off the center too."""
    edge = slanted_edge(96, 80, angle=angle, levels=levels, sigma=sigma, offset=(3.3, 1.7))[None]
    found = edge_response(edge)
    assert float((found.at(GRID)[0] - analytic(angle, sigma)).abs().max()) < 0.01
    assert float(found.line.angle) == pytest.approx(angle, abs=0.01)
    assert float(found.contrast) == pytest.approx(levels[1] - levels[0], abs=0.005)
    assert float(found.overshoot) < 1


def test_identical_edges_have_ratio_1() -> None:
    """And no shift, turn or overshoot; no level is reached."""
    edges = torch.stack([slanted_edge(64, 64, angle=5, levels=(0.2, 0.8), offset=(x, 0)) for x in (0.0, 0.4, 2.0)])
    found = transferred(edges, edges)
    readable = found.response[:, found.frequency <= 0.8]
    assert torch.allclose(readable, torch.ones_like(readable), atol=1e-12) and found.response[:, -1].isnan().all()
    for value in (found.shift, found.angle_error, found.overshoot):
        assert float(value.abs().max()) < 1e-9
    assert found.mtf(0.5).isinf().all() and not found.lost.any()


def test_shift_turn_and_ringing_are_measured() -> None:
    """An edge moved by 0.7 px, one turned by 1 degree, one with 10 per cent of overshoot."""
    plain = slanted_edge(64, 64, angle=5, levels=(0.2, 0.8))
    moved = slanted_edge(64, 64, angle=5, levels=(0.2, 0.8), offset=(0.7, 0))
    turned = slanted_edge(64, 64, angle=6, levels=(0.2, 0.8))
    wide, narrow = (slanted_edge(64, 64, angle=5, levels=(0.2, 0.8), sigma=s) for s in (4.0, 1.0))
    ringing = narrow + 0.5 * (narrow - wide)
    found = transferred(plain.expand(3, -1, -1), torch.stack([moved, turned, ringing]))
    assert float(found.shift[0]) == pytest.approx(0.7 * math.cos(math.radians(5)), abs=0.005)
    assert float(found.angle_error[1]) == pytest.approx(1, abs=0.01)
    truth = 100 * float((ringing.max() - 0.8) / 0.6)
    assert truth > 5 and float(found.overshoot[2]) == pytest.approx(truth, abs=1)
    assert float(found.at(GRID)[2].max()) > 1.05  # sharpening lifts the middle frequencies


def test_an_edge_that_is_gone_is_lost() -> None:
    """Flat, or 5 per cent of the contrast: response 0, no shift; one that keeps 20 per cent is read."""
    edge = slanted_edge(64, 64, angle=5, levels=(0.2, 0.8))
    flat, faint, weak = torch.full_like(edge, 0.5), 0.5 + 0.05 * (edge - 0.5), 0.5 + 0.2 * (edge - 0.5)
    found = transferred(edge.expand(3, -1, -1), torch.stack([flat, faint, weak]))
    assert found.lost.tolist() == [True, True, False]
    assert (found.response[:2] == 0).all() and (found.mtf(0.5)[:2] == 0).all()
    assert found.shift[:2].isnan().all()
    assert torch.allclose(found.at(GRID)[2], torch.ones_like(GRID), atol=1e-9)


def test_rows_without_an_edge_do_not_spoil_the_line() -> None:
    """A tokenizer that loses a quarter of an edge leaves the other rows to fit."""
    edge = slanted_edge(64, 64, angle=5, levels=(0.2, 0.8))
    broken = edge.clone()
    broken[:16] = 0.5
    assert float(edge_response(broken[None]).line.angle) == pytest.approx(5, abs=0.05)


def test_a_batch_is_read_as_one_by_one() -> None:
    """Order and batch change nothing."""
    edges = torch.stack([slanted_edge(64, 64, angle=a, levels=(0.2, 0.8), sigma=s) for a in (4, 6) for s in (0.5, 2)])
    together = edge_response(edges)
    for i in range(len(edges)):
        alone = edge_response(edges[i : i + 1])
        assert torch.allclose(alone.sfr[0], together.sfr[i], atol=1e-12)
    assert torch.allclose(edge_response(edges.flip(0)).sfr.flip(0), together.sfr, atol=1e-12)


def test_bad_input() -> None:
    """Too small, not gray, NaN, other sizes."""
    edge = slanted_edge(64, 64, angle=5, levels=(0.2, 0.8))[None]
    with pytest.raises(ValueError, match="at least 16 pixels a side, got 8x64"):
        edge_response(edge[:, :8])
    with pytest.raises(ValueError, match=r"takes float \[B, H, W\]"):
        edge_response(edge[None])
    with pytest.raises(ValueError, match="NaN"):
        edge_response(torch.where(edge > 0.5, math.nan, edge))
    with pytest.raises(ValueError, match="one shape"):
        transferred(edge, edge[:, :32])
    with pytest.raises(ValueError, match="at least 16 pixels a side, got 8"):
        slanted_edge(8, 8, angle=5, levels=(0.2, 0.8))
