"""Proves that signs are read by their templates, thresholds recovered, and fonts without a glyph refused."""

import math

import numpy as np
import pytest
import torch

from smalti.eval.detail.acuity import decide, read_rings
from smalti.eval.detail.charts import landolt_rings
from smalti.eval.detail.glyph_acuity import DIGITS, LATIN, glyph_bank
from smalti.eval.detail.packing import pack
from smalti.eval.detail.psychometric import fit, smallest_read

OFFSETS = [(0.0, 0.0), (0.3, -0.2)]


@pytest.mark.parametrize("gap", [1.0, 2.5, 6.0])
def test_rings_are_read_in_both_polarities(gap) -> None:
    """All 8 orientations at each offset, also faded and on another ground."""
    for levels in ((0.9, 0.1), (0.1, 0.9)):
        rings = landolt_rings(gap, OFFSETS, levels=levels)
        for k in range(8):
            cells = 0.5 + 0.1 * (rings[:, k] - 0.3)
            assert read_rings(cells, gap, torch.tensor(OFFSETS), levels).choice.tolist() == [k, k]


def test_a_ring_turned_by_a_right_angle_is_the_next_but_one() -> None:
    """Orientations go counter-clockwise."""
    rings = landolt_rings(3.0, [(0.0, 0.0)])[0]
    assert torch.allclose(torch.rot90(rings[0]), rings[2], atol=0.02)


def test_a_flat_cell_is_a_guess() -> None:
    """It correlates with nothing: template 0, no margin."""
    rings = landolt_rings(2.0, [(0.0, 0.0)])
    found = decide(torch.full((1, *rings.shape[2:]), 0.5), rings)
    assert found.choice.tolist() == [0] and float(found.margin) == 0


def test_cells_come_back_from_the_page() -> None:
    """What is packed is found, at most 16 on an image, none over another."""
    cells = torch.rand(40, 13, 13, generator=torch.Generator().manual_seed(0)).double()
    packed = pack(cells, 64, 0.9, np.random.default_rng(0))
    assert torch.equal(packed.cells(packed.images), cells)
    assert packed.images.shape == (3, 64, 64) and len(set(packed.at)) == 40
    with pytest.raises(ValueError, match="13 px does not fit an image of 12 px"):
        pack(cells, 12, 0.9, np.random.default_rng(0))


def test_the_fit_recovers_a_threshold() -> None:
    """From 4,000 answers drawn with a known one, inside the band; and agrees with a general optimizer."""
    from scipy.optimize import minimize

    sizes = [2 ** (k / 3) for k in range(10)]
    x = np.log2(sizes)
    p = 1 / 8 + 7 / 8 / (1 + np.exp(-4 * (x - 1.3)))
    right = np.random.default_rng(0).binomial(400, p).tolist()
    found = fit(sizes, right, [400] * 10, 1 / 8)
    assert found.size == pytest.approx(2**1.3, rel=0.03) and found.low < 2**1.3 < found.high and not found.beyond

    def nll(q: np.ndarray) -> float:
        share = 1 / 8 + 7 / 8 / (1 + np.exp(-q[1] * (x - q[0])))
        return -float((np.array(right) * np.log(share) + (400 - np.array(right)) * np.log1p(-share)).sum())

    best = minimize(nll, [1.0, 3.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9})
    assert math.log2(found.size) == pytest.approx(best.x[0], abs=1e-5)
    assert found.slope == pytest.approx(best.x[1], rel=1e-4) and found.nll == pytest.approx(best.fun, abs=1e-6)


def test_thresholds_outside_of_the_sizes_are_said_so() -> None:
    """All right: below; guessing: above; a step has a finite answer."""
    sizes = [1.0, 2.0, 4.0]
    assert fit(sizes, [16] * 3, [16] * 3, 1 / 8).beyond == "below"
    guessing = fit(sizes, [2] * 3, [16] * 3, 1 / 8)
    assert guessing.beyond == "above" and guessing.smallest is None
    step = fit(sizes, [2, 2, 16], [16] * 3, 1 / 8)
    assert 2 < step.size < 4 and step.smallest == 4
    assert smallest_read([1, 2], [0.9, 0.7]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1], [2], 0.1), "two or more sizes"),
        (([2.0, 1.0], [1, 1], [2, 2], 0.1), "ascending"),
        (([1.0, 2.0], [3, 1], [2, 2], 0.1), "between 0 and the number shown"),
    ],
)
def test_a_fit_of_nonsense_is_refused(arguments, message) -> None:
    """With what was got."""
    with pytest.raises(ValueError, match=message):
        fit(*arguments)


def test_glyphs_are_read_by_themselves() -> None:
    """36 signs of the packaged font at 6 px and two placements; the ink has the height of capitals."""
    bank = glyph_bank([*LATIN, *DIGITS], 12, OFFSETS)
    assert bank.ink.shape[:2] == (2, 36) and 7 < bank.height < 10 and bank.chance == 1 / 36
    for p in range(2):
        cells = bank.drawn((0.9, 0.1))[p]
        assert decide(cells, bank.drawn((0.9, 0.1))[p]).choice.tolist() == list(range(36))
    assert not torch.equal(bank.ink[0], bank.ink[1])


def test_fonts_without_a_glyph_are_refused(tmp_path) -> None:
    """Chinese with the Latin font, the same sign twice, no ink, no font."""
    with pytest.raises(ValueError, match="has no glyph for '水'"):
        glyph_bank(["A", "水"], 12, OFFSETS)
    with pytest.raises(ValueError, match="alike"):
        glyph_bank(["A", "A "], 12, OFFSETS)
    with pytest.raises(ValueError, match="no ink"):
        glyph_bank(["A", " "], 12, OFFSETS)
    with pytest.raises(ValueError, match="two or more different"):
        glyph_bank(["A", "A"], 12, OFFSETS)
    with pytest.raises(FileNotFoundError, match="no font file"):
        glyph_bank(["A", "B"], 12, OFFSETS, font=tmp_path / "none.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a font that can be read"):
        glyph_bank(["A", "B"], 12, OFFSETS, font=tmp_path / "broken.ttf")


def test_bad_cells_are_refused() -> None:
    """Other sizes, too many templates, NaN."""
    rings = landolt_rings(2.0, OFFSETS)
    with pytest.raises(ValueError, match="need templates"):
        decide(torch.zeros(2, 9, 9), rings)
    with pytest.raises(ValueError, match="NaN"):
        decide(rings[:, 0] * math.nan, rings)
    with pytest.raises(ValueError, match="does not fit its cell"):
        landolt_rings(4.0, OFFSETS, cell=18)
