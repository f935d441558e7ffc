"""Reading signs by exact templates: charts of many signs, answers by size, threshold.

Shape suffixes: T trials, P placements, N signs, B images, s side of a cell in pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.acuity import decide
from smalti.eval.detail.packing import Packed, pack, per_image
from smalti.eval.detail.psychometric import fit
from smalti.eval.detail.result import Curve, Part, Picture, Quantity
from smalti.eval.detail.signal import luminance
from smalti.eval.tasks.detail_parts.setup import Setup

MOST = 16
"""Signs that share an image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SignBank:
    """All signs of one size."""

    size: float
    """What the acuity is a multiple of, in pixels: the gap of a ring, the height of a letter."""
    ink: Tensor
    """float64 [P, N, s, s]: coverage in 0 to 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sheet:
    """Signs of one size and polarity on images."""

    size_index: int
    packed: Packed
    templates: Tensor
    """float64 [T, N, s, s]."""
    truth: Tensor
    """int64 [T]."""


def read_signs(
    setup: Setup, name: str, title: str, unit: str, banks: list[SignBank], levels: tuple[float, float], chance: float
) -> Part:
    """Shows the signs of each bank in both polarities and counts how many are read.

    At most 16 signs share an image. The band of the curve is the 10-90 per cent Wilson interval of the share, that
    of the threshold comes from resampled answers. Errors: ValueError for fewer than two sizes.
    """
    if len(banks) < 2:
        raise ValueError(f"{title}: images of {setup.size} px hold {len(banks)} sizes; two are needed: use larger ones")
    sheets = [sheet for i, bank in enumerate(banks) for sheet in _sheets(setup, name, i, bank, levels)]
    images, reconstructions = setup.run(torch.cat([s.packed.images for s in sheets]))
    right, shown = [0] * len(banks), [0] * len(banks)
    first, at = {}, 0
    for sheet in sheets:
        count = len(sheet.packed.images)
        cells = sheet.packed.cells(luminance(reconstructions[at : at + count]))
        right[sheet.size_index] += int((decide(cells, sheet.templates).choice == sheet.truth).sum())
        shown[sheet.size_index] += len(sheet.truth)
        first.setdefault(sheet.size_index, at)
        at += count
    sizes = [b.size for b in banks]
    # the most telling chart: the largest size of which something is lost
    pick = max((i for i in range(len(banks)) if right[i] < 0.9 * shown[i]), default=0)
    picture = Picture(
        name=name,
        title=f"{title}, {sizes[pick]:.2g} {unit}",
        original=images[first[pick]],
        reconstruction=reconstructions[first[pick]],
    )
    return Part(
        quantities=_thresholds(setup, name, unit, sizes, right, shown, chance),
        curves=(_curve(name, title, unit, sizes, right, shown),),
        pictures=(picture,),
        images=len(images),
    )


def _sheets(setup: Setup, name: str, index: int, bank: SignBank, levels: tuple[float, float]) -> list[_Sheet]:
    """One size in both polarities: signs in random order, placements by turns."""
    placements, signs, side, _ = bank.ink.shape
    count = _trials(setup, side)
    generator = setup.generator(f"{name} {bank.size:.3f}")
    order = torch.from_numpy(generator.permuted([k % signs for k in range(max(count, signs))]))[:count]
    place = torch.arange(count) % placements
    sheets = []
    for (ground, ink), rows in ((levels, slice(0, None, 2)), ((levels[1], levels[0]), slice(1, None, 2))):
        templates = (ground + (ink - ground) * bank.ink)[place[rows]]
        truth = order[rows]
        cells = templates[torch.arange(len(truth)), truth]
        packed = pack(cells, setup.size, ground, generator, MOST)
        sheets.append(_Sheet(size_index=index, packed=packed, templates=templates, truth=truth))
    return sheets


def _trials(setup: Setup, side: int) -> int:
    fit_in = per_image(setup.size, side, MOST)
    if setup.quick:
        return 16 if fit_in >= 4 else 8
    return 64 if fit_in >= 4 else 32


def _thresholds(
    setup: Setup, name: str, unit: str, sizes: list[float], right: list[int], shown: list[int], chance: float
) -> tuple[Quantity, Quantity]:
    found = fit(sizes, right, shown, chance, seed=setup.seed)
    reached = found.beyond != "above"
    note = {
        "": "",
        "below": "at or below the smallest size shown",
        "above": "not reached: above the largest size shown",
    }
    low, high = (min(max(v, sizes[0]), sizes[-1]) for v in (found.low, found.high))
    threshold = Quantity(
        name=f"{name}_threshold",
        value=max(found.size, sizes[0]) if reached else None,
        low=low,
        high=high if reached else None,
        n=sum(shown),
        unit=unit,
        better="lower",
        note=note[found.beyond],
    )
    smallest = Quantity(
        name=f"{name}_smallest_read",
        value=found.smallest,
        low=None,
        high=None,
        n=sum(shown),
        unit=unit,
        better="lower",
        note="" if found.smallest else "not reached: the largest size shown is not read",
    )
    return threshold, smallest


def _curve(name: str, title: str, unit: str, sizes: list[float], right: list[int], shown: list[int]) -> Curve:
    bands = [wilson(r, n) for r, n in zip(right, shown, strict=True)]
    return Curve(
        name=f"{name}_read",
        title=f"{title} read",
        x=tuple(sizes),
        x_unit=unit,
        y=tuple(r / n for r, n in zip(right, shown, strict=True)),
        y_unit="share",
        low=tuple(b[0] for b in bands),
        high=tuple(b[1] for b in bands),
    )


def wilson(right: int, shown: int, z: float = 1.2816) -> tuple[float, float]:
    """Wilson interval of a share; z = 1.2816 gives 10 to 90 per cent.

    >>> [round(v, 3) for v in wilson(8, 16)]
    [0.347, 0.653]
    """
    p, n = right / shown, shown
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
