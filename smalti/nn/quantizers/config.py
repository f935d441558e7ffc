"""Which quantizer a tokenizer has, as plain data: for configs of tokenizers that leave the choice."""

from dataclasses import dataclass

from smalti.nn.quantizers.base import Quantizer
from smalti.nn.quantizers.bsq import BSQ
from smalti.nn.quantizers.fsq import FSQ
from smalti.nn.quantizers.lfq import LFQ
from smalti.nn.quantizers.residual import ResidualQuantizer
from smalti.nn.quantizers.vq import VectorQuantizer


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """A learned codebook, or several in a row."""

    vocab: int = 16384
    """Codes in a codebook."""
    width: int = 8
    """Width of a code."""
    normalize: bool = True
    """Compare codes and vectors of length 1."""
    remembered: int = 65536
    """How many of the last codes chosen in training are kept, to tell the share of codes in use; 0 = none."""
    decay: float = 0.0
    """Codes follow moving averages of their vectors with this decay; 0 = they learn by gradient."""
    depth: int = 1
    """Levels of residual quantization; each gives a token of its own."""
    shared: bool = False
    """All levels have one codebook."""


@dataclass(frozen=True, kw_only=True)
class FSQConfig:
    """Rounding to a few levels."""

    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    """Levels of every dimension."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))


@dataclass(frozen=True, kw_only=True)
class LFQConfig:
    """Signs: lookup-free, or binary spherical quantization."""

    bits: int = 18
    """Dimensions of a vector; above 62 every bit is a token of its own."""
    spherical: bool = False
    """Bring vectors and codes to length 1 (BSQ)."""
    temperature: float = 0.01
    """Of the soft assignments that the entropy term looks at."""
    group: int = 9
    """Bits whose codes are listed at once for the entropy term."""
    diversity: float = 1.0
    """Weight of the entropy over the batch in that term."""


QuantizerConfig = VQConfig | FSQConfig | LFQConfig


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The quantizer of a config."""
    if isinstance(config, FSQConfig):
        return FSQ(config.levels)
    if isinstance(config, LFQConfig):
        settings = {"temperature": config.temperature, "group": config.group, "diversity": config.diversity}
        return (BSQ if config.spherical else LFQ)(config.bits, **settings)  # type: ignore[arg-type]
    settings = {"normalize": config.normalize, "remembered": config.remembered, "decay": config.decay}
    levels = [
        VectorQuantizer(config.vocab, config.width, **settings)  # type: ignore[arg-type]
        for _ in range(1 if config.shared else config.depth)
    ]
    return levels[0] if config.depth == 1 else ResidualQuantizer(levels, depth=config.depth)
