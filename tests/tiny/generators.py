"""What a generator family puts into the contract tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from smalti.generators.base import Condition, Generator
from smalti.tokenizers.base import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Generators:
    """A tokenizer, two generators over its tokens, and how they are asked."""

    tokenizer: Tokenizer
    first: Generator
    second: Generator
    """Of another size than the first; it may have another schedule."""
    condition: Callable[[Sequence[int]], Condition] = Condition.of_classes
    """Condition of a batch from numbers 0, 1, 2: equal numbers ask for the same thing."""
    objective: Callable[[Generator], nn.Module] | None = None
    """The training objective of a generator, called as objective((values, condition), step, rng)."""
    same_schedule: bool = True
    """False if the two generators decide the positions in different orders."""


def texts(width: int, tokens: int = 5) -> Callable[[Sequence[int]], Condition]:
    """Conditions of random text features [B, tokens, width], padded on the left to different lengths."""

    def condition(numbers: Sequence[int]) -> Condition:
        rng = torch.Generator().manual_seed(0)
        features = torch.randn(4, tokens, width, generator=rng)
        mask = torch.arange(tokens) >= torch.tensor([[0], [2], [1], [tokens - 1]])
        rows = torch.tensor(list(numbers))
        text = (features * mask[..., None])[rows]
        return Condition(classes=torch.full((len(rows),), -1), text=text, text_mask=mask[rows])

    return condition
