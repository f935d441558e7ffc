"""TiTok's masked generators (arXiv 2406.07550; bytedance/1d-tokenizer, Apache-2.0), which decode as MaskGIT does.

Shape suffixes: R rows (branches x batch), B batch, L tokens, m open positions, D width, V codes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical, Confident
from smalti.decoding.schedules import Schedule, confidence
from smalti.decoding.settings import Settings
from smalti.generators.base import Condition, Generator
from smalti.generators.titok.config import TiTokGeneratorConfig, decided_per_step
from smalti.generators.titok.resampling import resampled
from smalti.generators.titok.trunks import UViTTrunk, ViTTrunk
from smalti.tokenizers.base import Feedback
from smalti.tokens import PAD, Choice, Segment, TokenLayout, Tokens


@dataclass(eq=False)
class TiTokState:
    """Where a generation stands."""

    step: int
    """The step that is predicted next."""
    branches: int
    """Number of branches."""
    guided: bool
    """False if the next step needs the conditional rows only."""
    schedule: Schedule
    """Taken at the start: changing the model's steps does not touch a generation that is under way."""
    condition_R1D: Tensor
    """The class token, embedded and placed once."""
    ids_BL: Tensor
    """int64: what is decided or known, -1 elsewhere."""
    counted_BL: Tensor
    """bool: positions that the steps so far decided; known ones beyond their number still wait for their step."""


class TiTokGenerator(Generator):
    """Predicts every masked token from the class and all tokens that are there; the surest are decided first."""

    def __init__(self, config: TiTokGeneratorConfig) -> None:
        super().__init__()
        self.config, self.classes = config, config.classes
        segment = Segment(shape=(config.tokens,), vocab=config.vocab)
        self.layout = TokenLayout(segments=(segment,), prefixes=(config.tokens,))
        self.embedding = nn.Embedding(config.vocab + 1 + config.classes + 1, config.width)
        places = (config.tokens + 1, config.width)
        self.positions = nn.Parameter(torch.zeros(places if config.kind == "vit" else (1, *places)))
        self.trunk = ViTTrunk(config) if config.kind == "vit" else UViTTrunk(config)
        self.head = nn.Linear(config.width, config.vocab)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Weights to start training from: the authors' normal distribution of standard deviation 0.02, no biases."""
        for name, p in self.named_parameters():
            if p.ndim >= 2:
                nn.init.trunc_normal_(p, std=0.02)
            elif name.endswith(".bias"):
                nn.init.zeros_(p)

    @property
    def steps(self) -> int:
        """Decoding steps; may be set to any number from 1. Per-step guidance and sampling need as many values."""
        return self.config.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self.config = replace(self.config, steps=value)

    def with_steps(self, steps: int, settings: Settings) -> tuple[Self, Settings]:
        """Any number from 1; the authors' curves and temperatures are made for it."""
        model = copy.copy(self)  # a module's copy holds the same parameters and layers
        model.steps = steps
        return model, resampled(settings, steps)

    def schedule(self) -> Schedule:
        """The surest tokens first, few at first and many at the end (arccos)."""
        return confidence(decided_per_step(self.layout.length, self.steps))

    def _places(self) -> Tensor:
        """[1 + L, D]: of the class token, then of the tokens."""
        return self.positions.flatten(0, -2)

    def _embed_condition(self, condition: Condition) -> Tensor:
        """[R, 1, D]: class token, in the rows of the table behind the codes and the mask; the last is "no class"."""
        config = self.config
        classes_R = torch.where(condition.classes < 0, config.classes, condition.classes)
        return self.trunk.enter(self.embedding(classes_R + config.vocab + 1)[:, None] + self._places()[:1])

    def _embed(self, ids_BL: Tensor, order_BL: Tensor | None = None) -> Tensor:
        """[B, L, D]: tokens, masked where the id is -1; `order_BL` says which place each of them has."""
        places = self._places()[1:]
        masked_BL = ids_BL.masked_fill(ids_BL == PAD, self.config.vocab)
        return self.trunk.enter(self.embedding(masked_BL) + (places if order_BL is None else places[order_BL]))

    def _logits(self, x_RLD: Tensor, condition_R1D: Tensor, read: int) -> Tensor:
        """float32 [R, read, V] of the first `read` tokens."""
        x_RnD = torch.cat([x_RLD, condition_R1D], dim=1)  # in any order: the places are in the tokens
        return self.head(self.trunk(x_RnD, slice(0, read))).float()

    def logits(self, ids_BL: Tensor, condition: Condition) -> Tensor:
        """Logits float32 [B, L, V] of all positions from ids int64 [B, L], -1 where masked."""
        return self._logits(self._embed(ids_BL), self._embed_condition(condition), ids_BL.shape[1])

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Categorical:
        """Logits [1, B, L, V] of all positions at once; ids of -1 are masked. No position hides its own token."""
        if tokens.ids is None or tokens.ids.shape[1] != self.layout.length:
            raise ValueError(f"this model reads whole sequences of {self.layout.length} ids, -1 where masked")
        return Categorical(self.logits(tokens.ids, condition)[None])

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> TiTokState:
        """State before step `start`; all known tokens are seen from now on."""
        schedule, shape = self.schedule(), (len(condition), self.layout.length)
        ids_BL = torch.full(shape, PAD, device=condition.classes.device) if known is None else known.clone()
        decided = schedule.ends[start - 1] if start else 0
        known_BL = ids_BL != PAD
        return TiTokState(
            step=start,
            branches=len(branches),
            guided=len(branches) > 1,
            schedule=schedule,
            condition_R1D=self._embed_condition(condition.rows(branches)),
            ids_BL=ids_BL,
            counted_BL=known_BL & (known_BL.cumsum(dim=1) <= decided),
        )

    def predict(self, state: TiTokState) -> Confident:
        """Logits of the positions that are still open, known ones among them."""
        before = state.schedule.ends[state.step - 1] if state.step else 0
        open_positions = self.layout.length - before
        order_BL = state.counted_BL.to(torch.uint8).argsort(dim=1, stable=True)  # the open ones first
        ids_BL = state.ids_BL.gather(1, order_BL)
        branches = state.branches if state.guided else 1
        x_RLD = self._embed(ids_BL, order_BL).repeat(branches, 1, 1)
        logits_RmV = self._logits(x_RLD, state.condition_R1D[: len(x_RLD)], open_positions)
        return Confident(
            logits_RBmV=logits_RmV.unflatten(0, (branches, -1)),
            positions_Bm=order_BL[:, :open_positions],
            ids_Bm=ids_BL[:, :open_positions],
            count=state.schedule[state.step].count,
        )

    def accept(self, state: TiTokState, choice: Choice) -> None:
        """Puts the decided tokens in."""
        assert choice.ids is not None and choice.positions is not None
        state.ids_BL = state.ids_BL.scatter(1, choice.positions, choice.ids)
        state.counted_BL = state.counted_BL.scatter(1, choice.positions, True)
        state.step += 1

    def guide(self, state: TiTokState, guided: bool) -> None:
        """Every step reads all tokens anew, so the null rows can rest in any."""
        state.guided = guided

    def unguide(self, state: TiTokState) -> bool:
        """Nothing is cached but the class token."""
        state.branches, state.condition_R1D = 1, state.condition_R1D[: len(state.ids_BL)]
        return True
