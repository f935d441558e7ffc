"""Lookup-free quantization (arXiv 2310.05737): every dimension becomes its sign, and the signs are the bits of the id.

Shape suffixes: any leading dimensions, d one value per bit, N vectors, g bits of a group, G codes of a group.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.nn.quantizers.base import Quantized, Quantizer

WIDEST = 62
"""Most bits that an id holds; wider codes have one id of two values per bit."""


class LFQ(Quantizer):
    """Codes in {-m, m}^d with m = 1: q(z_i) = m sign(z_i), sign(0) = -1; id = sum over i of 2^(d-1-i) [z_i > 0].

    Losses: commitment mean (z - sg[q])^2, and the entropy term E[H(p)] - diversity H(E[p]) (eq. 5), where
    p(c | z) ~ exp(2 z.c / temperature) is a soft assignment. The bits of p are independent, each with probability
    sigmoid(4 m z_i / temperature), so E[H(p)] is a sum over bits. H(E[p]) is exact within groups of up to `group` bits
    and summed over the groups (arXiv 2406.07548, section 3.3), which bounds it from above.

    >>> lfq = LFQ(4)
    >>> lfq.nearest(torch.tensor([0.5, -0.1, 2.0, -1.0])).item(), lfq.codes_of(torch.tensor(10)).tolist()
    (10, [1.0, -1.0, 1.0, -1.0])
    """

    place: Tensor

    def __init__(self, bits: int, *, temperature: float = 0.01, group: int = 9, diversity: float = 1.0) -> None:
        """Errors: ValueError for less than one bit, or groups whose codes are too many to list."""
        super().__init__()
        if bits < 1 or not 1 <= group <= 18:
            raise ValueError(f"bits must be at least 1 and group 1 to 18, got bits={bits} and group={group}")
        wide = bits > WIDEST
        self.width, self.vocab, self.each = bits, 2 if wide else 2**bits, (bits,) if wide else ()
        self.temperature, self.group, self.diversity = temperature, group, diversity
        place = [1] if wide else [2 ** (bits - 1 - i) for i in range(bits)]
        self.register_buffer("place", torch.tensor(place), persistent=False)

    @property
    def magnitude(self) -> float:
        """Size m of every value of a code."""
        return 1.0

    def unit(self, z_d: Tensor) -> Tensor:
        """float32 [..., d]: vectors as they are compared with codes."""
        return z_d.float()

    def nearest(self, z_d: Tensor) -> Tensor:
        """int64 [...], or bits [..., d] if there are more than 62: ids of vectors."""
        bits_d = (z_d.float() > 0).long()
        return bits_d if self.each else (bits_d * self.place).sum(-1)

    def codes_of(self, ids: Tensor) -> Tensor:
        """float32 [..., d]: codes of ids."""
        bits_d = ids if self.each else ids[..., None] & self.place
        return torch.where(bits_d != 0, self.magnitude, -self.magnitude)

    def mean(self) -> Tensor:
        """float32 [d]: zeros."""
        return torch.zeros(self.width, device=self.place.device)

    def forward(self, z_d: Tensor) -> Quantized:
        """Codes, ids, commitment and entropy; codes are fixed."""
        with torch.autocast(z_d.device.type, enabled=False):
            z = self.unit(z_d)
            code = torch.where(z > 0, self.magnitude, -self.magnitude)
            commitment = F.mse_loss(z, code)
            return Quantized(z + (code - z).detach(), self.nearest(z), z.new_zeros(()), commitment, self._entropy(z))

    def _entropy(self, z_d: Tensor) -> Tensor:
        """E[H(p)] - diversity H(E[p]), in nats."""
        logits_Nd = z_d.flatten(0, -2) * (4 * self.magnitude / self.temperature)
        # binary entropy: -p log p - (1 - p) log(1 - p) = softplus(l) - l sigmoid(l)
        sure = (F.softplus(logits_Nd) - logits_Nd * logits_Nd.sigmoid()).sum(-1).mean()
        spread = torch.stack([_entropy_of_mean(part) for part in logits_Nd.split(self.group, dim=-1)]).sum()
        return sure - self.diversity * spread


def _entropy_of_mean(logits_Ng: Tensor) -> Tensor:
    """H(E[p]) over all 2^g codes of a group of independent bits."""
    bits = logits_Ng.shape[-1]
    codes_Gg = torch.arange(2**bits, device=logits_Ng.device)[:, None] >> torch.arange(bits, device=logits_Ng.device)
    codes_Gg = (codes_Gg & 1).to(logits_Ng)
    # log p of a code: log sigmoid(-l) = log sigmoid(l) - l summed over all bits, and l over its ones
    log_p_NG = F.logsigmoid(-logits_Ng).sum(-1, keepdim=True) + logits_Ng @ codes_Gg.T
    mean_G = log_p_NG.exp().mean(0)
    return -torch.special.xlogy(mean_G, mean_G.clamp_min(1e-30)).sum()
