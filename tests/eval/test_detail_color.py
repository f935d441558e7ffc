"""Proves that CIEDE2000 gives the values its authors published, and that patches are read where they lie."""

import pytest
import torch

from smalti.eval.detail.charts import PATCHES, patch_charts, rng
from smalti.eval.detail.color import ciede2000, patch_difference, srgb_to_lab

SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""
"""Test pairs of Sharma, Wu and Dalal (2005): two CIELAB colors and their difference."""


def test_the_published_pairs() -> None:
    """All 34, to the digits printed, in both directions."""
    rows = torch.tensor([[float(v) for v in line.split()] for line in SHARMA.split("\n") if line], dtype=torch.float64)
    assert len(rows) == 34
    for first, second in ((rows[:, :3], rows[:, 3:6]), (rows[:, 3:6], rows[:, :3])):
        assert float((ciede2000(first, second) - rows[:, 6]).abs().max()) < 5.1e-5


def test_lab_of_known_colors() -> None:
    """Black, white, mid gray and the red of sRGB."""
    rgb = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]])
    truth = torch.tensor([[0.0, 0, 0], [100, 0, 0], [53.389, 0, 0], [53.241, 80.092, 67.203]], dtype=torch.float64)
    assert float((srgb_to_lab(rgb) - truth).abs().max()) < 0.02


@pytest.mark.parametrize("patch", [4, 16, 32, 64])
def test_patches_are_read_where_they_lie(patch) -> None:
    """No difference for the charts themselves; one changed color is seen alone; all 24 are there."""
    chart = patch_charts(64, patch, rng(0, "patches"))
    assert sorted(map(tuple, chart.colors.tolist())) == sorted(PATCHES)
    assert patch_difference(chart.images, chart.label, chart.colors).max() < 1e-6
    wrong = torch.where((chart.label == 5)[:, None], 1 - chart.images, chart.images)
    found = patch_difference(wrong, chart.label, chart.colors)
    assert float(found[5]) > 1 and found[torch.arange(24) != 5].max() < 1e-6


def test_bad_input() -> None:
    """A patch that does not fit, a label map without one."""
    with pytest.raises(ValueError, match="does not fit"):
        patch_charts(32, 33, rng(0, "patches"))
    with pytest.raises(ValueError, match="have no pixels"):
        patch_difference(torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), torch.rand(2, 3))
