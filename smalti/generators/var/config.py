"""Sizes of VAR's next-scale transformer (arXiv 2404.02905) and of CoDe's drafters and refiners (arXiv 2411.17787)."""

from dataclasses import dataclass

SIDES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
SIDES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)


@dataclass(frozen=True, kw_only=True)
class VARConfig:
    """Next-scale transformer."""

    depth: int = 16
    """Number of blocks."""
    width: int = 1024
    """Channels; the published sizes use 64 * depth."""
    heads: int = 16
    """Attention heads."""
    mlp_ratio: float = 4.0
    """Hidden width of the feed-forward layers over `width`."""
    sides: tuple[int, ...] = SIDES_256
    """Side of every token map, coarse to fine."""
    vocab: int = 4096
    """Codes of the tokenizer."""
    latent_channels: int = 32
    """Width of the tokenizer's codes: what the model is fed."""
    classes: int = 1000
    """Number of classes; one more row stands for "no class"."""
    text_features: int = 0
    """Width of the pooled text feature added to the class embedding; 0 = the model knows no text."""
    shared_modulation: bool = False
    """One adaLN layer for all blocks plus a table per block, instead of a layer per block."""
    normalize_attention: bool = True
    """Unit-length queries and keys with a learned scale per head; else scale 0.25 / sqrt(head width)."""
    initial_gain: float = 1e-3
    """Start of training: size of the gains on the residual branches; the authors use 1e-3 (shallow) to 5e-6 (deep)."""
    norm_eps: float = 1e-6
    """Epsilon of every LayerNorm."""
    drop_path: float = 0.0
    """Training: chance that the last block's residual branch is dropped, growing linearly from 0 at the first."""
    dropout: float = 0.0
    """Training: dropout on the outputs of attention and feed-forward layers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sides", tuple(self.sides))
        if self.width % self.heads:
            raise ValueError(f"width must divide by heads, got width {self.width} and {self.heads} heads")

    @classmethod
    def of_depth(cls, depth: int, **changes: object) -> "VARConfig":
        """A published size: width 64 * depth, one head per block, drop path 0.1 * depth / 24."""
        settings = {"width": 64 * depth, "heads": depth, "drop_path": 0.1 * depth / 24, **changes}
        return cls(depth=depth, **settings)  # type: ignore[arg-type]


PUBLISHED = {
    "d16": VARConfig.of_depth(16),
    "d20": VARConfig.of_depth(20),
    "d24": VARConfig.of_depth(24),
    "d30": VARConfig.of_depth(30),
    "d36": VARConfig.of_depth(36, sides=SIDES_512, shared_modulation=True),
}
