"""Training objective of LARP's tokenizer (arXiv 2410.21264; settings of the authors' training script).

Shape suffixes: B batch, T frames, H W pixels, L tokens, C code width.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.tokenizers.larp.model import LARPTokenizer
from smalti.tokenizers.larp.prior import Prior, prior_loss


@dataclass(frozen=True, kw_only=True)
class LARPObjectiveConfig:
    """Weights of the terms; pixels in [0, 1]."""

    l1: float = 1.0
    """Weight of the mean absolute pixel error."""
    perceptual: float = 1.0
    """Weight of LPIPS (arXiv 1801.03924), mean over all frames; needs a perceptual network."""
    quantization: float = 0.1
    """Weight of the codebook and commitment loss together."""
    commitment: float = 0.25
    """Weight of the commitment loss against the codebook loss."""
    prior: float = 0.06
    """Weight of the autoregressive prior's cross-entropy; 0 = no prior."""
    prior_width: int = 384
    """Width of the prior."""
    prior_depth: int = 12
    """Blocks of the prior."""
    prior_heads: int = 6
    """Attention heads of the prior."""
    prior_rounds: int = 2
    """Passes of the prior, the later ones over partly drawn codes."""
    prior_replaced: float = 0.5
    """Largest share of codes that are drawn."""
    prior_ramp: float = 0.3
    """Share of the training over which that share grows from 0."""
    adversarial: float = 0.3
    """Weight of the adversarial loss; needs a discriminator."""
    adversarial_every: int = 5
    """The discriminator learns in one of so many steps."""
    lecam: float = 1e-6
    """Weight of LeCam in the discriminator's loss; the authors' 0.001 is multiplied in twice."""


class Coded(NamedTuple):
    """What clips become in training."""

    codes_BLC: Tensor
    """Straight-through to the features."""
    ids_BL: Tensor
    loss: Tensor
    """Codebook and commitment loss."""


class LARPObjective(nn.Module):
    """Reconstruction, LPIPS, adversarial, quantization and prior; clips [B, 3, T, H, W] in [0, 1]."""

    real_mean: Tensor
    fake_mean: Tensor

    def __init__(
        self,
        model: LARPTokenizer,
        config: LARPObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        """`perceptual`: frames (a, b) in [-1, 1] -> [B T] distances; `discriminator`: clips in [0, 1] -> logits."""
        super().__init__()
        for weight, part, name in (
            (config.perceptual, perceptual, "perceptual network"),
            (config.adversarial, discriminator, "discriminator"),
        ):
            if weight and part is None:
                raise ValueError(
                    f"the objective weighs a term by {weight} that needs a {name}: pass one, or weigh it 0"
                )
        self.model, self.config, self.discriminator = model, config, discriminator
        self._perceptual = (perceptual,)  # in a tuple: not a part of the trained module
        self.helpers: Prior | None = None
        if config.prior:
            self.helpers = Prior(
                channels=model.config.latent_channels,
                length=model.config.tokens,
                width=config.prior_width,
                depth=config.prior_depth,
                heads=config.prior_heads,
            )
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""

    def forward(self, clips: Tensor, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch; `rng` draws the codes, what the prior replaces, and the smoothed labels."""
        config = self.config
        coded = self._code(self.model.features(clips), rng)
        rec = self.model.decode_latents(coded.codes_BLC)
        parts = {"l1": F.l1_loss(rec, clips), "quantization": coded.loss}
        total = config.l1 * parts["l1"] + config.quantization * coded.loss
        if config.perceptual:
            frames = (c.transpose(1, 2).flatten(0, 1) * 2 - 1 for c in (clips, rec))
            parts["perceptual"] = self._perceptual[0](*frames).mean()  # type: ignore[misc]
            total = total + config.perceptual * parts["perceptual"]
        if self.helpers is not None:
            parts["prior"] = self._prior_loss(self.helpers, coded, rng)
            total = total + config.prior * parts["prior"]
        adversarial = None
        if config.adversarial and self.discriminator is not None:
            parts["adversarial"] = F.softplus(-self.discriminator(rec)).mean()  # -log sigmoid(D(rec))
            total = total + config.adversarial * parts["adversarial"]
            if step % config.adversarial_every == 0:
                adversarial = self._discriminate(self.discriminator(clips), self.discriminator(rec.detach()), rng)
        return Losses(total=total, parts={k: v.detach() for k, v in parts.items()}, adversarial=adversarial)

    def _code(self, z_BLC: Tensor, rng: torch.Generator) -> Coded:
        """Codes drawn in training, the nearest in evaluation; beta |z - sg[e]|^2 + |e - sg[z]|^2 of unit vectors."""
        model, quantizer = self.model, self.model.quantizer
        with torch.autocast(z_BLC.device.type, enabled=False):
            z = quantizer.unit(z_BLC)
            drawn = self.training and model.config.temperature > 0
            ids_BL = model.sample(z.detach(), rng) if drawn else quantizer.nearest(z.detach())
            e = quantizer.codes_of(ids_BL)
            loss = self.config.commitment * F.mse_loss(z, e.detach()) + F.mse_loss(e, z.detach())
            return Coded(z + (e - z).detach(), ids_BL, loss)

    def _prior_loss(self, prior: Prior, coded: Coded, rng: torch.Generator) -> Tensor:
        config, quantizer = self.config, self.model.quantizer
        ramp = min(self.progress / config.prior_ramp, 1.0) if config.prior_ramp else 1.0
        return prior_loss(
            prior,
            coded.codes_BLC,
            coded.ids_BL,
            quantizer.unit(quantizer.codebook).detach(),
            replaced=config.prior_replaced * ramp,
            rounds=config.prior_rounds,
            rng=rng,
        )

    def _discriminate(self, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
        """Cross-entropy with labels off 1 and 0 by 0.15 |N(0, 1)|, at most 0.3, and LeCam (arXiv 2104.03310)."""
        real, fake = real.float(), fake.float()
        noise = torch.randn((2, *real.shape), generator=rng, device=rng.device).to(real.device)
        off = (0.15 * noise.abs()).clamp_max(0.3)
        loss = F.binary_cross_entropy_with_logits(real, 1 - off[0])
        loss = loss + F.binary_cross_entropy_with_logits(fake, off[1])
        if self.config.lecam:
            real_mean, fake_mean = real.mean(), fake.mean()
            apart = F.relu(real_mean - self.fake_mean).square() + F.relu(self.real_mean - fake_mean).square()
            loss = loss + self.config.lecam * apart
            if self.training:
                self.real_mean.lerp_(real_mean.detach(), 0.001)
                self.fake_mean.lerp_(fake_mean.detach(), 0.001)
        return loss
