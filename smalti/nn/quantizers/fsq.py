"""Finite scalar quantization (arXiv 2309.15505): every dimension is rounded to a few levels; the codebook is implicit.

Shape suffixes: any leading dimensions, d one value per dimension.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from smalti.nn.quantizers.base import Quantized, Quantizer

EPS = 1e-3
"""How far the bounded value may pass the outermost level, as a share of the width."""


class FSQ(Quantizer):
    """Rounds d bounded values to `levels[i]` levels each.

    With L levels, h = (L - 1)(1 + eps) / 2, o = 1/2 for even L and 0 for odd, s = atanh(o / h):
    bounded b = h tanh(z + s) - o, digit = round(b) + L // 2, code = round(b) / (L // 2),
    id = sum over i of digit_i * (L_0 ... L_{i-1}), so the first dimension counts fastest.

    >>> fsq = FSQ((8, 5))
    >>> fsq.vocab, fsq.ids_of(fsq.codes_of(torch.tensor([0, 39]))).tolist()
    (40, [0, 39])
    """

    levels: Tensor
    place: Tensor
    middle: Tensor
    reach: Tensor
    offset: Tensor
    shift: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        """Errors: ValueError for less than two levels in a dimension, or too many codes for an int64."""
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"FSQ needs at least two levels in every dimension, got {tuple(levels)}")
        self.width, self.vocab = len(levels), math.prod(levels)
        if self.vocab >= 2**62:
            raise ValueError(f"{self.vocab} codes do not fit into an int64 id")
        reach = [(n - 1) * (1 + EPS) / 2 for n in levels]
        offset = [0.0 if n % 2 else 0.5 for n in levels]
        constants = {
            "levels": torch.tensor(levels),
            "place": torch.tensor([math.prod(levels[:i]) for i in range(len(levels))]),
            "middle": torch.tensor([n // 2 for n in levels]),
            "reach": torch.tensor(reach),
            "offset": torch.tensor(offset),
            "shift": torch.tensor([math.atanh(o / h) for o, h in zip(offset, reach, strict=True)]),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def bound(self, z_d: Tensor) -> Tensor:
        """float32 [..., d]: values between the outermost levels, one apart, before rounding."""
        return (z_d.float() + self.shift).tanh() * self.reach - self.offset

    def forward(self, z_d: Tensor) -> Quantized:
        """Codes, from -1 to 1 (even numbers of levels end below 1), and ids; nothing but the straight-through gradient.

        In float32 whatever the autocast dtype.
        """
        with torch.autocast(z_d.device.type, enabled=False):
            bounded = self.bound(z_d)
            rounded = bounded.detach().round()
            codes, zero = (bounded + (rounded - bounded.detach())) / self.middle, bounded.new_zeros(())
            return Quantized(codes, self._ids(rounded), zero, zero, zero)

    def _ids(self, rounded_d: Tensor) -> Tensor:
        return ((rounded_d.long() + self.middle) * self.place).sum(-1)

    def nearest(self, z_d: Tensor) -> Tensor:
        """int64 [...]: ids of vectors."""
        with torch.autocast(z_d.device.type, enabled=False):
            return self._ids(self.bound(z_d).round())

    def unrounded(self, z_d: Tensor) -> Tensor:
        """float32 [..., d]: what the codes would be without rounding, which some recipes train with at first."""
        with torch.autocast(z_d.device.type, enabled=False):
            return self.bound(z_d) / self.middle

    def ids_of(self, codes_d: Tensor) -> Tensor:
        """int64 [...]: ids of codes."""
        return self._ids((codes_d.float() * self.middle).round())

    def codes_of(self, ids: Tensor) -> Tensor:
        """float32 [..., d]: codes of ids."""
        digits = ids[..., None] // self.place % self.levels
        return (digits - self.middle) / self.middle

    def mean(self) -> Tensor:
        """float32 [d]: mean of the codes."""
        return ((self.levels - 1) / 2 - self.middle) / self.middle
