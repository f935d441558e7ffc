"""Many small cells on few images, and back.

Shape suffixes: T cells, B images, H W pixels, s side of a cell.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """Images with cells on them."""

    images: Tensor
    """float64 [B, H, W]."""
    at: tuple[tuple[int, int, int], ...]
    """Image, top and left of each cell."""
    side: int

    def cells(self, images: Tensor) -> Tensor:
        """The cells [T, s, s] cut out of images [B, H, W]."""
        s = self.side
        return torch.stack([images[b, y : y + s, x : x + s] for b, y, x in self.at])


def per_image(size: int, side: int, most: int) -> int:
    """Cells of `side` pixels on an image of `size` pixels: what fits, at most `most`."""
    return min((size // side) ** 2, most)


def pack(cells: Tensor, size: int, background: float, generator: np.random.Generator, most: int = 16) -> Packed:
    """Puts cells [T, s, s] at random places of a grid, moved at random, on as many images as they need.

    At most `most` cells share an image, so that one tokenizer with few tokens is not asked to read a whole page.
    Errors: ValueError if a cell is larger than an image.
    """
    side = cells.shape[-1]
    if side > size:
        raise ValueError(f"a cell of {side} px does not fit an image of {size} px: use smaller signs")
    slots, fit = size // side, per_image(size, side, most)
    images = torch.full((-(-len(cells) // fit), size, size), background, dtype=torch.float64)
    at = []
    for b in range(len(images)):
        shift_y, shift_x = generator.integers(size - slots * side + 1, size=2)
        order = generator.permutation(slots * slots)
        for slot, cell in zip(order, cells[b * fit : (b + 1) * fit], strict=False):
            y, x = int(slot) // slots * side + int(shift_y), int(slot) % slots * side + int(shift_x)
            images[b, y : y + side, x : x + side] = cell
            at.append((b, y, x))
    return Packed(images=images, at=tuple(at), side=side)
