"""The Generator contract: something that predicts tokens step by step under a condition."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from smalti.decoding.prediction import Prediction
from smalti.decoding.schedules import Schedule
from smalti.decoding.settings import Settings
from smalti.nn.linear import PackedLinear
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, TokenLayout, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Condition:
    """What a batch of images should show: a class, a text, both, or nothing.

    Shape suffixes: B batch, T text tokens (1 for a pooled feature), F text features.
    """

    classes: Tensor
    """int64 [B]; -1 = no class."""
    text: Tensor | None = None
    """float [B, T, F] features of the text encoder; or int64 [B, T] token ids for a model that embeds text itself."""
    text_mask: Tensor | None = None
    """bool [B, T], True where `text` counts; an image without text has none."""
    empty_text: Tensor | None = None
    """[1, T, F] features of the empty text, for models whose null branch reads it instead of nothing."""
    empty_mask: Tensor | None = None
    """bool [1, T]."""

    def __post_init__(self) -> None:
        if self.text is not None and self.text_mask is None:
            object.__setattr__(self, "text_mask", torch.ones(self.text.shape[:2], dtype=torch.bool))
        if self.text is not None and self.text.shape[0] != len(self):
            raise ValueError(f"condition has {len(self)} classes but text features for {self.text.shape[0]} images")

    def __len__(self) -> int:
        return self.classes.shape[0]

    @classmethod
    def of_classes(cls, classes: Sequence[int] | Tensor) -> Self:
        """Class numbers only."""
        return cls(classes=torch.as_tensor(classes, dtype=torch.int64))

    def __getitem__(self, rows: slice) -> Self:
        """The condition of some images of the batch."""
        text, mask = self.text, self.text_mask
        return replace(
            self,
            classes=self.classes[rows],
            text=None if text is None else text[rows],
            text_mask=None if mask is None else mask[rows],
        )

    def null(self) -> Self:
        """The same batch with nothing asked for."""
        classes = torch.full_like(self.classes, -1)
        if self.text is None or self.text_mask is None:
            return replace(self, classes=classes)
        if self.empty_text is None or self.empty_mask is None:
            return replace(self, classes=classes, text_mask=torch.zeros_like(self.text_mask))
        text, mask = self.empty_text.expand_as(self.text), self.empty_mask.expand_as(self.text_mask)
        return replace(self, classes=classes, text=text, text_mask=mask)

    def rows(self, branches: Sequence[str]) -> Self:
        """The conditions of all branches stacked along the batch: "cond" as it is, "null" emptied."""
        parts = [self if b == "cond" else self.null() for b in branches]
        return type(self)(
            classes=torch.cat([p.classes for p in parts]),
            text=None if self.text is None else torch.cat([p.text for p in parts if p.text is not None]),
            text_mask=None if self.text is None else torch.cat([p.text_mask for p in parts if p.text_mask is not None]),
        )

    def to(self, device: torch.device | str) -> Self:
        """The same condition on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: t.to(device) for name, t in tensors.items() if t is not None})


class Generator(nn.Module, ABC):
    """An autoregressive model over the tokens of one tokenizer.

    `begin`, `predict` and `accept` are what the loop of `smalti.decoding` calls; `forward` is teacher-forced.
    """

    layout: TokenLayout
    branches: tuple[str, ...] = ("cond", "null")
    """Row blocks of a guided prediction; ("cond",) for a model that was never trained without its condition."""
    classes: int = 0
    """Number of classes it knows."""
    text_features: int = 0
    """Width of the text features it reads; 0 = it knows no text."""
    needs_text: bool = False
    """True if it makes nothing without a text."""
    empty_text: bool = False
    """True if its null branch reads the features of the empty text (`Condition.empty_text`)."""

    @abstractmethod
    def schedule(self) -> Schedule:
        """The steps in which a sequence is decided."""

    def with_steps(self, steps: int, settings: Settings) -> tuple[Self, Settings]:
        """This model deciding a sequence in `steps` steps, and `settings` made for as many.

        For families that leave the number of steps open. The weights are shared, `self` stays as it is. Values per step
        that the family cannot carry over stay as they are, for the loop to refuse. Errors: ValueError for a model whose
        number of steps is fixed, or for less than one.
        """
        fixed = len(self.schedule())
        raise ValueError(f"this model decides its tokens in a fixed number of steps, {fixed}: leave out steps={steps}")

    @abstractmethod
    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Prediction:
        """Teacher-forced prediction of all positions at once (one branch): training, scoring, tests.

        `feedback` is the tokenizer's (`Tokenizer.feedback(batch)`), for families that are fed more than ids.
        """

    @abstractmethod
    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> Any:
        """State before step `start`.

        With `start` > 0 the steps before it count as decided: `known` int64 [B, L] (or latents [B, L, C]) holds them,
        `feedback` has consumed them, and they are run in one pass. `known` may hold more, -1 elsewhere: a model of
        fixed order gets the rest as choices when their steps come; one that orders by confidence sees all of it from
        the start. Rows of the state are `branches` x batch.
        """

    @abstractmethod
    def predict(self, state: Any) -> Prediction:
        """Prediction for the positions of the next step, one row block per branch."""

    @abstractmethod
    def accept(self, state: Any, choice: Choice) -> None:
        """Takes note of the choice and moves to the next step."""

    def unguide(self, state: Any) -> bool:
        """Drops the null rows of a state before `predict`, for the steps behind the last guided one.

        False = this family goes on with all rows, which costs time and changes nothing.
        """
        return False

    def guide(self, state: Any, guided: bool) -> None:
        """Says before `predict` whether the step is guided, up to the last one that is.

        A model that keeps nothing of the null rows from step to step leaves them out where it is not; all others need
        them later.
        """

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation. A ValueError that changes nothing if weights are packed for inference."""
        if mode:
            for module in self.modules():
                if isinstance(module, PackedLinear):
                    module.train()  # refuses, before any other module has changed
        return super().train(mode)

    def check_condition(self, condition: Condition) -> None:
        """A ValueError if the condition cannot be served: class out of range, text of another width, no text."""
        wrong = condition.classes[(condition.classes < -1) | (condition.classes >= self.classes)]
        if len(wrong):
            allowed = f"0..{self.classes - 1}" if self.classes else "no classes"
            raise ValueError(f"class {int(wrong[0])} is out of range: this model knows {allowed}")
        if condition.text is None and self.needs_text:
            raise ValueError("this model is asked by text: give text=[...]")
        if condition.text is not None and condition.text.shape[2:] not in ((self.text_features,), ()):
            allowed = f"text features of width {self.text_features}" if self.text_features else "no text"
            raise ValueError(f"this model takes {allowed}, got text features of width {condition.text.shape[-1]}")
