"""Randomness of decoding: drawn per image and step from the image's own seed.

Philox4x64 (Salmon et al., SC 2011) is counter-based: the key is the image's seed, the counter the step. An image
therefore gets the same noise bit for bit alone, in any batch, and in any process.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Noise:
    """Uniform, Gumbel and normal noise for a batch of images.

    >>> alone = Noise([7]).uniform(step=2, shape=(3,))
    >>> batch = Noise([1, 7]).uniform(step=2, shape=(3,))
    >>> bool((alone[0] == batch[1]).all())
    True
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        """`seeds`: one non-negative number per image."""
        if any(s < 0 for s in seeds):
            raise ValueError(f"seeds must not be negative, got {min(seeds)}")
        self.seeds = tuple(int(s) for s in seeds)
        self.device = torch.device(device)

    @classmethod
    def of(cls, seed: int, count: int, device: torch.device | str = "cpu") -> "Noise":
        """Seeds `seed`, `seed + 1`, ... for `count` images: image i of seed s equals image 0 of seed s + i."""
        return cls(range(seed, seed + count), device)

    def _generators(self, step: int, stream: int = 0) -> list[np.random.Generator]:
        return [np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, stream, step])) for seed in self.seeds]

    def uniform(self, step: int, shape: tuple[int, ...]) -> Tensor:
        """float32 [B, *shape], uniform in [0, 1)."""
        rows = np.stack([g.random(shape, dtype=np.float32) for g in self._generators(step)])
        return torch.from_numpy(rows).to(self.device)

    def normal(self, step: int, shape: tuple[int, ...]) -> Tensor:
        """float32 [B, *shape], standard normal."""
        rows = np.stack([g.standard_normal(shape, dtype=np.float32) for g in self._generators(step)])
        return torch.from_numpy(rows).to(self.device)

    def gumbel(self, step: int, shape: tuple[int, ...], *, stream: int = 0) -> Tensor:
        """float32 [B, *shape], standard Gumbel: -log(Exp(1)). Another `stream` is independent of all other draws."""
        rows = np.stack([g.standard_exponential(shape, dtype=np.float32) for g in self._generators(step, stream)])
        return -torch.from_numpy(rows).clamp_min(1e-30).log().to(self.device)

    def categorical(self, probs_BnV: Tensor, step: int) -> Tensor:
        """int64 [B, n]: the inverse of the cumulative distribution at one uniform number per position."""
        uniform_Bn1 = self.uniform(step, (probs_BnV.shape[1],))[..., None]
        cumulative = probs_BnV.cumsum(dim=-1)
        ids = torch.searchsorted(cumulative, uniform_Bn1 * cumulative[..., -1:], right=True)[..., 0]
        last = probs_BnV.shape[-1] - 1 - (probs_BnV.flip(-1) > 0).to(torch.uint8).argmax(dim=-1)
        return torch.minimum(ids, last)  # rounding must never reach a code of probability zero
