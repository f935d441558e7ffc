"""Training objective of the two-stream transformer (arXiv 2507.02358): cross entropy of either stream, added.

Shape suffixes: B batch, L tokens, V codes.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.hita.model import HitaGenerator
from smalti.nn.losses import Losses
from smalti.tokenizers.base import Tokenizer


@dataclass(frozen=True, kw_only=True)
class HitaObjectiveConfig:
    """What is learnt."""

    holistic: float = 1.0
    """Weight of the mean cross entropy of the holistic tokens."""
    patches: float = 1.0
    """Weight of the mean cross entropy of the patch tokens."""
    condition_dropout: float = 0.1
    """Share of the batch trained without its condition, so that the model can be guided; 0 for data that brings its own
    share."""


class HitaObjective(nn.Module):
    """CE(holistic tokens) + CE(patch tokens), each the mean over its stream."""

    def __init__(
        self,
        model: HitaGenerator,
        tokenizer: Tokenizer | None = None,
        config: HitaObjectiveConfig | None = None,
        *,
        teacher: Any = None,
    ) -> None:
        """The tokenizer is not asked: tokens are all that is fed. Errors: ValueError for a teacher."""
        super().__init__()
        if teacher is not None:
            raise ValueError("Hita's objective has no distillation: leave out the teacher")
        self.model, self.config = model, config or HitaObjectiveConfig()
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""

    def forward(self, batch: tuple[Tensor, Condition], step: int, rng: torch.Generator) -> Losses:
        """Losses of (ids int64 [B, L], condition); `rng` draws the dropped conditions.

        The last holistic token is fed as a holistic one, whatever the model's quirks. Errors: ValueError for tokens of
        another length.
        """
        ids_BL, condition = batch
        if ids_BL.shape[1:] != (self.model.config.length,):
            raise ValueError(f"Hita learns from ids [batch, {self.model.config.length}], got {list(ids_BL.shape)}")
        if self.training and self.config.condition_dropout:
            drop_B = torch.rand(len(ids_BL), generator=rng, device=rng.device) < self.config.condition_dropout
            condition = replace(condition, classes=condition.classes.masked_fill(drop_B.to(ids_BL.device), -1))
        logits_BLV = self.model.logits(ids_BL, condition)
        cut = self.model.config.holistic_tokens
        holistic, patches = (
            F.cross_entropy(logits_BLV[:, part].flatten(0, 1), ids_BL[:, part].flatten())
            for part in (slice(cut), slice(cut, None))
        )
        accuracy = (logits_BLV.argmax(-1) == ids_BL).float().mean()
        parts = {"holistic": holistic.detach(), "patches": patches.detach(), "accuracy": accuracy}
        return Losses(total=self.config.holistic * holistic + self.config.patches * patches, parts=parts)
