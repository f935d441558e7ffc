"""Sizes and options of FlexAR, the autoregressive transformer over FlexTok's tokens (arXiv 2502.13967, 2604.15453).

The authors build it from the blocks of a public library (apple/ml-l3m) as a config.yaml says, so every option that
changes a number is a field here.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Activation = Literal["gelu", "gelu-tanh", "silu", "relu", "quick-gelu"]
Positions = Literal["none", "learned", "sincos"]
NormKind = Literal["layer", "rms"]


def _allowed(name: str, value: str, kind: object) -> None:
    if value not in get_args(kind):
        raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class NormConfig:
    """A normalization over channels."""

    kind: NormKind = "layer"
    """LayerNorm, or RMSNorm, which has no bias."""
    eps: float = 1e-6
    """Added to the variance."""
    gain: bool = True
    """With a learned factor per channel."""
    bias: bool = True
    """With a learned offset per channel (LayerNorm only)."""

    def __post_init__(self) -> None:
        _allowed("NormConfig.kind", self.kind, NormKind)
        if self.kind == "rms":
            object.__setattr__(self, "bias", False)
        if self.bias and not self.gain:
            raise ValueError("a LayerNorm with a bias and without a gain is not supported")


@dataclass(frozen=True, kw_only=True)
class FlexARConfig:
    """Causal transformer over the tokens of FlexTok, conditioned on a class or a text."""

    width: int = 768
    """Channels; the published sizes use 64 * depth."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 12
    """Attention heads."""
    head_width: int | None = None
    """Channels of a head; None = width / heads."""
    kv_heads: int | None = None
    """Heads of keys and values, each shared by heads / kv_heads query heads; None = as many as query heads."""
    grid: tuple[int, int] = (256, 1)
    """Token grid; (n, 1) = an ordered sequence, which may be cut after any token."""
    vocab: int = 64000
    """Codes of the tokenizer."""
    classes: int = 0
    """Number of classes; 0 = the model knows no classes."""
    text_features: int = 0
    """Width of the text encoder's features; 0 = no text. With text every block has a cross-attention."""
    text_activation: Activation = "gelu-tanh"
    """Between the two layers of the text MLP."""
    text_bias: bool = False
    """Biases of the text MLP."""
    hidden: int | None = None
    """Hidden width of the feed-forward layers; None = 4 * width, or two thirds of that if they are gated."""
    gated: bool = False
    """down(activation(gate(x)) * up(x)) instead of down(activation(up(x)))."""
    activation: Activation = "gelu"
    """Of the feed-forward layers; silu and gated = SwiGLU (arXiv 2002.05202)."""
    norm: NormConfig = NormConfig()
    """Before every layer and, with `post_norm`, behind the last block."""
    qk_norm: NormConfig | None = None
    """Of queries and keys in the self-attention, per head; None = none."""
    qk_norm_whole: bool = False
    """Normalize queries and keys over all heads at once."""
    cross_qk_norm: NormConfig | None = None
    """The same in the cross-attention, always per head."""
    cross_heads: int | None = None
    """Heads of the cross-attention; None = `heads`."""
    fused_qkv: bool = True
    """One matrix for queries, keys and values of the self-attention instead of three."""
    bias: bool = False
    """Biases of attention outputs and feed-forward layers."""
    qkv_bias: bool = False
    """Biases of queries, keys and values in the self-attention."""
    cross_qkv_bias: bool = False
    """The same in the cross-attention."""
    attention_scale: float | None = None
    """Factor of the self-attention's logits; None = 1 / sqrt(head width)."""
    positions: Positions = "learned"
    """Table added to the inputs: none, learned, or fixed sines and cosines."""
    rotary: float | None = None
    """Base of rotary positions on queries and keys (arXiv 2104.09864); None = not rotated."""
    post_norm: bool = True
    """Normalize behind the last block."""
    head_norm: bool = False
    """A LayerNorm (eps 1e-5) of the head's own."""
    head_bias: bool = False
    """Bias of the head."""
    dropout: float = 0.0
    """Training: dropout on the outputs of attention and feed-forward layers."""
    quirks: Literal["authors", "fixed"] = "fixed"
    """Class guidance. authors: as their code overwrites the label "no class" with 0 after the first token, the
    unconditional rows are conditioned on class 0 from then on. fixed: they stay unconditional."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        for name, kind in (("activation", Activation), ("text_activation", Activation), ("positions", Positions)):
            _allowed(name, getattr(self, name), kind)
        if self.quirks not in ("authors", "fixed"):
            raise ValueError(f"quirks must be 'authors' or 'fixed', got {self.quirks!r}")
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise ValueError(f"grid must be two positive numbers, got {self.grid}")
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width must divide by heads, got width {self.width} and {self.heads} heads")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads must divide by kv_heads, got {self.heads} and {self.kv_heads}")
        if self.fused_qkv and (self.kv_heads or self.head_width):
            raise ValueError("one matrix for queries, keys and values knows no kv_heads and no head_width")
        if self.text_features and self.width % (self.cross_heads or self.heads):
            raise ValueError(
                f"cross-attention needs a width that divides by heads, got width {self.width} and "
                f"{self.cross_heads or self.heads} heads"
            )
        if self.rotary is not None and self.head_channels % 2:
            raise ValueError(f"rotary positions need an even head width, got {self.head_channels}")
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, got {self.width}")

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def head_channels(self) -> int:
        """Channels of a head."""
        return self.head_width or self.width // self.heads

    @property
    def hidden_width(self) -> int:
        """Hidden width of the feed-forward layers."""
        return self.hidden or (gated_width(4 * self.width, 1) if self.gated else 4 * self.width)


def gated_width(hidden: int, multiple_of: int) -> int:
    """Hidden width of a gated layer that costs as much as a plain one of `hidden`: two thirds, rounded up."""
    return -(-int(2 * hidden / 3) // multiple_of) * multiple_of


def _published(depth: int, **condition: int) -> FlexARConfig:
    """Depth and width are published; heads of 64 channels and a plain MLP are our guess, see the registry's notes."""
    return FlexARConfig(width=64 * depth, depth=depth, heads=depth, **condition)  # type: ignore[arg-type]


T5_XL = 2048
"""Width of flan-t5-xl's features."""

PUBLISHED = {
    "113m-t2i": _published(12, text_features=T5_XL),
    "382m-t2i": _published(18, text_features=T5_XL),
    "1b-t2i": _published(26, text_features=T5_XL),
    "3b-t2i": _published(36, text_features=T5_XL),
    "1b-c2i": _published(26, classes=1000),
}
