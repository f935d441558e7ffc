"""Training objective of MingTok (arXiv 2510.06590; its authors released no training code).

The report names the parts - masked image modeling, supervision of the latents and of the semantic features by frozen
teachers, reconstruction of the pixels - but neither weights, mask ratio nor teachers: those are settings here.
Shape suffixes: B batch, H W pixels, h w token grid, L tokens, D width, T width of a teacher.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.mingtok.model import MingTok


@dataclass(frozen=True, kw_only=True)
class MingTokObjectiveConfig(ReconstructionConfig):
    """Weights of the terms; pixels in [-1, 1]."""

    l1: float = 1.0
    """Weight of the mean absolute pixel error, the loss named in the published config."""
    mse: float = 0.0
    """Weight of the mean squared pixel error."""
    hidden: float = 0.0
    """Share of the patches hidden from the encoder; the pixel terms then count the visible ones alone."""
    low_level: float = 0.0
    """Weight of the distance between the raw latents and a teacher's features; needs `low_level_teacher`."""
    low_level_width: int = 0
    """Width of that teacher's features."""
    semantic: float = 0.0
    """Weight of the distance between the semantic features and a teacher's; needs `semantic_teacher`."""
    semantic_width: int = 0
    """Width of that teacher's features."""

    def __post_init__(self) -> None:
        if not 0 <= self.hidden < 1:
            raise ValueError(f"hidden is a share of the patches, at least 0 and below 1, got {self.hidden}")


class MingTokObjective(ReconstructionObjective):
    """Masked reconstruction and two teachers; images [B, 3, H, W] in [0, 1]."""

    def __init__(
        self,
        model: MingTok,
        config: MingTokObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        low_level_teacher: nn.Module | None = None,
        semantic_teacher: nn.Module | None = None,
    ) -> None:
        """A teacher maps images [B, 3, H, W] in [0, 1] to features [B, L, T] on the token grid; it is not trained."""
        super().__init__(config, perceptual=perceptual, discriminator=discriminator)
        teachers = {"low_level": low_level_teacher, "semantic": semantic_teacher}
        for name, teacher in teachers.items():
            if getattr(config, name) and teacher is None:
                raise ValueError(f"the objective weighs {name} by {getattr(config, name)}: pass {name}_teacher=")
        self.model, self.config = model, config
        self._teachers = teachers  # in a dict: not a part of the trained module
        widths = {
            "low_level": (model.config.latent_channels, config.low_level_width),
            "semantic": (model.config.semantic_width, config.semantic_width),
        }
        helpers: dict[str, nn.Module] = {n: nn.Linear(*widths[n]) for n in teachers if getattr(config, n)}
        if config.hidden:
            helpers["mask"] = nn.Embedding(1, model.config.encoder_width)
        self.helpers = nn.ModuleDict(helpers) if helpers else None

    def forward(self, images: Tensor, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch; `rng` draws the hidden patches."""
        model, patch = self.model, self.model.config.patch
        grid = images.shape[2] // patch, images.shape[3] // patch
        hidden_BL = self._hidden(len(images), grid, rng).to(images.device) if self.config.hidden else None
        target = images * 2 - 1
        raw_BLC = model.encoder(target, hidden_BL, self._mask_token())[:, :-1]
        features_BLD = model.semantic(raw_BLC)
        rec = model.decode_latents(features_BLD, grid) * 2 - 1
        if hidden_BL is None:
            losses = self.reconstruction(rec, target)
        else:
            losses = self._visible(rec, target, hidden_BL.unflatten(1, grid))
        total, parts = losses.total, dict(losses.parts)
        for name, ours in (("low_level", raw_BLC), ("semantic", features_BLD)):
            if getattr(self.config, name):
                distance = self._distance(name, ours, images)
                total, parts[name] = total + getattr(self.config, name) * distance, distance.detach()
        return Losses(total=total, parts=parts, adversarial=losses.adversarial)

    def _mask_token(self) -> Tensor | None:
        mask = self.helpers["mask"] if self.helpers is not None and self.config.hidden else None
        return mask.weight[0] if isinstance(mask, nn.Embedding) else None

    def _hidden(self, batch: int, grid: tuple[int, int], rng: torch.Generator) -> Tensor:
        """bool [B, L]: the same number of patches in every image, at random places; none in evaluation."""
        length = grid[0] * grid[1]
        count = int(length * self.config.hidden) if self.training else 0
        order_BL = torch.rand(batch, length, generator=rng, device=rng.device).argsort(dim=1)
        return order_BL < count

    def _visible(self, rec_B3HW: Tensor, target_B3HW: Tensor, hidden_Bhw: Tensor) -> Losses:
        """The pixel terms over the visible patches: hidden ones are taken from the image, and the mean is rescaled."""
        patch = self.model.config.patch
        hidden_B1HW = hidden_Bhw.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]
        losses = self.reconstruction(torch.where(hidden_B1HW, target_B3HW, rec_B3HW), target_B3HW)
        share = 1 - hidden_Bhw.float().mean()
        return Losses(total=losses.total / share, parts=losses.parts, adversarial=losses.adversarial)

    def _distance(self, name: str, ours_BLD: Tensor, images: Tensor) -> Tensor:
        """Mean of 1 - cos(head(ours), teacher) over all tokens, hidden ones included."""
        teacher = self._teachers[name]
        assert teacher is not None and self.helpers is not None
        with torch.no_grad():
            target_BLT = teacher(images)
        return (1 - F.cosine_similarity(self.helpers[name](ours_BLD), target_BLT, dim=-1)).mean()
