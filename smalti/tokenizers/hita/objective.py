"""Training objective of Hita's tokenizer (arXiv 2507.02358).

Shape suffixes: B batch, m foundation patches, F foundation width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.hita.model import HitaTokenizer


@dataclass(frozen=True, kw_only=True)
class HitaTokenizerObjectiveConfig(ReconstructionConfig):
    """Weights of the terms. The authors: perceptual 1, adversarial 0.5 from step 20,000 of 250,000 (0.08)."""

    mse: float = 2.0
    """Weight of the mean squared pixel error; 2 because the authors' code adds it twice."""
    quantization: float = 1.0
    """Weight of the codebook and commitment losses of both codebooks."""
    foundation: float = 1.0
    """Weight of 1 - cosine between DINOv2's patch features and those predicted from the holistic tokens; Hita-U only:
    a model that predicts none is trained without."""


def foundation_loss(predicted_BmF: Tensor, features_BmF: Tensor) -> Tensor:
    """1 - mean over patches of cos(p, f): p predicted from the holistic codes, f DINOv2's features of the patch."""
    return 1 - F.cosine_similarity(predicted_BmF, features_BmF, dim=-1, eps=1e-6).mean()


class HitaTokenizerObjective(ReconstructionObjective):
    """Reconstruction, quantization of both codebooks, foundation features, and optionally LPIPS and adversarial terms.

    L = 2 mse + LPIPS + 0.5 E[softplus(-D(rec))] + sum over both codebooks of (mse(e, sg z) + beta mse(z, sg e))
    + (1 - cos(p, f)) with the authors' weights, z the vectors and e their codes. The discriminator D
    is trained with the hinge loss.
    """

    def __init__(
        self,
        model: HitaTokenizer,
        config: HitaTokenizerObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        """Errors: ValueError for a weight without the network it needs, or predictions of another width than DINOv2."""
        super().__init__(config, perceptual=perceptual, discriminator=discriminator)
        predicted, width = model.config.predicted_width, model.config.foundation.width
        if config.foundation and predicted not in (0, width):
            raise ValueError(
                f"the model predicts features of width {predicted}, its DINOv2 has {width}: weigh foundation 0, "
                f"or build it with predicted_width={width}"
            )
        self.model, self.config = model, config

    def forward(self, images: Tensor, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch [B, 3, H, W] in [0, 1]; nothing is drawn from `rng`."""
        model, config = self.model, self.config
        v = model.vectors(images)
        holistic, patches = model.holistic_quantizer(v.holistic), model.patch_quantizer(v.patches)
        losses = self.reconstruction(model.decode_codes(holistic.codes, patches.codes) * 2 - 1, images * 2 - 1)
        codebook = holistic.codebook + patches.codebook
        commitment = model.config.commitment * (holistic.commitment + patches.commitment)
        total = losses.total + config.quantization * (codebook + commitment)
        parts = {"codebook": codebook, "commitment": commitment}
        if config.foundation and model.config.predicted_width:
            parts["foundation"] = foundation_loss(model.predict_foundation(holistic.codes), v.foundation[:, 1:])
            total = total + config.foundation * parts["foundation"]
        if self.training and model.config.remembered:
            parts["holistic usage"] = model.holistic_quantizer.remember(holistic.ids)
            parts["patch usage"] = model.patch_quantizer.remember(patches.ids)
        parts = {**losses.parts, **{name: value.detach() for name, value in parts.items()}}
        return Losses(total=total, parts=parts, adversarial=losses.adversarial)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """E[softplus(-D(rec))]."""
        return F.softplus(-fake).mean()
