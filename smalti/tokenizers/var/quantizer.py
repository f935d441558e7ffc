"""Multi-scale residual quantization: VAR, arXiv 2404.02905, Algorithms 1 and 2.

Shape suffixes: B batch, C latent channels, h w latent grid, n codes of one scale, V codebook size, K scales.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.tokenizers.var.config import VARTokenizerConfig
from smalti.tokens import Choice


def refiner_table(scales: int, refiners: int) -> tuple[int, ...]:
    """Which phi every scale uses: the tick nearest to its relative place.

    float64 as the authors compute it: for 10 scales and 4 phis, scales 2 and 7 are ties that rounding decides.
    """
    margin = 1 / 3 / refiners if refiners == 4 else 1 / 2 / refiners
    ticks = np.linspace(margin, 1 - margin, refiners)
    return tuple(int(np.argmin(np.abs(ticks - k / max(scales - 1, 1)))) for k in range(scales))


class MultiScaleQuantizer(nn.Module):
    """One codebook, K maps of growing size, each coding what the maps before it left over."""

    usage: Tensor

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        self.sides, self.ratio, self.normalize = config.sides, config.residual_ratio, config.normalize
        self.codebook = nn.Parameter(torch.empty(config.vocab, config.latent_channels))
        nn.init.uniform_(self.codebook, -1 / config.vocab, 1 / config.vocab)
        width = config.latent_channels
        self.refiners = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(config.refiner_count))
        self.refiner_of = refiner_table(len(config.sides), config.refiner_count)
        self.register_buffer("usage", torch.zeros(len(config.sides), config.vocab))

    def nearest(self, z_BnC: Tensor) -> Tensor:
        """int64 [B, n]: the code of every vector, decided in float32 whatever the autocast dtype."""
        with torch.autocast(z_BnC.device.type, enabled=False):
            z_BnC, codes_VC = z_BnC.float(), self.codebook.float()
            if self.normalize:
                return (F.normalize(z_BnC, dim=-1) @ F.normalize(codes_VC, dim=-1).T).argmax(dim=-1)
            squares = z_BnC.square().sum(-1, keepdim=True) + codes_VC.square().sum(-1)
            return (squares - 2 * z_BnC @ codes_VC.T).argmin(dim=-1)

    def refine(self, k: int, codes_BnC: Tensor) -> Tensor:
        """phi_k(upsampled map) [B, C, h, w]: what scale k adds to the sum, from its looked-up codes."""
        side, full = self.sides[k], self.sides[-1]
        h_BChw = codes_BnC.transpose(1, 2).unflatten(2, (side, side))
        if k < len(self.sides) - 1:
            h_BChw = F.interpolate(h_BChw, size=(full, full), mode="bicubic")
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
            z_BnC = self.shrink(rest, k)
            ids_Bn = self.nearest(z_BnC)
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


class MultiScaleFeedback:
    """What VAR is fed after every scale: the sum of the maps so far, as the next scale sees it (Algorithm 2)."""

    def __init__(self, quantizer: MultiScaleQuantizer, batch: int) -> None:
        self.quantizer = quantizer
        side = quantizer.sides[-1]
        self.f_hat = quantizer.codebook.new_zeros(batch, quantizer.codebook.shape[1], side, side)
        self.steps = 0
        self._inputs: list[Tensor] = []
        self._soft = False

    def push(self, step: int, choice: Choice) -> Tensor | None:
        """Adds the map of scale `step`; returns the next scale's input [B, n, C], None after the last."""
        assert step == self.steps and choice.ids is not None, "scales are pushed in order, as ids"
        if choice.soft is None:
            added = self.quantizer.embed(step, choice.ids)
        else:
            added = self.quantizer.refine(step, choice.soft.to(self.f_hat.dtype) @ self.quantizer.codebook)
            self._soft = True
        self.f_hat = self.f_hat + added
        self.steps += 1
        if self.steps == len(self.quantizer.sides):
            return None
        self._inputs.append(self.quantizer.shrink(self.f_hat, self.steps))
        return self._inputs[-1]

    def push_prefix(self, ids: Tensor, steps: int) -> Tensor | None:
        """Adds the maps of all scales before `steps` that were not pushed yet."""
        sides = self.quantizer.sides
        starts = np.concatenate([[0], np.cumsum(np.square(sides))])
        for k in range(self.steps, steps):
            self.push(k, Choice(ids=ids[:, starts[k] : starts[k + 1]]))
        return self.history()

    def history(self) -> Tensor | None:
        """Inputs of scales 1..steps, [B, n, C]."""
        return torch.cat(self._inputs, dim=1) if self._inputs else None

    def latents(self) -> Tensor | None:
        """The sum of the maps [B, C, h, w] if a choice was soft."""
        return self.f_hat if self._soft else None
