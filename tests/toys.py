"""Toy tokenizers and generators of three shapes: the contracts are tested on them besides the real families.

Raster grid of codes; two scales with feedback from the tokenizer; grid of continuous latents with a velocity head.
Images are 8x8 pixels, cells 2x2 pixels. Shape suffixes: B batch, n tokens of a step, V codes, C channels, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical, Velocity
from smalti.decoding.schedules import Schedule, next_scale, ordered, raster
from smalti.generators.base import Condition, Generator
from smalti.tokenizers.base import Feedback, Sizes, Tokenizer
from smalti.tokens import Choice, Segment, TokenLayout, Tokens


class GridTokenizer(Tokenizer):
    """One code per cell: its mean brightness in 8 levels."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = Sizes(kind="fixed", value=8)
        self.levels = nn.Parameter(torch.linspace(0, 1, 8))
        self._layout = TokenLayout(segments=(Segment(shape=(4, 4), vocab=8),), prefixes=(16,))

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        return self._layout

    def _encode(self, images: Tensor, rng: torch.Generator | None) -> Tokens:
        cells = F.avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)
        return Tokens(layout=self._layout, ids=(cells[..., None] - self.levels).abs().argmin(-1))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: torch.Generator | None) -> Tensor:
        cells = self.levels[tokens.segment(0)][:, None]
        return F.interpolate(cells, scale_factor=2.0).expand(-1, 3, -1, -1)


class TwoScaleTokenizer(GridTokenizer):
    """The mean of the image, then what every cell of a 2x2 grid adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = TokenLayout.scales((1, 2), vocab=8)
        self.levels = nn.Parameter(torch.linspace(-1, 1, 8))

    def _encode(self, images: Tensor, rng: torch.Generator | None) -> Tokens:
        gray = images.mean(1, keepdim=True)
        rest, ids = F.avg_pool2d(gray, 4).flatten(1), []
        for part in (rest.mean(1, keepdim=True), None):
            values = part if part is not None else rest - self.levels[ids[0]]
            ids.append((values[..., None] - self.levels).abs().argmin(-1))
        return Tokens(layout=self._layout, ids=torch.cat(ids, dim=1))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: torch.Generator | None) -> Tensor:
        assert tokens.ids is not None
        cells = self.levels[tokens.ids[:, :1]].expand(-1, 4)
        if tokens.ids.shape[1] == 5:
            fine = self.levels[tokens.ids[:, 1:].clamp_min(0)]
            cells = cells + fine * (tokens.lengths == 5)[:, None]
        return F.interpolate(cells.view(-1, 1, 2, 2), scale_factor=4.0).expand(-1, 3, -1, -1)

    def feedback(self, batch: int) -> "TwoScaleFeedback":
        return TwoScaleFeedback(self)


class TwoScaleFeedback:
    """Feeds the mean brightness of the first scale to every cell of the second."""

    def __init__(self, tokenizer: TwoScaleTokenizer) -> None:
        self.tokenizer, self.steps, self._history = tokenizer, 0, None

    def push(self, step: int, choice: Choice) -> Tensor | None:
        assert choice.ids is not None
        self.steps = step + 1
        if step:
            return None
        self._history = self.tokenizer.levels[choice.ids][..., None].expand(-1, 4, -1)
        return self._history

    def push_prefix(self, ids: Tensor, steps: int) -> Tensor | None:
        if steps and not self.steps:
            self.push(0, Choice(ids=ids[:, :1]))
        self.steps = steps
        return self._history

    def renew(self, ids: Tensor, aim: Tensor | None) -> Tensor:
        return ids

    def reached(self) -> None:
        return None

    def history(self) -> Tensor | None:
        return self._history

    def latents(self) -> None:
        return None


class LatentTokenizer(GridTokenizer):
    """The mean color of every cell as a continuous latent."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = TokenLayout(segments=(Segment(shape=(4, 4), vocab=None),), prefixes=(16,))

    def _encode(self, images: Tensor, rng: torch.Generator | None) -> Tokens:
        return Tokens(layout=self._layout, latents=F.avg_pool2d(images, 2).flatten(2).transpose(1, 2))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: torch.Generator | None) -> Tensor:
        return F.interpolate(tokens.segment(0).permute(0, 3, 1, 2), scale_factor=2.0)


@dataclass(eq=False)
class ToyState:
    """Sum of what was decided so far, per row."""

    condition: Tensor
    rows: int
    step: int
    feedback: Feedback
    total: Tensor = field(default_factory=lambda: torch.zeros(()))


class ToyGenerator(Generator):
    """Predicts a token from the condition, its place and the sum of the embeddings of all earlier steps."""

    def __init__(self, layout: TokenLayout, schedule: Schedule, *, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        self.layout, self._schedule, self.classes = layout, schedule, classes
        vocab = layout.segments[0].vocab
        self.condition = nn.Embedding(classes + 1, width)
        self.place = nn.Parameter(torch.randn(layout.length, width))
        self.embedding = nn.Embedding(vocab, width) if vocab else nn.Linear(3, width)
        self.fed = nn.Linear(1, width)
        self.head = nn.Linear(width, vocab or 3)

    def schedule(self) -> Schedule:
        return self._schedule

    def _hidden(self, condition: Tensor, total: Tensor, step: int, history: Tensor | None) -> Tensor:
        """[R, n, D] for the positions of a step."""
        place = self.place[self._schedule[step].positions]
        h = condition[:, None] + total[:, None] + place
        if history is not None and step:
            h = h + self.fed(history).repeat(len(h) // len(history), 1, 1)
        return torch.tanh(h)

    def _sum(self, values: Tensor) -> Tensor:
        return self.embedding(values).sum(1)

    def forward(
        self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None
    ) -> Categorical | Velocity:
        state = self.begin(condition, feedback=feedback)  # type: ignore[arg-type]
        h = torch.zeros(len(tokens), self.layout.length, self.head.in_features)
        kind = "latents" if self.layout.continuous else "ids"
        for step in self._schedule:
            h[:, step.positions] = self._hidden(state.condition, state.total, state.step, state.feedback.history())
            self.accept(state, Choice(**{kind: tokens.values[:, step.positions]}))
        return self._prediction(h, 1)

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> ToyState:
        rows = condition.rows(branches)
        embedded = self.condition(torch.where(rows.classes < 0, self.classes, rows.classes))
        state = ToyState(embedded, len(branches), start, feedback, torch.zeros_like(embedded))
        if start:
            assert known is not None
            state.total = self._sum(known[:, self._schedule.positions_before(start)]).repeat(len(branches), 1)
        return state

    def predict(self, state: ToyState) -> Categorical | Velocity:
        h = self._hidden(state.condition, state.total, state.step, state.feedback.history())
        return self._prediction(h, state.rows)

    def _prediction(self, h: Tensor, rows: int) -> Categorical | Velocity:
        if self.layout.continuous:
            shape = (rows, len(h) // rows, h.shape[1], 3)
            return Velocity(lambda x, i: torch.tanh(self.head(h[: len(x)])) - x, shape, h.device, integration_steps=4)
        return Categorical(self.head(h).float().unflatten(0, (rows, -1)))

    def accept(self, state: ToyState, choice: Choice) -> None:
        state.feedback.push(state.step, choice)
        chosen = choice.ids if choice.ids is not None else choice.latents
        assert chosen is not None
        state.total = state.total + self._sum(chosen).repeat(state.rows, 1)
        state.step += 1


def toy_pairs() -> dict[str, tuple[Tokenizer, ToyGenerator, ToyGenerator]]:
    """Name -> tokenizer and two generators of the same layout, the first two in different orders."""
    torch.manual_seed(0)
    grid, scales, latents = GridTokenizer(), TwoScaleTokenizer(), LatentTokenizer()

    def pair(tokenizer: Tokenizer, first: Schedule, second: Schedule) -> tuple[Tokenizer, ToyGenerator, ToyGenerator]:
        layout = tokenizer.layout()
        return tokenizer.eval(), ToyGenerator(layout, first).eval(), ToyGenerator(layout, second).eval()

    order = list(range(15, -1, -1))
    return {
        "raster": pair(grid, raster(grid.layout()), raster(grid.layout())),
        "ordered": pair(grid, ordered(order, 4), ordered(order, 4)),
        "two scales": pair(scales, next_scale(scales.layout()), next_scale(scales.layout())),
        "latents": pair(latents, raster(latents.layout()), raster(latents.layout())),
    }
