"""Training objective of RAR (arXiv 2411.00776): cross entropy of the next token, in orders that calm down to raster.

Shape suffixes: B batch, L tokens, V codes.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.rar.model import RARGenerator
from smalti.nn.losses import Losses


@dataclass(frozen=True, kw_only=True)
class RARObjectiveConfig:
    """What is learnt; the defaults are the authors' (125,000 and 187,500 of 250,000 steps)."""

    random_until: float = 0.5
    """Share of the training in which every image has an order of its own."""
    raster_from: float = 0.75
    """Share of the training from which on every image is in raster order; linear in between."""
    condition_dropout: float = 0.1
    """Share of the batch whose class is dropped, so that the model can be guided."""

    def __post_init__(self) -> None:
        if not 0 <= self.random_until <= self.raster_from <= 1:
            raise ValueError(
                "orders must satisfy 0 <= random_until <= raster_from <= 1, "
                f"got {self.random_until} and {self.raster_from}"
            )


class RARObjective(nn.Module):
    """Mean cross entropy of all tokens, each predicted from the tokens before it in the image's order."""

    def __init__(
        self, model: RARGenerator, tokenizer: Any = None, config: RARObjectiveConfig | None = None, *,
        teacher: Any = None,
    ) -> None:  # fmt: skip
        """The tokenizer is not needed: the model is fed ids. Errors: ValueError for a teacher, who has no part here."""
        super().__init__()
        if teacher is not None:
            raise ValueError("RAR's objective has no teacher: leave it out")
        self.model, self.config = model, config or RARObjectiveConfig()
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""

    @property
    def randomness(self) -> float:
        """Share r of the images that have a random order: 1, then falling to 0."""
        start, end = self.config.random_until, self.config.raster_from
        if not start < self.progress < end:
            return float(self.progress < end)
        return (end - self.progress) / (end - start)

    def orders(self, batch: int, rng: torch.Generator) -> Tensor:
        """int64 [B, L]: a random permutation for a share `randomness` of the images, raster order for the others."""
        length, device = self.model.layout.length, rng.device
        random_BL = torch.rand(batch, length, generator=rng, device=device).argsort(dim=1)
        chosen_B1 = torch.rand(batch, 1, generator=rng, device=device) < self.randomness
        return torch.where(chosen_B1, random_BL, torch.arange(length, device=device))

    def forward(
        self, batch: tuple[Tensor, Condition] | tuple[Tensor, Condition, Tensor], step: int, rng: torch.Generator
    ) -> Losses:
        """Losses of (ids int64 [B, L], condition), and as a third part the weight of every image, [B], by default 1.

        `rng` draws the orders and the dropped classes. Not in training: raster order, every class kept.
        """
        ids_BL, condition, *rest = batch
        orders_BL = None
        if self.training:
            orders_BL = self.orders(len(ids_BL), rng).to(ids_BL.device)
            drop_B = torch.rand(len(condition), generator=rng, device=rng.device) < self.config.condition_dropout
            condition = Condition(classes=condition.classes.masked_fill(drop_B.to(condition.classes.device), -1))
            ids_BL = ids_BL.gather(1, orders_BL)
        logits_BLV = self.model.logits(ids_BL[:, :-1], condition, orders_BL)
        each_BL = F.cross_entropy(logits_BLV.transpose(1, 2), ids_BL, reduction="none")
        weights_BL = (rest[0].to(each_BL) if rest else each_BL.new_ones(len(ids_BL)))[:, None].expand_as(each_BL)
        loss = (each_BL * weights_BL).sum() / weights_BL.sum().clamp_min(1)
        right = (logits_BLV.argmax(-1) == ids_BL).float().mean()
        parts = {"cross_entropy": loss.detach(), "accuracy": right, "randomness": torch.tensor(self.randomness)}
        return Losses(total=loss, parts=parts)
