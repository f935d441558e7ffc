"""Thin lines by width and orientation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.charts import thin_line
from smalti.eval.detail.lines import LineContrast, line_contrast
from smalti.eval.detail.result import Part, Picture, Quantity, curve, quantity
from smalti.eval.detail.signal import luminance
from smalti.eval.tasks.detail_parts.setup import Setup

ANGLES = (0.0, 22.5, 45.0, 67.5, 90.0, 112.5, 135.0, 157.5)
"""Degrees from the vertical."""
WIDTHS = (1, 2, 3)
POLARITIES = ((0.9, 0.1), (0.1, 0.9))


@dataclass(frozen=True, kw_only=True)
class _Line:
    width: int
    angle: float
    offset: tuple[float, float]
    levels: tuple[float, float]

    def draw(self, size: int) -> Tensor:
        return thin_line(size, width=self.width, angle=self.angle, offset=self.offset, levels=self.levels)


def lines(setup: Setup) -> Part:
    """Lines of 1, 2 and 3 px in both polarities (quick: four orientations, one place)."""
    angles = ANGLES[::2] if setup.quick else ANGLES
    charts = [line for width in WIDTHS for line in _lines(setup, width, angles, 1 if setup.quick else 3)]
    images, reconstructions = setup.run(torch.stack([c.draw(setup.size) for c in charts]))
    before, after = luminance(images), luminance(reconstructions)
    quantities: list[Quantity] = []
    curves = []
    for width, rows in zip(WIDTHS, torch.arange(len(charts)).chunk(len(WIDTHS)), strict=True):
        drawn = [charts[int(i)] for i in rows]
        found = line_contrast(before[rows], after[rows], [c.angle for c in drawn], [c.offset for c in drawn])
        quantities += _quantities(width, found)
        values = found.contrast.view(len(angles), -1).T
        name, title = f"line_contrast_{width}px", f"Contrast of lines of {width} px"
        curves.append(curve(name, title, angles, "degrees from vertical", values, "share"))
    slanted = next(i for i, c in enumerate(charts) if c.angle == 45)
    picture = Picture(
        name="line", title="Line of 1 px", original=images[slanted], reconstruction=reconstructions[slanted]
    )
    return Part(quantities=tuple(quantities), curves=tuple(curves), pictures=(picture,), images=len(images))


def _lines(setup: Setup, width: int, angles: tuple[float, ...], placements: int) -> list[_Line]:
    offsets = iter(setup.offsets(f"line {width}", placements * len(angles) * len(POLARITIES)))
    return [
        _Line(width=width, angle=angle, offset=next(offsets), levels=levels)
        for angle in angles
        for _ in range(placements)
        for levels in POLARITIES
    ]


def _quantities(width: int, found: LineContrast) -> list[Quantity]:
    note = "share of the length that keeps half of its contrast"
    return [
        quantity(f"line_contrast_{width}px", found.contrast, "", "higher", note="1 is right"),
        quantity(f"line_continuity_{width}px", found.continuity, "", "higher", note=note),
        quantity(f"line_unbroken_{width}px", found.longest, "px", "higher"),
    ]
