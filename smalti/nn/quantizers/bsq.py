"""Binary spherical quantization (arXiv 2406.07548): signs of a vector of length 1.

Shape suffixes: any leading dimensions, d one value per bit.
"""

import torch.nn.functional as F
from torch import Tensor

from smalti.nn.quantizers.lfq import LFQ


class BSQ(LFQ):
    """u = z / |z|, code = sign(u) / sqrt(d) (eqs. 3 and 4): vectors and codes are of length 1. Ids and losses as LFQ's.

    >>> import torch
    >>> bsq = BSQ(4)
    >>> bsq.codes_of(bsq.nearest(torch.tensor([3.0, -1.0, 2.0, -5.0]))).tolist()
    [0.5, -0.5, 0.5, -0.5]
    """

    @property
    def magnitude(self) -> float:
        """1 / sqrt(d)."""
        return self.width**-0.5

    def unit(self, z_d: Tensor) -> Tensor:
        """float32 [..., d]: brought to length 1."""
        return F.normalize(z_d.float(), dim=-1)
