"""Landolt rings and letters by size: what is still read by exact templates.

Shape suffixes: P placements, N signs, s side of a cell in pixels.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from smalti.eval.detail.acuity import CHANCE
from smalti.eval.detail.charts import landolt_cell, landolt_rings
from smalti.eval.detail.glyph_acuity import DIGITS, LATIN, MARGIN, glyph_bank
from smalti.eval.detail.result import Part
from smalti.eval.tasks.detail_parts.setup import Setup
from smalti.eval.tasks.detail_parts.signs import SignBank, read_signs

GAPS = tuple(2 ** (k / 3) for k in range(13))
"""1 to 16 px in thirds of an octave."""
LETTER_SIZES = (4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
"""Font sizes in pixels."""
HIGH, LOW = (0.9, 0.1), (0.6, 0.4)
PLACEMENTS = 4


def landolt(setup: Setup) -> Part:
    """Landolt acuity at high contrast; without `quick` at low contrast too."""
    largest = setup.size / 8
    gaps = [g for g in GAPS if g <= largest and landolt_cell(g) <= setup.size]
    banks = [SignBank(size=g, ink=_rings(setup, g)) for g in gaps]
    cases = [("landolt", "Landolt rings", HIGH)]
    if not setup.quick:
        cases.append(("landolt_low_contrast", "Landolt rings, low contrast", LOW))
    parts = [read_signs(setup, name, title, "px of gap", banks, levels, CHANCE) for name, title, levels in cases]
    return _joined(parts)


def letters(setup: Setup) -> Part:
    """Acuity for Latin capitals and digits of the font inside Pillow."""
    return glyphs(setup, "letter", "Capitals and digits", [c for c in (*LATIN, *DIGITS) if c not in "IO"])


def glyphs(
    setup: Setup,
    name: str,
    title: str,
    alphabet: Sequence[str],
    *,
    font: str | Path | None = None,
    sizes: Sequence[float] = LETTER_SIZES,
) -> Part:
    """Acuity for the glyphs of any font: quantities `NAME_height` and `NAME_smallest_read`, curve `NAME_read`.

    Sizes whose largest glyph fills more than half of an image are left out. Errors: as `glyph_bank`; ValueError if
    fewer than two sizes are left.
    """
    offsets = setup.generator(f"{name} offsets").uniform(-0.5, 0.5, (PLACEMENTS, 2)).tolist()
    pairs = [(float(x), float(y)) for x, y in offsets]
    banks = []
    for size in sizes:
        bank = glyph_bank(alphabet, size, pairs, font=font)
        if bank.ink.shape[-1] > setup.size / 2 + 2 * MARGIN:
            break
        banks.append(SignBank(size=bank.height, ink=bank.ink))
    return read_signs(setup, name, title, "px of letter height", banks, HIGH, 1 / len(alphabet))


def _rings(setup: Setup, gap: float) -> Tensor:
    offsets = setup.generator(f"landolt {gap:.3f}").uniform(-0.5, 0.5, (PLACEMENTS, 2))
    return landolt_rings(gap, [(float(x), float(y)) for x, y in offsets], levels=(0.0, 1.0))


def _joined(parts: Sequence[Part]) -> Part:
    return Part(
        quantities=tuple(q for p in parts for q in p.quantities),
        curves=tuple(c for p in parts for c in p.curves),
        pictures=tuple(x for p in parts for x in p.pictures),
        images=sum(p.images for p in parts),
    )
