"""Training objective of a VQGAN (arXiv 2012.09841, section 3.1; codebook and commitment: arXiv 1711.00937, eq. 3).

The training code of MaskGIT's VQGAN was not released.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.maskgit.model import MaskGITTokenizer


@dataclass(frozen=True, kw_only=True)
class MaskGITTokenizerObjectiveConfig(ReconstructionConfig):
    """Weights of the terms."""

    quantization: float = 1.0
    """Weight of the codebook and commitment losses."""


class MaskGITTokenizerObjective(ReconstructionObjective):
    """Reconstruction, codebook, commitment, and optionally LPIPS and adversarial terms; images in [0, 1]."""

    def __init__(
        self,
        model: MaskGITTokenizer,
        config: MaskGITTokenizerObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__(config, perceptual=perceptual, discriminator=discriminator)
        self.model, self.config = model, config

    def forward(self, images: Tensor, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch [B, 3, H, W]; nothing is drawn from `rng`. beta: the model's `commitment`.

        Codebook and commitment: mean (e - sg[z])^2 + beta mean (sg[e] - z)^2.
        """
        q = self.model.quantizer(self.model.features(images))
        losses = self.reconstruction(self.model.decode_latents(q.codes) * 2 - 1, images * 2 - 1)
        quantization = q.codebook + self.model.config.commitment * q.commitment
        return Losses(
            total=losses.total + self.config.quantization * quantization,
            parts={**losses.parts, "quantization": quantization.detach()},
            adversarial=losses.adversarial,
        )
