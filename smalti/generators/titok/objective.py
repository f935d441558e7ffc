"""Training objective of TiTok's masked generators (MaskGIT, arXiv 2202.04200): tokens that were masked are named.

Shape suffixes: B batch, L tokens, V codes.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.titok.model import TiTokGenerator
from smalti.nn.losses import Losses
from smalti.tokens import PAD


@dataclass(frozen=True, kw_only=True)
class TiTokGeneratorObjectiveConfig:
    """What is learnt; the defaults are the authors'."""

    label_smoothing: float = 0.1
    """Probability spread over all codes."""
    unmasked: float = 0.1
    """Weight in the loss of a token that was not masked, against 1."""
    condition_dropout: float = 0.1
    """Share of the batch whose class is dropped, so that the model can be guided."""


class TiTokGeneratorObjective(nn.Module):
    """Cross entropy of all tokens, the masked ones weighted more."""

    def __init__(
        self,
        model: TiTokGenerator,
        tokenizer: Any = None,
        config: TiTokGeneratorObjectiveConfig | None = None,
        *,
        teacher: Any = None,
    ) -> None:
        """The tokenizer is not needed: the model is fed ids. Errors: ValueError for a teacher, who has no part here."""
        super().__init__()
        if teacher is not None:
            raise ValueError("the objective of TiTok's generator has no teacher: leave it out")
        self.model, self.config = model, config or TiTokGeneratorObjectiveConfig()

    def forward(
        self, batch: tuple[Tensor, Condition] | tuple[Tensor, Condition, Tensor], step: int, rng: torch.Generator
    ) -> Losses:
        """Losses of (ids int64 [B, L], condition), and as a third part the weight of every image, [B], by default 1.

        `rng` draws the masks and the dropped classes.
        """
        ids_BL, condition, *rest = batch
        if self.training and self.config.condition_dropout:
            condition = self._drop(condition, rng)
        mask_BL = masks(ids_BL.shape[0], ids_BL.shape[1], rng).to(ids_BL.device)
        logits_BLV = self.model.logits(ids_BL.masked_fill(mask_BL, PAD), condition)
        return self.losses(logits_BLV, ids_BL, mask_BL, rest[0] if rest else None)

    def losses(self, logits_BLV: Tensor, ids_BL: Tensor, mask_BL: Tensor, images_B: Tensor | None = None) -> Losses:
        """sum(w CE) / sum(w) with w = 1 where masked (True), else `unmasked`; times the weight of the image."""
        smoothing = self.config.label_smoothing
        each_BL = F.cross_entropy(logits_BLV.transpose(1, 2), ids_BL, reduction="none", label_smoothing=smoothing)
        images_B = torch.ones_like(each_BL[:, 0]) if images_B is None else images_B.to(each_BL)
        weights_BL = torch.where(mask_BL, 1.0, self.config.unmasked) * images_B[:, None]
        loss = (each_BL * weights_BL).sum() / (weights_BL.sum() + 1e-8)
        right_BL = (logits_BLV.argmax(-1) == ids_BL) & mask_BL
        parts = {"cross_entropy": loss.detach(), "accuracy": right_BL.sum() / mask_BL.sum().clamp_min(1)}
        return Losses(total=loss, parts=parts)

    def _drop(self, condition: Condition, rng: torch.Generator) -> Condition:
        drop_B = torch.rand(len(condition), generator=rng, device=rng.device) < self.config.condition_dropout
        return Condition(classes=condition.classes.masked_fill(drop_B.to(condition.classes.device), -1))


def masks(batch: int, length: int, rng: torch.Generator) -> Tensor:
    """bool [B, L], True = masked: at random places, a share arccos(t) / (pi / 2) of them with t uniform in 0..1."""
    share_B = torch.rand(batch, generator=rng, device=rng.device).acos() / (math.pi * 0.5)
    count_B = (length * share_B).round().clamp_min(1)
    rank_BL = torch.rand(batch, length, generator=rng, device=rng.device).argsort(dim=1)
    return rank_BL < count_B[:, None]
