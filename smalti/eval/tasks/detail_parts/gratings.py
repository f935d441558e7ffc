"""Sinusoidal gratings by frequency, orientation, contrast and color.

Shape suffixes: B batch, O orientations, P placements, F frequencies, H W pixels.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from smalti.eval.detail.charts import grating
from smalti.eval.detail.charts.waves import BLUE_YELLOW, GRAY, RED_GREEN, chroma
from smalti.eval.detail.gratings import LockIn, f50, lock_in, third_octaves
from smalti.eval.detail.result import Curve, Part, Picture, Quantity, curve, quantity
from smalti.eval.detail.signal import luminance
from smalti.eval.tasks.detail_parts.setup import Setup

UNIT = "cycles/pixel"


@dataclass(frozen=True, kw_only=True)
class _Condition:
    suffix: str
    title: str
    direction: tuple[float, float, float]
    contrast: float
    orientations: tuple[int, ...]
    """Degrees of the wave vector; 0: vertical stripes."""
    placements: int

    def count(self, frequencies: list[float]) -> int:
        """Images."""
        return len(self.orientations) * self.placements * len(frequencies)


def gratings(setup: Setup) -> Part:
    """Lock-in of gratings at 2 per image to 1/2 cycles per pixel, in thirds of an octave (quick: two thirds)."""
    frequencies = third_octaves(max(2 / setup.size, 1 / 64), step=2 if setup.quick else 1)
    quantities: list[Quantity] = []
    curves: list[Curve] = []
    pictures: list[Picture] = []
    for condition in _conditions(setup.quick):
        found, picture = _measure(setup, condition, frequencies)
        quantities += _quantities(condition, found, frequencies)
        curves += _curves(condition, found, frequencies)
        pictures.append(picture)
    count = sum(c.count(frequencies) for c in _conditions(setup.quick))
    return Part(quantities=tuple(quantities), curves=tuple(curves), pictures=tuple(pictures[:1]), images=count)


def _conditions(quick: bool) -> list[_Condition]:
    every, two = (0, 45, 90, 135), (0, 90)
    many, few = (2, 1) if quick else (6, 3)
    colors = two if quick else every
    return [
        _Condition(suffix="", title="", direction=GRAY, contrast=0.8, orientations=every, placements=many),
        _Condition(
            suffix="_low_contrast",
            title=", low contrast",
            direction=GRAY,
            contrast=0.2,
            orientations=every,
            placements=few,
        ),
        _Condition(
            suffix="_red_green",
            title=", red-green",
            direction=RED_GREEN,
            contrast=0.8,
            orientations=colors,
            placements=few,
        ),
        _Condition(
            suffix="_blue_yellow",
            title=", blue-yellow",
            direction=BLUE_YELLOW,
            contrast=0.8,
            orientations=colors,
            placements=few,
        ),
    ]


def _measure(setup: Setup, condition: _Condition, frequencies: list[float]) -> tuple[LockIn, Picture]:
    """The lock-in of all waves in the order [O, P, F], and a picture of one; a batch of images at a time."""
    f = torch.tensor(frequencies, dtype=torch.float64)
    angle = torch.deg2rad(torch.tensor(condition.orientations, dtype=torch.float64))[:, None, None]
    shape = (len(condition.orientations), condition.placements, len(f))
    u, v = (f * torch.cos(angle)).expand(shape).flatten(), (f * torch.sin(angle)).expand(shape).flatten()
    phase = _phases(setup, condition, shape, u, v)
    contrast = torch.full_like(u, condition.contrast)
    found: list[LockIn] = []
    pictured = len(f) // 2
    picture: Picture | None = None
    for rows in torch.arange(len(u)).split(setup.batch):
        waves = grating(setup.size, u[rows], v[rows], phase[rows], contrast[rows])
        images, reconstructions = setup.run(chroma(waves, condition.direction))
        before, after = (_along(t, condition.direction) for t in (images, reconstructions))
        found.append(lock_in(before, after, u[rows], v[rows]))
        if pictured in rows:
            at, title = pictured - int(rows[0]), f"Grating of {frequencies[pictured]:.3f} {UNIT}"
            one, other = images[at].clone(), reconstructions[at].clone()
            picture = Picture(name="grating", title=title, original=one, reconstruction=other)
    assert picture is not None
    joined = {k.name: torch.cat([getattr(part, k.name) for part in found]) for k in fields(LockIn)}
    return LockIn(**joined), picture


def _phases(setup: Setup, condition: _Condition, shape: tuple[int, ...], u: Tensor, v: Tensor) -> Tensor:
    """Random phases [O P F], every second placement the inverse of the one before it."""
    orientations, placements, count = shape
    drawn = setup.generator(f"grating{condition.suffix}").uniform(0, 2 * math.pi, (orientations, placements, count))
    phase = torch.from_numpy(drawn)
    phase[:, 1::2] = phase[:, : placements - placements % 2 : 2] + math.pi
    phase = phase.flatten()
    nyquist = torch.maximum(u.abs(), v.abs()) > 0.49  # there a wave in quadrature with the pixels vanishes
    return torch.where(nyquist, math.pi * (phase % (2 * math.pi) >= math.pi), phase)


def _along(images: Tensor, direction: tuple[float, float, float]) -> Tensor:
    """float64 [B, H, W]: luminance, or the share of a chroma direction."""
    if direction == GRAY:
        return luminance(images)
    axis = torch.tensor(direction, dtype=torch.float64)
    return torch.einsum("bchw,c->bhw", images.double(), axis / axis.square().sum())


def _quantities(condition: _Condition, found: LockIn, frequencies: list[float]) -> list[Quantity]:
    faithful, invented = (t.view(-1, len(frequencies)) for t in (found.faithful, found.hallucinated))
    x = torch.tensor(frequencies, dtype=torch.float64)
    missing = "not reached: faithful contrast stays above one half up to the Nyquist frequency"
    return [
        quantity(f"f50{condition.suffix}", f50(x, faithful), UNIT, "higher", missing=missing),
        quantity(
            f"hallucinated_energy{condition.suffix}",
            invented.mean(dim=1),
            "",
            "lower",
            note="mean over the frequencies",
        ),
    ]


def _curves(condition: _Condition, found: LockIn, frequencies: list[float]) -> list[Curve]:
    shape = (len(condition.orientations), -1, len(frequencies))
    faithful, invented = found.faithful.view(shape), found.hallucinated.view(shape)
    s, t = condition.suffix, condition.title
    curves = [
        curve(f"faithful_contrast{s}", f"Faithful contrast{t}", frequencies, UNIT, faithful.flatten(0, 1), "share"),
        curve(f"hallucinated_energy{s}", f"Hallucinated energy{t}", frequencies, UNIT, invented.flatten(0, 1), "share"),
    ]
    if s == "":
        for degrees, values in zip(condition.orientations, faithful, strict=True):
            name, title = f"faithful_contrast_{degrees}deg", f"Faithful contrast, wave at {degrees} degrees"
            curves.append(curve(name, title, frequencies, UNIT, values, "share"))
    return curves
