"""Color charts: 24 known colors as square patches of one size.

Shape suffixes: B batch, H W pixels.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def _colors() -> tuple[tuple[float, float, float], ...]:
    grays = [(v, v, v) for v in (0.05, 0.22, 0.4, 0.58, 0.76, 0.95)]
    strong = [colorsys.hls_to_rgb(k / 12, 0.45, 0.75) for k in range(12)]
    pale = [colorsys.hls_to_rgb((k + 0.5) / 6, 0.75, 0.4) for k in range(6)]
    return (*grays, *strong, *pale)


PATCHES = _colors()
"""24 sRGB colors: 6 grays, 12 strong hues, 6 pale ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchChart:
    """Images full of patches of one size, and where which color lies."""

    images: Tensor
    """float64 [B, 3, H, W]."""
    label: Tensor
    """int64 [B, H, W]: index into the patches, -1 on the gray ground."""
    colors: Tensor
    """float64 [N, 3]: the color of each patch."""
    patch: int
    """Side of a patch in pixels."""


def patch_charts(size: int, patch: int, generator: np.random.Generator) -> PatchChart:
    """The 24 colors in random order as patches side by side on mid gray, in as many images as they need.

    In one image at most 6 x 4 patches stand together, at a random place. Errors: ValueError if no patch fits.
    """
    if not 1 <= patch <= size:
        raise ValueError(f"a patch of {patch} px does not fit an image of {size} px: use 1 to {size}")
    columns, rows = min(6, size // patch), min(4, size // patch)
    order = generator.permutation(len(PATCHES))
    starts = range(0, len(order), columns * rows)
    images = torch.full((len(starts), 3, size, size), 0.5, dtype=torch.float64)
    label = torch.full((len(starts), size, size), -1, dtype=torch.int64)
    colors = torch.tensor([PATCHES[i] for i in order], dtype=torch.float64)
    for b, start in enumerate(starts):
        top, left = (int(generator.integers(size - n * patch + 1)) for n in (rows, columns))
        for i in range(start, min(start + columns * rows, len(order))):
            row, column = divmod(i - start, columns)
            y, x = top + row * patch, left + column * patch
            images[b, :, y : y + patch, x : x + patch] = colors[i][:, None, None]
            label[b, y : y + patch, x : x + patch] = i
    return PatchChart(images=images, label=label, colors=colors, patch=patch)
