"""Training objective of FlexAR: cross entropy of the next token, with the condition left out for some images.

The authors released no training code; their public parts hold the dropout of classes and texts, the rest is the
standard loss. Further terms: `smalti.nn.mixture`.

Shape suffixes: B batch, L tokens, T text tokens, F text features.
"""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.flextok.model import FlexARGenerator
from smalti.nn.losses import Losses
from smalti.nn.mixture import MixtureConfig, mixture_of
from smalti.tokenizers.base import Tokenizer


@dataclass(frozen=True, kw_only=True)
class FlexARObjectiveConfig:
    """What is learnt."""

    condition_dropout: float = 0.1
    """Share of the batch trained without its condition, for guidance; 0 for data that brings its own share."""
    label_smoothing: float = 0.0
    """Probability spread over all codes."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Weights of this loss and of further terms."""


class FlexARObjective(nn.Module):
    """Cross entropy of all tokens."""

    def __init__(
        self,
        model: FlexARGenerator,
        tokenizer: Tokenizer | None,
        config: FlexARObjectiveConfig,
        *,
        teacher: nn.Module | None = None,
    ) -> None:
        """The model is fed ids and needs no tokenizer. Errors: ValueError for a teacher, which has no use here."""
        super().__init__()
        if teacher is not None:
            raise ValueError("FlexAR is not trained towards a teacher: leave it out")
        self.model, self.config = model, config
        self.helpers = mixture_of(config.mixture, length=model.layout.length, width=model.config.width)
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""

    def forward(self, batch: tuple[Tensor, Condition], step: int, rng: torch.Generator) -> Losses:
        """Losses of (ids int64 [B, L], condition); `rng` draws the dropped conditions."""
        ids_BL, condition = batch
        if self.config.condition_dropout and self.training:
            condition = dropped(condition, self.config.condition_dropout, rng)
        hidden_BLD = self.model.hidden(ids_BL, condition)
        logits_BLV = self.model.logits_of(hidden_BLD)
        loss = F.cross_entropy(logits_BLV.flatten(0, 1), ids_BL.flatten(), label_smoothing=self.config.label_smoothing)
        parts = {"cross_entropy": loss.detach(), "accuracy": (logits_BLV.argmax(-1) == ids_BL).float().mean()}
        if self.helpers is None:
            return Losses(total=loss, parts=parts)
        total, more = self.helpers(self.model, loss, hidden_BLD, (ids_BL, condition), step, rng)
        return Losses(total=total, parts=parts | more)


def dropped(condition: Condition, share: float, rng: torch.Generator) -> Condition:
    """The condition, emptied for a random share of the images.

    Errors: ValueError for texts without the features of the empty text, which the model reads instead of nothing.
    """
    drop_B = torch.rand(len(condition), generator=rng, device=rng.device) < share
    drop_B, null = drop_B.to(condition.classes.device), condition.null()
    classes = torch.where(drop_B, null.classes, condition.classes)
    if condition.text is None or condition.text_mask is None:
        return replace(condition, classes=classes)
    if condition.empty_text is None or null.text is None or null.text_mask is None:
        raise ValueError("dropping texts needs the features of the empty text: set Condition.empty_text")
    text = torch.where(drop_B[:, None, None], null.text, condition.text)
    mask = torch.where(drop_B[:, None], null.text_mask, condition.text_mask)
    return replace(condition, classes=classes, text=text, text_mask=mask)
