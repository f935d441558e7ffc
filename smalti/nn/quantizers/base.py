"""What every quantizer of vectors has in common.

Shape suffixes: any leading dimensions, C code width, n ids of one vector.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

_ROWS = 4096  # vectors compared with the codes at once: bounds memory at 16,384 codes to 256 MiB


def nearest_code(z_C: Tensor, codes_VC: Tensor) -> Tensor:
    """int64 [...]: argmin over codes e of |e|^2 - 2 z.e for vectors [..., C], in float32 whatever the autocast dtype.

    That is the code at the least distance, the first of equals: |z|^2 is the same for all.
    """
    with torch.autocast(z_C.device.type, enabled=False):
        z_NC, codes_VC = z_C.float().flatten(0, -2), codes_VC.float()
        squares_V = codes_VC.square().sum(-1)
        ids = [torch.addmm(squares_V, z, codes_VC.T, alpha=-2).argmin(-1) for z in z_NC.split(_ROWS)]
    return torch.cat(ids).view(z_C.shape[:-1])


class Quantized(NamedTuple):
    """What vectors become in training."""

    codes: Tensor
    """float32 [..., C]: codes, straight-through to the vectors."""
    ids: Tensor
    """int64 [...], or [..., n] for quantizers with several ids per vector."""
    codebook: Tensor
    """Scalar that moves the codes to the vectors; 0 where codes are fixed or follow by moving averages."""
    commitment: Tensor
    """Scalar that moves the vectors to the codes; 0 where rounding needs none."""
    entropy: Tensor
    """Scalar that is low if every vector is sure of its code and all codes are used; 0 where there is no such term."""


class Quantizer(nn.Module, ABC):
    """Vectors [..., C] to ids and codes; ids are decided in float32 whatever the autocast dtype."""

    width: int
    """Channels C of a vector, and of a code."""
    vocab: int
    """Values an id may have."""
    each: tuple[int, ...] = ()
    """Shape of the ids of one vector: () for one id, (n,) for n, such as the bits of a code too wide for an int64."""

    @abstractmethod
    def forward(self, z_C: Tensor) -> Quantized:
        """Codes, ids and losses of vectors [..., C], with gradients."""

    @abstractmethod
    def nearest(self, z_C: Tensor) -> Tensor:
        """int64 [..., *each]: ids of vectors, without losses."""

    @abstractmethod
    def codes_of(self, ids: Tensor) -> Tensor:
        """float32 [..., C]: codes of ids [..., *each]."""

    @abstractmethod
    def mean(self) -> Tensor:
        """float32 [C]: mean of the codes, to stand for an unknown one."""
