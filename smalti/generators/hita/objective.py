"""Training objective of the two-stream transformer (arXiv 2507.02358): cross entropy of either stream, added.

Further terms, `smalti.nn.mixture`, take both streams as the one sequence they are, holistic tokens first:

- next is the loss above, of either stream with its own weight;
- masked: hidden tokens of either stream are replaced in the inputs by one learned vector, the same for both, and every
  token is predicted from all inputs: holistic ones from the patches, too. Only the last patch is never an input;
- next-all: the state of one token k, drawn from both streams, predicts tokens k, k + 1, ... up to the last patch. From
  a holistic k these are the rest of the holistic tokens and all patches.

A token is predicted by the head of its own stream, whichever stream the state stands in. Both terms are the mean over
their tokens, each of which counts the same: the weights of the streams and their separate means are those of the own
loss alone.

Shape suffixes: B batch, L tokens, D width, V codes.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.hita.model import HitaGenerator
from smalti.nn.losses import Losses
from smalti.nn.mixture import MixtureConfig, mixture_of
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
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Weights of this loss and of further terms."""


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
        self.helpers = mixture_of(self.config.mixture, length=model.config.length, width=model.config.width)
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
        hidden_BLD = self.model.hidden(ids_BL, condition)
        logits_BLV = self.model.logits_of(hidden_BLD)
        cut = self.model.config.holistic_tokens
        holistic, patches = (
            F.cross_entropy(logits_BLV[:, part].flatten(0, 1), ids_BL[:, part].flatten())
            for part in (slice(cut), slice(cut, None))
        )
        accuracy = (logits_BLV.argmax(-1) == ids_BL).float().mean()
        parts = {"holistic": holistic.detach(), "patches": patches.detach(), "accuracy": accuracy}
        loss = self.config.holistic * holistic + self.config.patches * patches
        if self.helpers is None:
            return Losses(total=loss, parts=parts)
        total, more = self.helpers(self.model, loss, hidden_BLD, (ids_BL, condition), step, rng)
        return Losses(total=total, parts=parts | more)
