"""What tokenizers with a convolutional decoder learn from pixels: L1, L2, LPIPS and a hinge adversarial term."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.perceptual import PerceptualSum


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Weights of the terms; pixels in [-1, 1]."""

    l1: float = 0.0
    """Weight of the mean absolute pixel error."""
    mse: float = 1.0
    """Weight of the mean squared pixel error."""
    perceptual: float = 0.0
    """Weight of LPIPS (arXiv 1801.03924); needs a perceptual network."""
    perceptual_backbone: Literal["alex", "vgg"] = "alex"
    """Network LPIPS looks with; VGG costs several times as much and follows finer texture."""
    classifier: float = 0.0
    """Weight, beside LPIPS in the perceptual term, of the distance to an image classifier (`ClassifierDistance`)."""
    classifier_share: float = 1.0
    """Share of a batch that the classifier looks at, from its first image on: banks list sources in the mix's order."""
    perceptual_start: float = 0.0
    """Share of the training after which LPIPS is on."""
    adversarial: float = 0.0
    """Weight of the hinge adversarial loss; needs a discriminator."""
    adversarial_start: float = 0.5
    """Share of the training after which the adversarial term begins."""


class ReconstructionObjective(nn.Module):
    """Base of objectives that compare a reconstruction with its image."""

    def __init__(
        self, config: ReconstructionConfig, *, perceptual: nn.Module | None, discriminator: nn.Module | None
    ) -> None:
        """`perceptual`: (a, b) in [-1, 1] -> [B] distances; `discriminator`: images in [-1, 1] -> real/fake logits.

        Errors: ValueError for a weight without the network it needs; `classifier` needs a `PerceptualSum`.
        """
        super().__init__()
        for weight, part, name in (
            (config.perceptual, perceptual, "perceptual network"),
            (config.adversarial, discriminator, "discriminator"),
        ):
            if weight and part is None:
                raise ValueError(
                    f"the objective weighs a term by {weight} that needs a {name}: pass one, or weigh it 0"
                )
        if config.perceptual and config.classifier and not isinstance(perceptual, PerceptualSum):
            raise ValueError(
                f"the objective weighs a classifier by {config.classifier} beside LPIPS, and its perceptual network "
                "has none: pass a PerceptualSum, or weigh it 0"
            )
        self.weights, self.discriminator = config, discriminator
        self._perceptual = (perceptual,)  # in a tuple: not a part of the trained module
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""

    def reconstruction(self, rec_B3HW: Tensor, target_B3HW: Tensor) -> Losses:
        """Weighted sum of the terms that are on, images in [-1, 1]; `adversarial` is the discriminator's own loss.

        Hinge, D logits: -E[D(rec)] for the tokenizer, (E[relu(1 - D(x))] + E[relu(1 + D(rec))]) / 2 for D.
        """
        weights = self.weights
        parts = {"l1": F.l1_loss(rec_B3HW, target_B3HW), "mse": F.mse_loss(rec_B3HW, target_B3HW)}
        total = weights.l1 * parts["l1"] + weights.mse * parts["mse"]
        if weights.perceptual and self.progress >= weights.perceptual_start:
            parts["perceptual"] = self._perceptual[0](rec_B3HW, target_B3HW).mean()  # type: ignore[misc]
            total = total + weights.perceptual * parts["perceptual"]
        adversarial = None
        if weights.adversarial and self.progress >= weights.adversarial_start:
            assert self.discriminator is not None
            parts["adversarial"] = self.generator_loss(self.discriminator(rec_B3HW))
            total = total + weights.adversarial * parts["adversarial"]
            real, fake = self.discriminator(target_B3HW), self.discriminator(rec_B3HW.detach())
            adversarial = self.discriminator_loss(real, fake)
        return Losses(total=total, parts={k: v.detach() for k, v in parts.items()}, adversarial=adversarial)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """What the tokenizer minimizes, from the logits of its reconstructions; families may have another."""
        return -fake.mean()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's own loss from its logits of images and reconstructions; families may add to it."""
        return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
