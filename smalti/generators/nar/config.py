"""Sizes of NAR's next-neighbor transformers (arXiv 2503.10696) over the tokens of images and of clips."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from smalti.decoding.guidance import Guidance
from smalti.decoding.schedules import neighbor
from smalti.nn.gpt import hidden_width
from smalti.tokens import Segment, TokenLayout

IMAGE_256, IMAGE_512, CLIP = (16, 16), (32, 32), (4, 16, 16)
_LARGEST_GRID = 2**16
"""Tokens; the mask of training has the square of it."""


@dataclass(frozen=True, kw_only=True)
class NARConfig:
    """Next-neighbor transformer over a grid of tokens, asked by class or by text."""

    depth: int = 12
    """Number of blocks before the first head; every further axis of the grid adds one block and its head."""
    width: int = 768
    """Channels."""
    heads: int = 12
    """Attention heads."""
    hidden: int = 2048
    """Width inside the feed-forward layers."""
    grid: tuple[int, ...] = IMAGE_256
    """Tokens along each axis: rows and columns, for clips frames, rows and columns."""
    positions: Literal["rotary", "learned"] = "rotary"
    """How a token knows its place: queries and keys turned by row and column, or a learned vector added to it."""
    vocab: int = 16384
    """Codes of the tokenizer."""
    classes: int = 1000
    """Number of classes; one more row stands for "no class". 0 for a model that is asked by text."""
    text_features: int = 0
    """Width of the text features; 0 = the model is asked by class."""
    text_tokens: int = 120
    """Text features per caption, padding on the left included."""
    norm_eps: float = 1e-5
    """Epsilon of every RMSNorm."""
    rotation_base: float = 10000.0
    """Slowest wavelength of the rotary positions, cells over 2 pi."""
    dropout: float = 0.1
    """Training: dropout on the embedded tokens and on the outputs of attention and feed-forward layers."""
    attention_dropout: float = 0.0
    """Training: dropout on the attention weights."""
    drop_path: float = 0.0
    """Training: chance that the last block's residual branch is dropped, growing linearly from 0 at the first. The
    authors switch `dropout` off where they use it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if self.width % self.heads:
            raise ValueError(f"width must divide by heads, got width {self.width} and {self.heads} heads")
        if self.positions == "rotary" and (len(self.grid) != 2 or self.width // self.heads % 4):
            raise ValueError(
                "rotary positions need a grid of rows and columns and heads of a multiple of 4 channels, got grid "
                f"{self.grid} and heads of {self.width // self.heads}: use positions='learned'"
            )
        if not self.grid or min(self.grid) < 2 or math.prod(self.grid) > _LARGEST_GRID:
            raise ValueError(
                f"every axis of the grid must have at least 2 tokens, all together at most {_LARGEST_GRID}, got "
                f"{self.grid}"
            )
        if bool(self.classes) == bool(self.text_features):
            raise ValueError(
                "the model is asked either by class (classes > 0, text_features 0) or by text (classes 0, "
                f"text_features > 0), got classes {self.classes} and text_features {self.text_features}"
            )
        if self.text_features and self.text_tokens < 1:
            raise ValueError(f"text_tokens must be at least 1, got {self.text_tokens}")

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "NARConfig":
        """One of the authors' sizes; `changes` are other fields. Errors: ValueError with the known sizes."""
        if size not in SIZES:
            raise ValueError(f"NAR has no size {size!r}; known: {', '.join(SIZES)}")
        depth, width, heads = SIZES[size]
        settings: dict[str, Any] = {"depth": depth, "width": width, "heads": heads, "hidden": hidden_width(width)}
        return cls(**{**settings, **changes})

    @property
    def blocks(self) -> int:
        """Number of blocks in all."""
        return self.depth + len(self.grid) - 1

    @property
    def layout(self) -> TokenLayout:
        """The grid, whole only."""
        segment = Segment(shape=self.grid, vocab=self.vocab)
        return TokenLayout(segments=(segment,), prefixes=(segment.count,))


def guided_until(config: NARConfig, scale: float, tokens: int) -> Guidance:
    """The authors' `cfg_interval`: guidance of a scale until more than `tokens` tokens are there, then none.

    The first step is always guided; `tokens` -1 = all steps are.
    """
    if tokens < 0:
        return Guidance(scale=scale)
    before = (0, *neighbor(config.layout).ends[:-1])
    return Guidance(scale=scale, curve=tuple(float(i == 0 or n <= tokens) for i, n in enumerate(before)))


SIZES = {
    "B": (12, 768, 12),
    "M": (18, 1024, 16),
    "L": (24, 1024, 16),
    "LP": (30, 1280, 20),
    "XL": (36, 1280, 20),
    "XXL": (48, 1536, 24),
}
"""Blocks before the first head, width, attention heads."""

_TEXT: dict[str, Any] = {"classes": 0, "text_features": 2048}
_VIDEO: dict[str, Any] = {"grid": CLIP, "positions": "learned", "vocab": 8192, "classes": 101}
PUBLISHED = {
    **{f"imagenet-256-{size}": NARConfig.of_size(size) for size in ("B", "M", "L", "XL", "XXL")},
    "t2i-XL-stage1-256": NARConfig.of_size("XL", **_TEXT),
    "t2i-XL-stage2-512": NARConfig.of_size("XL", **_TEXT, grid=IMAGE_512),
    **{f"ucf101-{size}": NARConfig.of_size(size, **_VIDEO) for size in ("L", "LP")},
}
