"""Slanted edges: MTF, overshoot, edge shift.

Shape suffixes: B batch, H W pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.charts import slanted_edge
from smalti.eval.detail.mtf import TransferredEdges, transferred
from smalti.eval.detail.result import Curve, Part, Picture, Quantity, curve, quantity
from smalti.eval.detail.signal import luminance
from smalti.eval.tasks.detail_parts.setup import Setup

CONTRASTS = {"high_contrast": (0.2, 0.8), "low_contrast": (0.4, 0.6)}
DIRECTIONS = {"vertical": (5.0, False), "diagonal": (40.0, True), "horizontal": (5.0, True)}
"""Edges at 5, 50 and 95 degrees from the vertical: the angle, and whether the image is transposed."""
PLACEMENTS = 3
WIDEST = 128
"""Pixels around the center that are read."""
GRID = torch.arange(33, dtype=torch.float64) / 64
"""Cycles per pixel."""


@dataclass(frozen=True, kw_only=True)
class _Edge:
    direction: str
    contrast: str
    levels: tuple[float, float]
    offset: tuple[float, float]

    def draw(self, size: int) -> Tensor:
        angle, turned = DIRECTIONS[self.direction]
        edge = slanted_edge(size, size, angle=angle, levels=self.levels, offset=self.offset)
        return edge.T if turned else edge


def edges(setup: Setup) -> Part:
    """e-SFR of edges in three directions, two contrasts, both polarities, at three places on the token grid."""
    charts = _edges(setup)
    images, reconstructions = setup.run(torch.stack([c.draw(setup.size) for c in charts]))
    before, after = luminance(images), luminance(reconstructions)
    found: dict[str, TransferredEdges] = {}
    for direction in DIRECTIONS:
        rows = [i for i, c in enumerate(charts) if c.direction == direction]
        found[direction] = transferred(_window(before[rows], direction), _window(after[rows], direction))
    ordered = [c for direction in DIRECTIONS for c in charts if c.direction == direction]
    response = torch.cat([f.at(GRID) for f in found.values()])
    return Part(
        quantities=(*_levels(found, ordered, setup.stride), *_points(response), *_geometry(found)),
        curves=_curves(response, ordered),
        pictures=(_picture(images[0], reconstructions[0]),),
        images=len(images),
    )


def _edges(setup: Setup) -> list[_Edge]:
    result = []
    for direction in DIRECTIONS:
        for contrast, levels in CONTRASTS.items():
            for offset in setup.offsets(f"edge {direction} {contrast}", PLACEMENTS):
                for polarity in (levels, (levels[1], levels[0])):
                    result.append(_Edge(direction=direction, contrast=contrast, levels=polarity, offset=offset))
    return result


def _window(images: Tensor, direction: str) -> Tensor:
    """The center of images [B, n, n] with the edge near the vertical.

    Of a diagonal edge only half of the rows, in which it stays away from the sides.
    """
    angle, turned = DIRECTIONS[direction]
    images = images.mT if turned else images
    width = min(images.shape[-1], WIDEST)
    height = max(width // 2, 16) if angle > 20 else width
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[:, top : top + height, left : left + width].contiguous()


def _levels(found: dict[str, TransferredEdges], charts: list[_Edge], stride: int | None) -> list[Quantity]:
    missing = "not reached: the response stays above it as far as the charts show"
    result = []
    for level in (50, 10):
        values = torch.cat([f.mtf(level / 100) for f in found.values()])
        result.append(quantity(f"mtf{level}", values, "cycles/pixel", "higher", missing=missing))
        if level == 50 and stride:
            result.append(quantity("mtf50_per_token", values * stride, "cycles/token", "higher", missing=missing))
        if level == 50:
            low = values[[c.contrast == "low_contrast" for c in charts]]
            result.append(quantity("mtf50_low_contrast", low, "cycles/pixel", "higher", missing=missing))
    return result


def _points(response: Tensor) -> list[Quantity]:
    return [
        quantity(f"mtf_at_1/{n}", response[:, 64 // n], "", "higher", note=f"response at 1/{n} cycles/pixel")
        for n in (8, 4, 2)
    ]


def _geometry(found: dict[str, TransferredEdges]) -> list[Quantity]:
    lost = torch.cat([f.lost for f in found.values()])
    share = float(lost.double().mean())
    return [
        quantity("edge_overshoot", torch.cat([f.overshoot for f in found.values()]), "%", "lower"),
        quantity("edge_shift", torch.cat([f.shift for f in found.values()]).abs(), "px", "lower"),
        quantity("edge_angle_error", torch.cat([f.angle_error for f in found.values()]).abs(), "degrees", "lower"),
        Quantity(
            name="edges_lost",
            value=share,
            low=None,
            high=None,
            n=len(lost),
            unit="",
            better="lower",
            note="share of the edges that keep less than a tenth of their contrast",
        ),
    ]


def _curves(response: Tensor, charts: list[_Edge]) -> tuple[Curve, ...]:
    groups = {"mtf": ("MTF", [True] * len(charts))}
    for name in CONTRASTS:
        groups[f"mtf_{name}"] = (f"MTF, {name.replace('_', ' ')}", [c.contrast == name for c in charts])
    for name in DIRECTIONS:
        groups[f"mtf_{name}"] = (f"MTF of {name} edges", [c.direction == name for c in charts])
    return tuple(
        curve(name, title, GRID.tolist(), "cycles/pixel", response[rows], "response")
        for name, (title, rows) in groups.items()
    )


def _picture(image: Tensor, reconstruction: Tensor) -> Picture:
    size = image.shape[-1]
    side = min(size, 48)
    start = (size - side) // 2
    crop = (slice(None), slice(start, start + side), slice(start, start + side))
    return Picture(name="edge", title="Slanted edge", original=image[crop], reconstruction=reconstruction[crop])
