"""Residual quantization (RQ-VAE, arXiv 2203.01941): each level codes what the levels before it left over.

Shape suffixes: any leading dimensions, C code width, n levels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smalti.nn.quantizers.base import Quantized, Quantizer


class ResidualQuantizer(Quantizer):
    """r_0 = z, k_i = Q_i(r_{i-1}), r_i = r_{i-1} - e_i(k_i); the code is the sum of all e_i (eqs. 3 and 4).

    Losses: means over the levels i of those of Q_i on r_{i-1}; the commitment is then mean (z - sg[e_1 + ... + e_i])^2,
    as in eq. 7. For quantizers whose codes shrink with what is left, which learned codebooks do.
    """

    def __init__(self, levels: Sequence[Quantizer], *, depth: int | None = None) -> None:
        """`depth` levels, by default one for each given; the last one given serves all further levels (shared codes).

        Errors: ValueError for levels of different width or vocabulary, or with several ids per vector.
        """
        super().__init__()
        first = levels[0]
        if any((q.width, q.vocab, q.each) != (first.width, first.vocab, ()) for q in levels):
            raise ValueError("the levels need the same width and vocabulary, and one id per vector")
        depth = depth or len(levels)
        if depth < len(levels):
            raise ValueError(f"depth must be at least {len(levels)}, one for each quantizer, got {depth}")
        self.levels = nn.ModuleList(levels)
        self.width, self.vocab, self.each = first.width, first.vocab, (depth,)

    def level(self, i: int) -> Quantizer:
        """The quantizer of a level."""
        return self.levels[min(i, len(self.levels) - 1)]  # type: ignore[return-value]

    def nearest(self, z_C: Tensor) -> Tensor:
        """int64 [..., n]."""
        rest, ids = z_C.float(), []
        for i in range(*self.each):
            ids.append(self.level(i).nearest(rest))
            rest = rest - self.level(i).codes_of(ids[-1])
        return torch.stack(ids, dim=-1)

    def codes_of(self, ids_n: Tensor) -> Tensor:
        """float32 [..., C]: the sum over the levels that are there; fewer leading ones give a coarser code."""
        codes = [self.level(i).codes_of(ids) for i, ids in enumerate(ids_n.unbind(-1))]
        return torch.stack(codes).sum(0)

    def mean(self) -> Tensor:
        """float32 [C]: the sum of the levels' means."""
        return torch.stack([self.level(i).mean() for i in range(*self.each)]).sum(0)

    def forward(self, z_C: Tensor) -> Quantized:
        """Codes, ids [..., n], and the levels' losses, averaged."""
        with torch.autocast(z_C.device.type, enabled=False):
            z = rest = z_C.float()
            parts = []
            for i in range(*self.each):
                parts.append(self.level(i)(rest))
                rest = rest - self.level(i).codes_of(parts[-1].ids).detach()
            ids = torch.stack([q.ids for q in parts], dim=-1)
            losses = [torch.stack(terms).mean() for terms in zip(*(q[2:] for q in parts), strict=True)]
            return Quantized(z - rest.detach(), ids, *losses)
