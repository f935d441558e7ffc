"""What a detail evaluation gives: values with their spread over placements, curves, and pictures for the report."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

QUANTILES = (0.5, 0.1, 0.9)
_FAR = 1e12
"""Stands for infinity in quantiles, which interpolate."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number: the median over placements and the band that holds the middle 80 per cent of them."""

    name: str
    value: float | None
    """None: not reached in the range of the chart, or not measured; `note` says which."""
    low: float | None
    high: float | None
    """10 and 90 per cent quantiles; None where that quantile is not reached either."""
    n: int
    """Placements (or answers) behind it."""
    unit: str
    better: Literal["higher", "lower", ""]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve with its band."""

    name: str
    title: str
    x: tuple[float, ...]
    x_unit: str
    y: tuple[float, ...]
    y_unit: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A small picture of a chart and of what came back."""

    name: str
    title: str
    original: Tensor
    """float32 [3, h, w] in [0, 1], 8-bit values."""
    reconstruction: Tensor
    """The same shape."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A measure that was not made."""

    metric: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one group of charts gives."""

    quantities: tuple[Quantity, ...] = ()
    curves: tuple[Curve, ...] = ()
    pictures: tuple[Picture, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    images: int = 0
    """Images that were reconstructed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskResult:
    """All measures of a task on one reconstruction function."""

    size: int
    """Pixels a side of the images."""
    quick: bool
    seed: int
    images: int
    """Images that were reconstructed."""
    quantities: tuple[Quantity, ...]
    curves: tuple[Curve, ...]
    pictures: tuple[Picture, ...]
    skipped: tuple[Skipped, ...]

    def quantity(self, name: str) -> Quantity:
        """The quantity of a name; KeyError listing the names there are."""
        return _named(self.quantities, name)

    def curve(self, name: str) -> Curve:
        """The curve of a name; KeyError listing the names there are."""
        return _named(self.curves, name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; of the pictures only their names."""
        return {
            "size": self.size,
            "quick": self.quick,
            "seed": self.seed,
            "images": self.images,
            "quantities": {q.name: q.to_dict() for q in self.quantities},
            "curves": {c.name: c.to_dict() for c in self.curves},
            "pictures": [p.name for p in self.pictures],
            "skipped": [asdict(s) for s in self.skipped],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class DetailResult(TaskResult):
    """All detail measures of one reconstruction function."""

    stride: int | None
    """Pixels a side of a token; multiply cycles per pixel by it for cycles per token."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; of the pictures only their names."""
        return {"stride": self.stride} | super().to_dict()


def quantity(
    name: str, values: Tensor, unit: str, better: Literal["higher", "lower", ""], *, missing: str = "", note: str = ""
) -> Quantity:
    """The median and band of one value per placement; NaN = not measured there, inf = not reached there.

    `missing` is the note if the median is not reached.
    """
    measured = values[~values.isnan()]
    if not len(measured):
        return Quantity(
            name=name, value=None, low=None, high=None, n=0, unit=unit, better=better, note="measured at no placement"
        )
    value, low, high = (None if v >= _FAR / 2 else v for v in _quantiles(measured))
    note = missing if value is None else note
    return Quantity(name=name, value=value, low=low, high=high, n=len(measured), unit=unit, better=better, note=note)


def curve(name: str, title: str, x: Sequence[float], x_unit: str, values: Tensor, y_unit: str) -> Curve:
    """Median and band of values [placements, n] at x [n]; points measured at no placement are left out."""
    points = [
        (float(at), _quantiles(column[~column.isnan()]))
        for at, column in zip(x, values.T, strict=True)
        if bool((~column.isnan()).any())
    ]
    return Curve(
        name=name,
        title=title,
        x=tuple(at for at, _ in points),
        x_unit=x_unit,
        y=tuple(q[0] for _, q in points),
        y_unit=y_unit,
        low=tuple(q[1] for _, q in points),
        high=tuple(q[2] for _, q in points),
    )


def _quantiles(values: Tensor) -> tuple[float, float, float]:
    numbers = torch.nan_to_num(values.double(), posinf=_FAR).cpu().numpy()
    middle, low, high = (float(v) for v in np.quantile(numbers, QUANTILES))
    assert math.isfinite(middle)
    return middle, low, high


def _named(items: Sequence[Any], name: str) -> Any:
    for item in items:
        if item.name == name:
            return item
    raise KeyError(f"no {name!r}; there are {sorted(i.name for i in items)}")
