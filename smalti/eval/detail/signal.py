"""Luminance, input checks, windows, crossings and label-wise regression: what several measures need.

Shape suffixes: B batch, H W pixels, F frequencies.
"""

import math

import torch
from torch import Tensor

from smalti.images import check_images

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of R, G, B (BT.709), applied to the sRGB code values: tokenizers see code values, nothing is linearized."""


def luminance(images: Tensor) -> Tensor:
    """float64 [B, H, W] of images [B, 3, H, W] in [0, 1]: .2126 R + .7152 G + .0722 B of the code values."""
    check_images(images)
    return torch.einsum("bchw,c->bhw", images.double(), torch.tensor(LUMA, dtype=torch.float64, device=images.device))


def check_gray(*charts: Tensor, minimum: int = 1, what: str = "this measure") -> None:
    """A ValueError unless all are finite [B, H, W] of one shape and at least `minimum` pixels a side."""
    for chart in charts:
        if chart.ndim != 3 or not chart.is_floating_point():
            raise ValueError(
                f"{what} takes float [B, H, W], got {chart.dtype} {list(chart.shape)}: use luminance(images)"
            )
        if chart.shape != charts[0].shape:
            raise ValueError(
                f"{what} compares images of one shape, got {list(charts[0].shape)} and {list(chart.shape)}"
            )
        if min(chart.shape[1:]) < minimum:
            height, width = chart.shape[1:]
            raise ValueError(f"{what} needs at least {minimum} pixels a side, got {height}x{width}: use larger images")
        if not torch.isfinite(chart).all():
            raise ValueError(f"{what} got NaN or infinite values: look at what the tokenizer returns")


def hann(height: int, width: int) -> Tensor:
    """float64 [H, W]: periodic Hann window, the product over both axes."""
    rows, columns = (torch.hann_window(n, periodic=True, dtype=torch.float64) for n in (height, width))
    return rows[:, None] * columns


def first_crossing(x: Tensor, y: Tensor, level: float) -> Tensor:
    """float64 [...]: the smallest x at which y [..., F] falls below `level`, by linear interpolation over x [F].

    inf where it never does; x[0] where it starts below. Values of y that are NaN count as not below.

    >>> first_crossing(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 0.75, 0.25]), 0.5)
    tensor(1.5000, dtype=torch.float64)
    """
    x, y = x.double(), y.double()
    below = y < level
    index = below.to(torch.uint8).argmax(dim=-1, keepdim=True)
    before = (index - 1).clamp(min=0)
    y0, y1 = y.gather(-1, before), y.gather(-1, index)
    x0, x1 = x[before], x[index]
    at = torch.where(index == 0, x0, x0 + (y0 - level) / (y0 - y1) * (x1 - x0)).squeeze(-1)
    return torch.where(below.any(dim=-1), at, math.inf)


def by_label(reference: Tensor, images: Tensor, label: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Faithful contrast and hallucinated energy of each region, two float64 [B, count].

    `reference`, `images` [B, H, W]; `label` int64 [H, W] or [B, H, W] gives the region 0 to count-1 of a pixel, -1
    for none. With x, r the mean-removed values of a region: c = <r, x> / <x, x> is the contrast that is right, and
    <r, r> / <x, x> - c^2 the energy that was not in the chart. NaN for a region without pixels or without contrast.
    """
    check_gray(reference, images, what="by_label")
    flat = label.expand_as(reference).flatten(1)
    index = torch.where(flat >= 0, flat, count)

    def total(values: Tensor) -> Tensor:
        zeros = values.new_zeros(len(values), count + 1)
        return zeros.scatter_add(1, index, values)[:, :count]

    x, r = reference.double().flatten(1), images.double().flatten(1)
    n = total(torch.ones_like(x))
    x_mean, r_mean = total(x) / n, total(r) / n
    padded = index.clamp(max=count - 1)
    x, r = x - x_mean.gather(1, padded), r - r_mean.gather(1, padded)
    xx, xr, rr = total(x * x), total(x * r), total(r * r)
    xx = torch.where(xx > 1e-12 * n, xx, math.nan)
    faithful = xr / xx
    return faithful, rr / xx - faithful.square()
