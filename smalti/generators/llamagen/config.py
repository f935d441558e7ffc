"""Sizes of LlamaGen's GPT (arXiv 2406.06525)."""

from dataclasses import dataclass
from typing import Any

from smalti.decoding.guidance import Guidance
from smalti.nn.gpt import hidden_width


@dataclass(frozen=True, kw_only=True)
class LlamaGenConfig:
    """Next-token transformer over a square grid of tokens, asked by class or by text."""

    depth: int = 12
    """Number of blocks."""
    width: int = 768
    """Channels."""
    heads: int = 12
    """Attention heads."""
    hidden: int = 2048
    """Width inside the feed-forward layers."""
    side: int = 16
    """Side of the token grid."""
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
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(
                f"width must divide into heads of a multiple of 4 channels, got width {self.width} and {self.heads} "
                "heads"
            )
        if bool(self.classes) == bool(self.text_features):
            raise ValueError(
                "the model is asked either by class (classes > 0, text_features 0) or by text (classes 0, "
                f"text_features > 0), got classes {self.classes} and text_features {self.text_features}"
            )
        if self.text_features and self.text_tokens < 1:
            raise ValueError(f"text_tokens must be at least 1, got {self.text_tokens}")

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "LlamaGenConfig":
        """One of the authors' sizes; `changes` are other fields. Errors: ValueError with the known sizes."""
        if size not in SIZES:
            raise ValueError(f"LlamaGen has no size {size!r}; known: {', '.join(SIZES)}")
        depth, width, heads = SIZES[size]
        settings: dict[str, Any] = {"depth": depth, "width": width, "heads": heads, "hidden": hidden_width(width)}
        return cls(**{**settings, **changes})


SIZES = {
    "B": (12, 768, 12),
    "L": (24, 1024, 16),
    "XL": (36, 1280, 20),
    "XXL": (48, 1536, 24),
    "XXXL": (48, 2560, 40),
    "1B": (22, 2048, 32),
    "3B": (24, 3200, 32),
    "7B": (32, 4096, 32),
}
"""Blocks, width, heads. The authors' code names XXXL, 1B and 7B too; no weights of them are published."""

_TEXT = {"classes": 0, "text_features": 2048}
PUBLISHED = {
    "c2i-B-256": LlamaGenConfig.of_size("B"),
    "c2i-B-384": LlamaGenConfig.of_size("B", side=24),
    "c2i-L-256": LlamaGenConfig.of_size("L"),
    "c2i-L-384": LlamaGenConfig.of_size("L", side=24),
    "c2i-XL-384": LlamaGenConfig.of_size("XL", side=24),
    "c2i-XXL-384": LlamaGenConfig.of_size("XXL", side=24),
    "c2i-3B-384": LlamaGenConfig.of_size("3B", side=24),
    "t2i-XL-stage1-256": LlamaGenConfig.of_size("XL", **_TEXT),
    "t2i-XL-stage2-512": LlamaGenConfig.of_size("XL", **_TEXT, side=32),
}


def interval_guidance(scale: float, interval: int, tokens: int) -> Guidance:
    """The authors' `cfg_interval`: the first token and `interval` + 1 more of `tokens` are guided, the rest is not.

    A negative interval guides all.
    """
    if interval < 0:
        return Guidance(scale=scale)
    return Guidance.first_steps(scale, interval + 2, tokens)
