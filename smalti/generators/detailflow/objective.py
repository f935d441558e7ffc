"""Training objective of the next-detail transformer (arXiv 2505.21473, sections 3.3 and 3.4).

The tokenizer's self-correction gives every image three sequences: the right tokens; the same with wrong ones at some
place and what the encoder makes of the rest, which is what a model that has made a mistake is fed; and what it is to
predict then (`smalti.tokenizers.detailflow.correction`). Fed with the second, the transformer learns to correct.

Further terms, `smalti.nn.mixture`, where every token of the head is a step and every group behind it is one:

- next is the loss above: token i from the tokens of all steps before its own, the others of its group not among them;
- masked: the places of the inputs stay what they are, hidden tokens are replaced in them by one learned vector, and
  every token is predicted from all inputs, those of its own group and of later ones included. Tokens of the last group
  are never an input, so they are predicted, but nothing is predicted from them;
- next-all: the state of one token k, drawn from the whole sequence, predicts tokens k, k + 1, ... up to the last. It
  has seen the tokens of all steps before that of k: those of its group that come before k are neither seen nor
  predicted.

Both further terms learn from right tokens alone. A batch in which images are fed wrong ones is run once more for the
states of next-all: what follows a mistake cannot be predicted before it is made.

Shape suffixes: B batch, L tokens, D width, V codes.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.detailflow.model import DetailFlowGenerator
from smalti.nn.losses import Losses
from smalti.nn.mixture import MixtureConfig, mixture_of
from smalti.tokenizers.base import Tokenizer


@dataclass(frozen=True, kw_only=True)
class DetailFlowObjectiveConfig:
    """What is learnt."""

    correction: float = 0.3
    """Share of the batch that learns from sequences with wrong tokens, where the batch brings them."""
    condition_dropout: float = 0.1
    """Share of the batch trained without its condition, so that the model can be guided; 0 for data that brings its own
    share."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Weights of this loss and of further terms."""


class DetailFlowObjective(nn.Module):
    """Cross entropy of all tokens, each group predicted from those before it."""

    def __init__(
        self,
        model: DetailFlowGenerator,
        tokenizer: Tokenizer | None = None,
        config: DetailFlowObjectiveConfig | None = None,
        *,
        teacher: Any = None,
    ) -> None:
        """The tokenizer is not asked: tokens are all that is fed. Errors: ValueError for a teacher."""
        super().__init__()
        if teacher is not None:
            raise ValueError("DetailFlow's objective has no distillation: leave out the teacher")
        self.model, self.config = model, config or DetailFlowObjectiveConfig()
        self.helpers = mixture_of(self.config.mixture, length=model.config.tokens, width=model.config.width)
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""

    def forward(self, batch: tuple[Tensor, Condition], step: int, rng: torch.Generator) -> Losses:
        """Losses of (ids, condition): int64 [B, L], or [B, L, 3] with the right tokens, those fed and those predicted.

        `rng` draws which images learn from wrong tokens and which lose their condition. In evaluation the tokens are
        right and every condition stays. Errors: ValueError for another shape.
        """
        ids, condition = batch
        if ids.shape[1:] not in ((self.model.config.tokens,), (self.model.config.tokens, 3)):
            wanted = f"[batch, {self.model.config.tokens}] or [batch, {self.model.config.tokens}, 3]"
            raise ValueError(f"DetailFlow learns from ids {wanted}, got {list(ids.shape)}")
        condition = replace(condition, classes=condition.classes.masked_fill(self._draw(condition.classes, rng), -1))
        fed_BL, target_BL = self.pairs(ids, rng)
        hidden_BLD = self.model.hidden(fed_BL, condition)
        logits_BLV = self.model.logits_of(hidden_BLD)
        loss = F.cross_entropy(logits_BLV.flatten(0, 1), target_BL.flatten())
        accuracy = (logits_BLV.argmax(-1) == target_BL).float().mean()
        parts = {"cross_entropy": loss.detach(), "accuracy": accuracy}
        if self.helpers is None:
            return Losses(total=loss, parts=parts)
        right_BL = ids if ids.ndim == 2 else ids[..., 0]
        if ids.ndim == 3 and self.training and self.config.mixture.next_all:
            hidden_BLD = self.model.hidden(right_BL, condition)
        total, more = self.helpers(self.model, loss, hidden_BLD, (right_BL, condition), step, rng)
        return Losses(total=total, parts=parts | more)

    def pairs(self, ids: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Ids that are fed and ids that are predicted, both int64 [B, L]."""
        if ids.ndim == 2:
            return ids, ids
        right_BL, fed_BL, target_BL = ids.unbind(-1)
        if not self.training:
            return right_BL, right_BL
        chosen_B1 = self._below(self.config.correction, ids, rng)[:, None]
        return torch.where(chosen_B1, fed_BL, right_BL), torch.where(chosen_B1, target_BL, right_BL)

    def _draw(self, classes_B: Tensor, rng: torch.Generator) -> Tensor:
        """bool [B]: whose condition is dropped."""
        if not self.training:
            return torch.zeros_like(classes_B, dtype=torch.bool)
        return self._below(self.config.condition_dropout, classes_B, rng)

    @staticmethod
    def _below(share: float, like: Tensor, rng: torch.Generator) -> Tensor:
        """bool [B], true for that share of the batch, drawn."""
        return (torch.rand(len(like), generator=rng, device=rng.device) < share).to(like.device)
