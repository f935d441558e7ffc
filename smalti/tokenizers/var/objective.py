"""Training objective of the multi-scale VQVAE (arXiv 2404.02905, section 3.2; its authors released no training code).

Shape suffixes: B batch, C latent channels, H W pixels, h w latent grid, n codes of a scale, V codes, K scales.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.quantizers.multiscale import MultiScaleQuantizer
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.var.model import VARTokenizer


@dataclass(frozen=True, kw_only=True)
class VARTokenizerObjectiveConfig(ReconstructionConfig):
    """Weights of the terms, and how the codebook is kept alive."""

    l1: float = 1.0
    """Weight of the mean absolute pixel error."""
    quantization: float = 1.0
    """Weight of the codebook and commitment loss."""
    truncation: float = 0.0
    """Share of the images that are reconstructed from a random number of leading scales."""
    revive_every: int = 0
    """Steps between revivals of dead codes; 0 = never."""
    revive_below: float = 0.05
    """A code is dead if it is used less than this share of the mean use."""
    revive_until: float = 0.7
    """Share of the training after which codes are left alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantized:
    """What the quantizer makes of a batch of features in training."""

    decodable: Tensor
    """[B, C, h, w]: sums of maps, straight-through to the features."""
    loss: Tensor
    """Codebook and commitment loss, mean over scales."""
    residuals: Tensor
    """[N, C]: every vector that was matched to a code, detached."""
    hits: Tensor
    """[K, V]: how often each code was used."""


def quantize(quantizer: MultiScaleQuantizer, f_BChw: Tensor, beta: float, scales_B: Tensor | None = None) -> Quantized:
    """Quantizes features with gradients (Algorithm 1).

    Loss: mean over scales k of beta * mse(sg[f_hat_k], f) + mse(f_hat_k, sg[f]), f_hat_k the sum of maps 0..k.
    `scales_B` int64 [B] cuts the sum of each image after so many scales; the gradient then passes to what those scales
    can see of f (its resampled low frequencies), so that coarse maps learn to be useful alone.
    """
    scale_count, full = len(quantizer.sides), quantizer.sides[-1]
    detached = f_BChw.detach()
    losses, residuals, hits = [], [], []
    chosen, visible = torch.zeros_like(detached), f_BChw
    for k, (z_BnC, ids_Bn, f_hat) in enumerate(quantizer.scales(f_BChw)):
        losses.append(beta * F.mse_loss(f_BChw, f_hat.detach()) + F.mse_loss(f_hat, detached))
        residuals.append(z_BnC.flatten(0, 1))
        flat = ids_Bn.flatten()
        hits.append(
            quantizer.usage.new_zeros(len(quantizer.codebook)).scatter_add_(
                0, flat, quantizer.usage.new_ones(len(flat))
            )
        )
        if k == scale_count - 1 and scales_B is None:
            chosen = f_hat.detach()
        elif scales_B is not None:
            here = (scales_B == k + 1)[:, None, None, None]
            chosen = torch.where(here, f_hat.detach(), chosen)
            if k < scale_count - 1:
                side = quantizer.sides[k]
                coarse = F.interpolate(
                    F.interpolate(f_BChw, size=(side, side), mode="area"), (full, full), mode="bicubic"
                )
                visible = torch.where(here, coarse, visible)
    return Quantized(
        decodable=chosen + visible - visible.detach(),
        loss=torch.stack(losses).mean(),
        residuals=torch.cat(residuals),
        hits=torch.stack(hits),
    )


class VARTokenizerObjective(ReconstructionObjective):
    """Reconstruction, quantization, and optionally LPIPS and adversarial terms; images [B, 3, H, W] in [0, 1]."""

    def __init__(
        self,
        model: VARTokenizer,
        config: VARTokenizerObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__(config, perceptual=perceptual, discriminator=discriminator)
        self.model, self.config = model, config
        self._residuals: Tensor | None = None

    def forward(self, images: Tensor, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch; `rng` draws the truncations."""
        quantizer = self.model.quantizer
        q = self._quantize(images, rng)
        if self.training:
            self._count(q)
        losses = self.reconstruction(self.model.decode_latents(q.decodable) * 2 - 1, images * 2 - 1)
        usage = (quantizer.usage.sum(0) > 1e-3).float().mean()
        return Losses(
            total=losses.total + self.config.quantization * q.loss,
            parts={**losses.parts, "quantization": q.loss.detach(), "usage": usage},
            adversarial=losses.adversarial,
        )

    def _quantize(self, images: Tensor, rng: torch.Generator) -> Quantized:
        """Features in the autocast dtype, quantization in float32."""
        f_BChw = self.model.features(images)
        batch, scale_count = images.shape[0], len(self.model.quantizer.sides)
        cuts = None
        if self.config.truncation and self.training:
            random_B2 = torch.rand(batch, 2, generator=rng, device=rng.device).to(images.device)
            cuts = (random_B2[:, 0] * (scale_count - 1)).long() + 1
            cuts = torch.where(random_B2[:, 1] < self.config.truncation, cuts, scale_count)
        with torch.autocast(images.device.type, enabled=False):
            return quantize(self.model.quantizer, f_BChw.float(), self.model.config.commitment, cuts)

    @torch.no_grad()
    def _count(self, q: Quantized) -> None:
        """Running use of every code, and vectors that may replace dead ones."""
        hits = q.hits.float()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(hits)
        self.model.quantizer.usage.mul_(0.99).add_(hits, alpha=0.01)
        self._residuals = q.residuals

    @torch.no_grad()
    def after_step(self, step: int, rng: torch.Generator) -> dict[str, float]:
        """Replaces dead codes by vectors of the last batch that codes were sought for; returns how many, to log."""
        config, quantizer = self.config, self.model.quantizer
        due = config.revive_every and (step + 1) % config.revive_every == 0 and self.progress < config.revive_until
        if not due or self._residuals is None:
            return {}
        use_V = quantizer.usage.sum(0)
        dead_V = use_V < config.revive_below * use_V.mean()
        pick_V = torch.randint(len(self._residuals), dead_V.shape, generator=rng, device=rng.device).to(dead_V.device)
        codebook = torch.where(
            dead_V[:, None], self._residuals[pick_V].to(quantizer.codebook.dtype), quantizer.codebook
        )
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(codebook, 0)
        quantizer.codebook.copy_(codebook)
        quantizer.usage[:, dead_V] = use_V.mean() / len(quantizer.sides)
        return {"revived": float(dead_V.sum())}
