"""Training objective of NAR (arXiv 2503.10696): cross entropy of the logits that the heads give together.
Further terms: `smalti.nn.mixture`.

Shape suffixes: B batch, L tokens, V codes, E width times number of heads.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.nar.model import NARGenerator
from smalti.nn.losses import Losses
from smalti.nn.mixture import MixtureConfig, mixture_of


@dataclass(frozen=True, kw_only=True)
class NARObjectiveConfig:
    """What is learnt."""

    condition_dropout: float = 0.1
    """Share of the batch whose class or caption is dropped, so that the model can be guided."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Weights of this loss and of further terms."""


class NARObjective(nn.Module):
    """Mean cross entropy over all tokens. There is no loss per head: they learn through the mean of their logits."""

    def __init__(
        self, model: NARGenerator, tokenizer: Any = None, config: NARObjectiveConfig | None = None,
        *, teacher: Any = None,
    ) -> None:  # fmt: skip
        """The tokenizer is not needed: the model is fed ids. Errors: ValueError for a teacher, who has no part here."""
        super().__init__()
        if teacher is not None:
            raise ValueError("NAR's objective has no teacher: leave it out")
        self.model, self.config = model, config or NARObjectiveConfig()
        width, length = model.config.width, model.layout.length
        states = width * len(model.heads)
        self.helpers = mixture_of(self.config.mixture, length=length, width=width, state_width=states)

    def forward(self, batch: tuple[Tensor, Condition], step: int, rng: torch.Generator) -> Losses:
        """Losses of (ids int64 [B, L], condition); `rng` draws the dropped conditions."""
        ids_BL, condition = batch
        if self.training and self.config.condition_dropout:
            drop_B = torch.rand(len(condition), generator=rng, device=rng.device) < self.config.condition_dropout
            condition = self.model.without(condition, drop_B.to(ids_BL.device))
        ids_BL = self.model.in_order(ids_BL)
        hidden_BLE = self.model.hidden(ids_BL, condition)
        logits_BLV = self.model.logits_of(hidden_BLE)
        loss = F.cross_entropy(logits_BLV.flatten(0, 1), ids_BL.flatten())
        right = (logits_BLV.argmax(-1) == ids_BL).float().mean()
        parts = {"cross_entropy": loss.detach(), "accuracy": right}
        if self.helpers is None:
            return Losses(total=loss, parts=parts)
        total, more = self.helpers(self.model, loss, hidden_BLE, (ids_BL, condition), step, rng)
        return Losses(total=total, parts=parts | more)
