"""What every group of charts is told, and how charts go through a tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smalti.eval.detail.charts import as_images, rng
from smalti.eval.detail.result import Part
from smalti.images import check_images

Reconstruct = Callable[[Tensor], Tensor]
"""float32 [B, 3, H, W] in [0, 1] -> the same shape."""
Keep = Callable[[str, Callable[[], Part]], Part]
"""Name of a part and the way to make it -> the part, perhaps one that an earlier run made and kept."""


def anew(name: str, make: Callable[[], Part]) -> Part:
    """A `Keep` that remembers nothing."""
    return make()


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One run over all charts."""

    reconstruct: Reconstruct
    size: int
    """Pixels a side of the charts."""
    stride: int | None
    """Pixels a side of a token; None without a token grid."""
    quick: bool
    seed: int
    batch: int

    def run(self, charts: Tensor) -> tuple[Tensor, Tensor]:
        """Charts [B, H, W] or [B, 3, H, W] as 8-bit images float32 [B, 3, H, W], and their reconstructions.

        Errors: ValueError if the reconstruction has another shape, NaN, or values outside [0, 1].
        """
        images = as_images(charts)
        return images, self.again(images)

    def again(self, images: Tensor) -> Tensor:
        """Reconstructions of images [B, 3, H, W], in batches."""
        parts = []
        for part in images.split(self.batch):
            result = self.reconstruct(part)
            check_images(result)
            if result.shape != part.shape:
                raise ValueError(
                    f"the reconstruction of images {list(part.shape)} has shape {list(result.shape)}: bring it back to "
                    "the size of its source"
                )
            parts.append(result.detach().cpu().float())
        return torch.cat(parts)

    def generator(self, name: str) -> np.random.Generator:
        """The random stream of a chart."""
        return rng(self.seed, name)

    def offsets(self, name: str, count: int) -> list[tuple[float, float]]:
        """Random (x, y) shifts over one token, at most an eighth of the image either way."""
        reach = min((self.stride or 16) / 2, self.size / 8)
        return [(float(x), float(y)) for x, y in self.generator(name).uniform(-reach, reach, (count, 2))]
