"""Training objective of DetailFlow's tokenizer (arXiv 2505.21473, section 3; weights of the authors' recipe).

Shape suffixes: B batch, H W pixels, C code width, N tokens.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.detailflow.correction import CANDIDATES, Corrected, Encoded, encode, self_correct
from smalti.tokenizers.detailflow.model import DetailFlowTokenizer


@dataclass(frozen=True, kw_only=True)
class DetailFlowTokenizerObjectiveConfig(ReconstructionConfig):
    """Weights of the terms; the published tokenizers have mse, perceptual 1, adversarial 0.2 and alignment 1."""

    perceptual_warmup: float = 0.0
    """Share of the training over which the weight of LPIPS grows from 0."""
    perceptual_side: int = 32
    """LPIPS compares smaller images after enlarging them to this side, pixels (AlexNet cannot see less)."""
    codebook: float = 1.0
    """Weight of the loss that pulls the codes to the features."""
    commitment: float = 0.25
    """Weight of the loss that pulls the features to the codes."""
    degradation: float = 0.2
    """Share of the steps that reconstruct a lower resolution from a prefix of the tokens."""
    correction: float = 1.0
    """Share of the steps in which a part of the tokens is made wrong and the rest is encoded anew."""
    alignment: float = 0.0
    """Weight of predicting another model's features from the first token; needs that model."""


def codebook_losses(clean: Encoded, corrected: Corrected | None = None) -> tuple[Tensor, Tensor]:
    """Codebook loss |e - sg z|^2 and commitment loss |sg e - z|^2, means over all tokens that were quantized.

    These are the N tokens of the first pass and, with self-correction, those behind the wrong ones in the second.
    """
    passes = [(clean, 0)] if corrected is None else [(clean, 0), (corrected.again, corrected.end)]
    z = torch.cat([encoded.features[:, start:] for encoded, start in passes], dim=1)
    e = torch.cat([encoded.codes[:, start:] for encoded, start in passes], dim=1)
    return F.mse_loss(e, z.detach()), F.mse_loss(z, e.detach())


def degrade(images_B3HW: Tensor, resolution: int, side: int) -> Tensor:
    """Images at a lower resolution, then enlarged to `side`: what a prefix of the tokens is to reconstruct."""
    small = F.interpolate(images_B3HW, (resolution, resolution), mode="area")
    return small if side == resolution else F.interpolate(small, (side, side), mode="bicubic")


class DetailFlowTokenizerObjective(ReconstructionObjective):
    """Reconstruction at full or lower resolution, from clean and from corrected tokens; images in [0, 1].

    The draws of a step (resolution, where tokens are wrong) hold for the whole batch.
    """

    def __init__(
        self,
        model: DetailFlowTokenizer,
        config: DetailFlowTokenizerObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        features: nn.Module | None = None,
    ) -> None:
        """`perceptual`, `discriminator` as for the base; `features`: images in [-1, 1] -> patch features [B, n, D].

        Errors: ValueError for a weight without the network it needs.
        """
        seeing = None if perceptual is None else _Enlarging(perceptual, config.perceptual_side)
        super().__init__(config, perceptual=seeing, discriminator=discriminator)
        if config.alignment and (features is None or model.config.alignment is None):
            raise ValueError(
                f"the objective weighs the alignment by {config.alignment}: pass features= (the model to align with) "
                "and give the tokenizer's config an alignment, or weigh it 0"
            )
        if config.correction and not model.config.self_correction:
            raise ValueError("the tokenizer has no self-correction: set correction to 0")
        self.model, self.config = model, config
        self._features = (features,)  # in a tuple: frozen, not a part of the trained module

    def forward(self, images: Tensor, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch [B, 3, H, W]; in evaluation mode nothing is degraded or made wrong."""
        config, model = self.config, self.model
        total = model.resolutions.best[images.shape[-1]]
        count, start = self._draw(total, rng) if self.training else (total, None)
        clean, corrected = encode(model, images, total), None
        codes, target = clean.straight_through(), images * 2 - 1
        if count < total:
            target = degrade(target, model.resolutions.resolution[count], model.size_of(count))
        if start is not None:
            ranks = torch.randint(self._candidates, clean.ids.shape, generator=rng, device=rng.device)
            corrected = self_correct(model, clean, images, start, ranks.to(images.device))
            codes, target = torch.cat([codes, corrected.codes()]), torch.cat([target, target])
        rec = model.pixels(codes[:, :count], target.shape[-1]) * 2 - 1
        if config.perceptual_warmup:
            self.weights = replace(
                config, perceptual=config.perceptual * min(1, self.progress / config.perceptual_warmup)
            )
        losses = self.reconstruction(rec, target)
        codebook, commitment = codebook_losses(clean, corrected)
        parts = {**losses.parts, "codebook": codebook.detach(), "commitment": commitment.detach()}
        loss = losses.total + config.codebook * codebook + config.commitment * commitment
        if config.alignment:
            alignment = self._alignment(images, clean)
            loss, parts["alignment"] = loss + config.alignment * alignment, alignment.detach()
        if self.training and model.config.usage_window:
            parts["usage"] = model.quantizer.remember((corrected.again if corrected else clean).ids)
        return Losses(total=loss, parts=parts, adversarial=losses.adversarial)

    @property
    def _candidates(self) -> int:
        return min(CANDIDATES, self.model.config.vocab)

    def _draw(self, total: int, rng: torch.Generator) -> tuple[int, int | None]:
        """How many of `total` tokens are decoded, and where tokens are wrong (None: nowhere)."""
        config, group, head = self.config, self.model.config.group, self.model.config.head_length
        lower, how_many, wrong, where = torch.rand(4, generator=rng, device=rng.device).tolist()
        count = total
        if lower < config.degradation and total > group:
            count = 1 + int(how_many * (total - group))
            if count > head:
                count = math.ceil(count / group) * group
        if count == 1 or wrong >= config.correction:
            return count, None
        start = int(where * (count if count <= head else count - group))
        return count, start if start < head else start // group * group

    def _alignment(self, images: Tensor, clean: Encoded) -> Tensor:
        """-cos(MLP(first token), mean of the other model's patch features)."""
        with torch.no_grad():
            goal = self._features[0](images * 2 - 1).mean(dim=1)  # type: ignore[misc]
        predicted = self.model.alignment(clean.straight_through()[:, 0])
        return -F.cosine_similarity(predicted.float(), goal.float(), dim=-1).mean()


class _Enlarging(nn.Module):
    """Enlarges small images before they are compared."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
        if a_B3HW.shape[-1] < self.side:
            a_B3HW, b_B3HW = (F.interpolate(x, (self.side, self.side), mode="bilinear") for x in (a_B3HW, b_B3HW))
        return self.network(a_B3HW, b_B3HW)
