"""Training objective of RAR (arXiv 2411.00776): cross entropy of the next token, in orders that calm down to raster.

Further terms, `smalti.nn.mixture`, take every image in the order that it has in the step:

- next is the loss above, with its random orders;
- masked: hidden tokens are replaced by one learned vector at their places, and every token is predicted from all
  inputs, with attention in both directions. A random order already has every token predicted from a random part of the
  others, those before it; what this term adds are all others at once, and as much of it when the orders are raster;
- next-all: the state of token k predicts all tokens that come at or after it in the order, each asked for by the
  learned query of its place in the grid.

Shape suffixes: B batch, L tokens, n tokens of a term, D width, V codes.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.rar.model import RARGenerator
from smalti.nn.losses import Losses
from smalti.nn.mixture import MixtureConfig, mixture_of


@dataclass(frozen=True, kw_only=True)
class RARObjectiveConfig:
    """What is learnt; the defaults are the authors' (125,000 and 187,500 of 250,000 steps)."""

    random_until: float = 0.5
    """Share of the training in which every image has an order of its own."""
    raster_from: float = 0.75
    """Share of the training from which on every image is in raster order; linear in between."""
    condition_dropout: float = 0.1
    """Share of the batch whose class is dropped, so that the model can be guided."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Weights of this loss and of further terms."""

    def __post_init__(self) -> None:
        if not 0 <= self.random_until <= self.raster_from <= 1:
            raise ValueError(
                "orders must satisfy 0 <= random_until <= raster_from <= 1, "
                f"got {self.random_until} and {self.raster_from}"
            )


@dataclass(frozen=True, eq=False)
class Ordered:
    """A model as the further terms ask it, each image in its order."""

    model: RARGenerator
    orders_BL: Tensor | None
    """int64, None = raster."""

    def hidden(
        self, ids_BL: Tensor, condition: Condition, *, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, L, D] of tokens in these orders."""
        return self.model.hidden(ids_BL, condition, masked=masked, mask=mask, orders_BL=self.orders_BL)

    def logits_of(self, h_BnD: Tensor, places: Tensor | None = None) -> Tensor:
        """float32 [B, n, V]."""
        return self.model.logits_of(h_BnD, places)


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
        self.helpers = mixture_of(self.config.mixture, length=model.config.tokens, width=model.config.width)
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

        `rng` draws the orders and the dropped classes. Not in training: raster order, every class kept. Errors:
        ValueError for weights of images together with further terms, which count all images alike.
        """
        ids_BL, condition, *rest = batch
        if rest and self.helpers is not None:
            raise ValueError("further terms count all images alike: leave out the weights of images, or the terms")
        orders_BL = None
        if self.training:
            orders_BL = self.orders(len(ids_BL), rng).to(ids_BL.device)
            drop_B = torch.rand(len(condition), generator=rng, device=rng.device) < self.config.condition_dropout
            condition = Condition(classes=condition.classes.masked_fill(drop_B.to(condition.classes.device), -1))
            ids_BL = ids_BL.gather(1, orders_BL)
        hidden_BLD = self.model.hidden(ids_BL, condition, orders_BL=orders_BL)
        logits_BLV = self.model.logits_of(hidden_BLD)
        each_BL = F.cross_entropy(logits_BLV.transpose(1, 2), ids_BL, reduction="none")
        weights_BL = (rest[0].to(each_BL) if rest else each_BL.new_ones(len(ids_BL)))[:, None].expand_as(each_BL)
        loss = (each_BL * weights_BL).sum() / weights_BL.sum().clamp_min(1)
        right = (logits_BLV.argmax(-1) == ids_BL).float().mean()
        parts = {"cross_entropy": loss.detach(), "accuracy": right, "randomness": torch.tensor(self.randomness)}
        if self.helpers is None:
            return Losses(total=loss, parts=parts)
        asked = Ordered(self.model, orders_BL)
        total, more = self.helpers(asked, loss, hidden_BLD, (ids_BL, condition), step, rng, places_BL=orders_BL)
        return Losses(total=total, parts=parts | more)
