"""Vector quantization with one learned codebook (arXiv 1711.00937), optionally of length-1 codes (arXiv 2110.04627).

Shape suffixes: any leading dimensions, C code width, N vectors, V codes.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROWS = 4096  # vectors compared with the codebook at once: bounds memory at 16,384 codes to 256 MiB


class Quantized(NamedTuple):
    """What vectors become in training."""

    codes: Tensor
    """float32 [..., C]: codes, straight-through to the vectors."""
    ids: Tensor
    """int64 [...]."""
    codebook: Tensor
    """Mean of (e - sg[z])^2: moves the codes."""
    commitment: Tensor
    """Mean of (z - sg[e])^2: moves the vectors."""


class VectorQuantizer(nn.Module):
    """The nearest code of every vector, decided in float32; both are brought to length 1 first if `normalize`.

    >>> vq = VectorQuantizer(4, 2)
    >>> vq.nearest(vq.embed(torch.tensor([[3, 0]]))).tolist()
    [[3, 0]]
    """

    recent: Tensor
    """float32 [remembered]: the ids chosen last in training, the newest at the end; saved unless `remembered` is 0."""

    def __init__(self, vocab: int, width: int, *, normalize: bool = True, remembered: int = 65536) -> None:
        """`remembered`: how many of the ids chosen last in training are kept; 0 = none."""
        super().__init__()
        self.normalize = normalize
        self.codebook = nn.Parameter(torch.empty(vocab, width))
        nn.init.uniform_(self.codebook, -1 / vocab, 1 / vocab)
        if normalize:
            with torch.no_grad():  # to length 1, in place: building an empty model then computes nothing
                self.codebook.mul_(1e9).renorm_(2, 0, 1)
        self.register_buffer("recent", torch.zeros(remembered), persistent=remembered > 0)

    def unit(self, z_C: Tensor) -> Tensor:
        """float32 [..., C]: vectors or codes as they are compared."""
        return F.normalize(z_C.float(), dim=-1) if self.normalize else z_C.float()

    def nearest(self, z_C: Tensor) -> Tensor:
        """int64 [...]: argmin over codes e of |z|^2 + |e|^2 - 2 z.e, whatever the autocast dtype."""
        with torch.autocast(z_C.device.type, enabled=False):
            codes_VC = self.unit(self.codebook)
            squares_V = codes_VC.square().sum(-1)
            z_NC = self.unit(z_C).flatten(0, -2)
            ids = [torch.addmm(squares_V, z, codes_VC.T, alpha=-2).argmin(-1) for z in z_NC.split(_ROWS)]
        return torch.cat(ids).view(z_C.shape[:-1])

    def embed(self, ids: Tensor) -> Tensor:
        """float32 [..., C]: codes of ids."""
        return self.unit(F.embedding(ids, self.codebook))

    def mean(self) -> Tensor:
        """float32 [C]: mean of the codes, to stand for an unknown one."""
        return self.unit(self.codebook).mean(0)

    def forward(self, z_C: Tensor) -> Quantized:
        """Quantizes with gradients; both losses compare what is compared: z and e after `unit` (eq. 3)."""
        with torch.autocast(z_C.device.type, enabled=False):
            z = self.unit(z_C)
            ids = self.nearest(z.detach())
            e = self.embed(ids)
            return Quantized(z + (e - z).detach(), ids, F.mse_loss(e, z.detach()), F.mse_loss(z, e.detach()))

    @torch.no_grad()
    def remember(self, ids: Tensor) -> Tensor:
        """Appends to the ids chosen last; returns the share of all codes that are among them."""
        self.recent.copy_(torch.cat([self.recent, ids.flatten().to(self.recent)])[-len(self.recent) :])
        return (torch.bincount(self.recent.long(), minlength=len(self.codebook)) > 0).float().mean()
