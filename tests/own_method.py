"""One's own method in one file: a tokenizer (mean color of every cell) and a generator (class, place, previous token).

The rest comes for free: contract tests, known tokens, guidance, hand-over, `generate`, the demo's page.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical
from smalti.decoding.schedules import Schedule, raster
from smalti.generators.base import Condition, Generator
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokens import Choice, Segment, TokenLayout, Tokens


class MeanColor(Tokenizer):
    """32 px images as 4 x 4 cells of 64 colors."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = Sizes(kind="fixed", value=32)
        self.colors = nn.Parameter(torch.cartesian_prod(*[torch.linspace(0, 1, 4)] * 3))

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        return TokenLayout(segments=(Segment(shape=(4, 4), vocab=64),), prefixes=(16,))

    def _encode(self, images: Tensor, rng: torch.Generator | None) -> Tokens:
        cells = F.avg_pool2d(images, 8).flatten(2).transpose(1, 2)
        return Tokens(layout=self.layout(), ids=torch.cdist(cells, self.colors[None]).argmin(-1))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: torch.Generator | None) -> Tensor:
        return F.interpolate(self.colors[tokens.segment(0)].permute(0, 3, 1, 2), scale_factor=8.0)


@dataclass
class Memory:
    """Where a generation stands: class rows, the previous tokens, the step."""

    classes: Tensor
    previous: Tensor
    step: int


class Bigrams(Generator):
    """Logits of a token = of its class and place + of the token before it."""

    classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.layout = MeanColor().layout()
        self.places = nn.Parameter(torch.randn(self.classes + 1, 16, 64))  # the last row stands for "no class"
        self.after = nn.Parameter(torch.randn(65, 64))  # the last row stands for "no token yet"

    def schedule(self) -> Schedule:
        return raster(self.layout)

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Any = None) -> Categorical:
        assert tokens.ids is not None
        previous = F.pad(tokens.ids[:, :-1], (1, 0), value=64)
        return Categorical((self.places[condition.classes] + self.after[previous])[None])

    def begin(self, condition: Condition, *, feedback: Any, branches: Any = ("cond",), known: Tensor | None = None,
              start: int = 0) -> Memory:  # fmt: skip
        classes = condition.rows(branches).classes.view(len(branches), -1)
        last = known[:, start - 1] if start and known is not None else classes[0].new_full(classes[0].shape, 64)
        return Memory(classes, last, start)

    def predict(self, state: Memory) -> Categorical:
        return Categorical((self.places[state.classes, state.step] + self.after[state.previous])[:, :, None])

    def accept(self, state: Memory, choice: Choice) -> None:
        assert choice.ids is not None
        state.previous, state.step = choice.ids[:, 0], state.step + 1
