"""Training objective of LlamaGen's GPT (arXiv 2406.06525): cross entropy of the next token. Further terms:
`smalti.nn.mixture`.

Shape suffixes: B batch, L tokens, V codes.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.llamagen.model import LlamaGenGenerator
from smalti.nn.losses import Losses
from smalti.nn.mixture import MixtureConfig, mixture_of


@dataclass(frozen=True, kw_only=True)
class LlamaGenObjectiveConfig:
    """What is learnt."""

    condition_dropout: float = 0.1
    """Share of the batch whose class or caption is dropped, so that the model can be guided."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Weights of this loss and of further terms."""


class LlamaGenObjective(nn.Module):
    """Mean cross entropy over all tokens of the images that count."""

    def __init__(
        self, model: LlamaGenGenerator, tokenizer: Any = None, config: LlamaGenObjectiveConfig | None = None,
        *, teacher: Any = None,
    ) -> None:  # fmt: skip
        """The tokenizer is not needed: the model is fed ids. Errors: ValueError for a teacher, who has no part here."""
        super().__init__()
        if teacher is not None:
            raise ValueError("LlamaGen's objective has no teacher: leave it out")
        self.model, self.config = model, config or LlamaGenObjectiveConfig()
        self.helpers = mixture_of(self.config.mixture, length=model.layout.length, width=model.config.width)

    def forward(
        self, batch: tuple[Tensor, Condition] | tuple[Tensor, Condition, Tensor], step: int, rng: torch.Generator
    ) -> Losses:
        """Losses of (ids int64 [B, L], condition), and as a third part the weight of every image, [B], by default 1.

        `rng` draws the dropped conditions. A batch of weight 0 has loss 0. Errors: ValueError for such weights together
        with further terms, which count all images alike.
        """
        ids_BL, condition, *rest = batch
        if rest and self.helpers is not None:
            raise ValueError("further terms count all images alike: leave out the weights of images, or the terms")
        if self.training and self.config.condition_dropout:
            drop_B = torch.rand(len(condition), generator=rng, device=rng.device) < self.config.condition_dropout
            condition = self.model.without(condition, drop_B.to(ids_BL.device))
        hidden_BLD = self.model.hidden(ids_BL, condition)
        logits_BLV = self.model.logits_of(hidden_BLD)
        each_BL = F.cross_entropy(logits_BLV.transpose(1, 2), ids_BL, reduction="none")
        weights_BL = (rest[0].to(each_BL) if rest else each_BL.new_ones(len(ids_BL)))[:, None].expand_as(each_BL)
        loss = (each_BL * weights_BL).sum() / weights_BL.sum().clamp_min(1)
        right = (logits_BLV.argmax(-1) == ids_BL).float().mean()
        parts = {"cross_entropy": loss.detach(), "accuracy": right}
        if self.helpers is None:
            return Losses(total=loss, parts=parts)
        total, more = self.helpers(self.model, loss, hidden_BLD, (ids_BL, condition), step, rng)
        return Losses(total=total, parts=parts | more)
