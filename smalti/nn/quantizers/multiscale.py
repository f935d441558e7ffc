"""Multi-scale residual quantization: VAR, arXiv 2404.02905, Algorithms 1 and 2.

Shape suffixes: B batch, C latent channels, h w latent grid, n codes of one scale, V codebook size, K scales, L codes of
all scales.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.quantizers.base import Quantized, Quantizer


def refiner_table(scales: int, refiners: int) -> tuple[int, ...]:
    """Which phi every scale uses: the tick nearest to its relative place.

    float64 as the authors compute it: for 10 scales and 4 phis, scales 2 and 7 are ties that rounding decides.
    """
    margin = 1 / 3 / refiners if refiners == 4 else 1 / 2 / refiners
    ticks = np.linspace(margin, 1 - margin, refiners)
    return tuple(int(np.argmin(np.abs(ticks - k / max(scales - 1, 1)))) for k in range(scales))


class MultiScaleQuantizer(Quantizer):
    """One codebook, K maps of growing size, each coding what the maps before it left over.

    Unlike the other quantizers it looks at whole square grids [B, h, w, C], and a grid becomes L ids, coarse to fine.
    """

    usage: Tensor
    """float32 [K, V]: running use of every code at every scale, which an objective may keep."""

    def __init__(
        self,
        sides: Sequence[int],
        vocab: int,
        width: int,
        *,
        normalize: bool = False,
        ratio: float = 0.5,
        refiners: int = 4,
        sweeps: int = 0,
    ) -> None:
        """`sides` of the maps, the last being that of the grid; phi(h) = (1 - ratio) h + ratio conv(h).

        `refiners`: how many such convolutions there are, shared by neighboring scales. `sweeps`: see `choose`.
        """
        super().__init__()
        self.sides, self.ratio, self.normalize, self.sweeps = tuple(sides), ratio, normalize, sweeps
        self.vocab, self.width = vocab, width
        self.codebook = nn.Parameter(torch.empty(vocab, width))
        nn.init.uniform_(self.codebook, -1 / vocab, 1 / vocab)
        self.refiners = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(refiners))
        self.refiner_of = refiner_table(len(self.sides), refiners)
        self.register_buffer("usage", torch.zeros(len(self.sides), vocab))

    def forward(self, z_C: Tensor) -> Quantized:
        """A grid [B, h, w, C] to codes of the same shape and ids [B, L] (Algorithm 1).

        Losses: means over scales k of mse(f_hat_k, sg[f]) and mse(f, sg[f_hat_k]), f_hat_k the sum of maps 0..k.
        """
        with torch.autocast(z_C.device.type, enabled=False):
            f_BChw = z_C.float().movedim(-1, 1)
            scales = list(self.scales(f_BChw))
            codebook = torch.stack([F.mse_loss(f_hat, f_BChw.detach()) for _, _, f_hat in scales]).mean()
            commitment = torch.stack([F.mse_loss(f_BChw, f_hat.detach()) for _, _, f_hat in scales]).mean()
            codes = (f_BChw + (scales[-1][2] - f_BChw).detach()).movedim(1, -1)
            ids_BL = torch.cat([ids_Bn for _, ids_Bn, _ in scales], dim=1)
            return Quantized(codes, ids_BL, codebook, commitment, z_C.new_zeros(()))

    def nearest(self, z_C: Tensor) -> Tensor:
        """int64 [B, L]: ids of a grid [B, h, w, C]."""
        with torch.autocast(z_C.device.type, enabled=False):
            return torch.cat([ids_Bn for _, ids_Bn, _ in self.scales(z_C.float().movedim(-1, 1))], dim=1)

    def codes_of(self, ids: Tensor) -> Tensor:
        """float32 [B, h, w, C]: sum of the maps of ids [B, L], or of the whole scales among fewer."""
        return self.sum_of(ids, torch.full((len(ids),), ids.shape[1], device=ids.device)).movedim(1, -1)

    def mean(self) -> Tensor:
        """float32 [C]: mean of the codebook, which all maps share."""
        return self.codebook.mean(0)

    def match(self, z_BnC: Tensor) -> Tensor:
        """int64 [B, n]: the code of every vector of one map, decided in float32 whatever the autocast dtype."""
        with torch.autocast(z_BnC.device.type, enabled=False):
            z_BnC, codes_VC = z_BnC.float(), self.codebook.float()
            if self.normalize:
                return (F.normalize(z_BnC, dim=-1) @ F.normalize(codes_VC, dim=-1).T).argmax(dim=-1)
            squares = z_BnC.square().sum(-1, keepdim=True) + codes_VC.square().sum(-1)
            return (squares - 2 * z_BnC @ codes_VC.T).argmin(dim=-1)

    def choose(self, k: int, rest_BChw: Tensor) -> Tensor:
        """int64 [B, n]: codes of scale k for what the maps before it left of the features.

        The nearest codes to the shrunken map, as published: they leave out what phi and the enlargement make of the
        map. With `sweeps`, so many passes over its places follow, where each takes the code with which the whole map
        comes nearest to `rest`, the other codes as they are (coordinate descent): the squared error never grows.
        """
        ids_Bn = self.match(self.shrink(rest_BChw, k))
        if not self.sweeps:
            return ids_Bn
        with torch.autocast(rest_BChw.device.type, enabled=False):
            return self._sweep(k, rest_BChw, ids_Bn)

    @torch.no_grad()
    def _sweep(self, k: int, rest_BChw: Tensor, ids_Bn: Tensor) -> Tensor:
        """A change d of the code at place p changes the error |left|^2 by d G_p d - 2 d A_p left, G_p = A_p A_p^T."""
        codes_VC = self.codebook.float()
        left_BD = (rest_BChw - self.embed(k, ids_Bn)).float().flatten(1)
        a_nCD = self._operators(k)
        g_nCC = a_nCD @ a_nCD.transpose(1, 2)
        outer_VCC = codes_VC[:, :, None] * codes_VC[:, None, :]
        norm_nV = g_nCC.flatten(1) @ outer_VCC.flatten(1).T
        ids_nB = ids_Bn.T.clone()
        for _ in range(self.sweeps):
            for p in range(len(ids_nB)):
                old_BC = codes_VC[ids_nB[p]]
                pull_BC = old_BC @ g_nCC[p] + left_BD @ a_nCD[p].T
                ids_nB[p] = (norm_nV[p] - 2 * pull_BC @ codes_VC.T).argmin(dim=1)
                left_BD = left_BD - (codes_VC[ids_nB[p]] - old_BC) @ a_nCD[p]
        return ids_nB.T.contiguous()

    def _operators(self, k: int) -> Tensor:
        """float32 A [n, C, C * h * w]: what a code z at place p of map k adds to the sum is z A_p, phi's bias apart.

        The enlargement treats all channels alike, so one channel is enlarged and meets every kernel of phi.
        """
        side = self.sides[k]
        units = torch.eye(side * side, device=self.codebook.device, dtype=torch.float32)
        spread_n1hw = self._enlarge(k, units.unflatten(1, (1, side, side)))
        weight_OIhw = self.refiners[self.refiner_of[k]].get_parameter("weight")
        kernels = weight_OIhw.float().transpose(0, 1).flatten(0, 1)[:, None]
        a_nCChw = F.conv2d(spread_n1hw, kernels, padding=1).unflatten(1, (self.width, self.width)) * self.ratio
        a_nCChw.diagonal(dim1=1, dim2=2).add_(spread_n1hw.movedim(1, -1) * (1 - self.ratio))
        return a_nCChw.flatten(2)

    def _enlarge(self, k: int, h_BChw: Tensor) -> Tensor:
        """A map of scale k on the full grid."""
        full = self.sides[-1]
        return F.interpolate(h_BChw, size=(full, full), mode="bicubic") if k < len(self.sides) - 1 else h_BChw

    def refine(self, k: int, codes_BnC: Tensor) -> Tensor:
        """phi_k(upsampled map) [B, C, h, w]: what scale k adds to the sum, from its looked-up codes."""
        h_BChw = self._enlarge(k, codes_BnC.transpose(1, 2).unflatten(2, (self.sides[k], self.sides[k])))
        conv = self.refiners[self.refiner_of[k]]
        return h_BChw * (1 - self.ratio) + conv(h_BChw) * self.ratio

    def embed(self, k: int, ids_Bn: Tensor) -> Tensor:
        """What scale k adds to the sum, from ids."""
        return self.refine(k, F.embedding(ids_Bn, self.codebook))

    def shrink(self, f_BChw: Tensor, k: int) -> Tensor:
        """The map as scale k sees it, [B, n, C]."""
        side = self.sides[k]
        if f_BChw.shape[-1] != side:
            f_BChw = F.interpolate(f_BChw, size=(side, side), mode="area")
        return f_BChw.flatten(2).transpose(1, 2)

    def scales(self, f_BChw: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Quantizes scale after scale: (residual vectors [B, n, C], ids [B, n], sum of maps so far [B, C, h, w])."""
        rest = f_BChw.detach()
        f_hat = torch.zeros_like(rest)
        for k in range(len(self.sides)):
            z_BnC, ids_Bn = self.shrink(rest, k), self.choose(k, rest)
            added = self.embed(k, ids_Bn)
            f_hat = f_hat + added
            rest = rest - added.detach()
            yield z_BnC, ids_Bn, f_hat

    def sum_of(self, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Sum of the maps of whole scales [B, C, h, w]; `lengths_B` may cut each image after another scale."""
        full = self.sides[-1]
        f_hat = self.codebook.new_zeros(ids_BL.shape[0], self.codebook.shape[1], full, full)
        start = 0
        for k, side in enumerate(self.sides):
            end = start + side * side
            if end > ids_BL.shape[1]:
                break
            added = self.embed(k, ids_BL[:, start:end].clamp_min(0))
            f_hat = f_hat + added * (lengths_B >= end).to(added)[:, None, None, None]
            start = end
        return f_hat
