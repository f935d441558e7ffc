"""Training objective of continuous autoencoders (arXiv 2112.10752, appendix G; DC-AE: arXiv 2410.10733, section 3).

Shape suffixes: B batch, C latent channels, H W pixels, h w token grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smalti.nn.kl_autoencoder import KLAutoencoder
from smalti.nn.losses import Losses
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.kl.model import KLTokenizer


@dataclass(frozen=True, kw_only=True)
class KLObjectiveConfig(ReconstructionConfig):
    """Weights of the terms. Stable Diffusion's: l1 1, perceptual 1, adversarial 0.5 from step 50,001, kl 1e-6.

    Its authors scale the adversarial term by the ratio of the gradients at the last layer; here its weight is constant.
    """

    l1: float = 1.0
    """Weight of the mean absolute pixel error."""
    mse: float = 0.0
    """Weight of the mean squared pixel error."""
    kl: float = 1e-6
    """Weight of the divergence; no effect where latents have no distribution (DC-AE)."""


class KLObjective(ReconstructionObjective):
    """Reconstruction of a sample of the posterior, its divergence, and optionally LPIPS and adversarial terms.

    total = reconstruction + kl * KL(N(mean, var) || N(0, 1)) / (3 H W), the divergence summed over the latents of an
    image: the authors sum both over an image, and here both are per pixel value.
    """

    def __init__(
        self,
        model: KLTokenizer,
        config: KLObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__(config, perceptual=perceptual, discriminator=discriminator)
        self.model, self.config = model, config

    def forward(self, images: Tensor, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch [B, 3, H, W] in [0, 1]; `rng` draws the samples."""
        autoencoder, x_B3HW = self.model.autoencoder, images * 2 - 1
        if not isinstance(autoencoder, KLAutoencoder):
            return self.reconstruction(autoencoder.decode(autoencoder.encode(x_B3HW)), x_B3HW)
        posterior = autoencoder.posterior(x_B3HW)
        noise_BChw = torch.randn(posterior.mean.shape, generator=rng, device=rng.device).to(posterior.mean)
        latents_BChw = autoencoder.scale(posterior.sample(noise_BChw))
        losses = self.reconstruction(autoencoder.decode(latents_BChw), x_B3HW)
        kl = posterior.kl().float().sum((1, 2, 3)).mean() / x_B3HW[0].numel()
        return Losses(
            total=losses.total + self.config.kl * kl,
            parts={**losses.parts, "kl": kl.detach()},
            adversarial=losses.adversarial,
        )
