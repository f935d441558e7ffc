"""What a set of tokens is summed up to: plain data, one dataclass a level."""

from dataclasses import asdict, dataclass
from typing import Any

from smalti.eval.token_stats.compression import HuffmanCode
from smalti.eval.token_stats.laws import Line, ZipfFit
from smalti.eval.token_stats.neighbors import NeighborStatistics


@dataclass(frozen=True, kw_only=True)
class SegmentStatistics:
    """Codes of one segment (a scale, a level, a kind of token)."""

    name: str
    vocab: int
    tokens: int
    """Counted over all images."""
    used: int
    """Distinct codes."""
    usage: float
    """used / vocab."""
    entropy_bits: float
    perplexity: float
    """2^entropy."""


@dataclass(frozen=True, kw_only=True)
class NgramStatistics:
    """Runs of n codes along the last axis of a segment; rows of a grid are not crossed."""

    n: int
    total: int
    distinct: int
    entropy_bits: float
    """Of the whole run, not per code."""
    zipf: Line | None
    """Line through the logarithms of count and rank."""


@dataclass(frozen=True, kw_only=True)
class CodebookStatistics:
    """Codes of all segments that have one vocabulary, pooled: one codebook, as far as a layout tells."""

    vocab: int
    segments: list[str]
    tokens: int
    used: int
    usage: float
    """Share of codes that occurred; meaningless without `tokens`."""
    dead: int
    """Codes that never occurred."""
    entropy_bits: float
    """Plug-in, over pooled counts."""
    entropy_bits_miller_madow: float
    perplexity: float
    """2^entropy."""
    normalized_entropy: float
    """entropy / log2 vocab."""
    gini: float
    mean_image_entropy_bits: float
    mean_image_distinct: float
    zipf: Line | None
    zipf_likelihood: ZipfFit | None
    innovation: list[int]
    """Distinct codes after 1, 2, ... images, in the order given."""
    images_to_90_percent: int
    """Images after which 90 % of the used codes have occurred."""
    heaps: Line | None
    ngrams: list[NgramStatistics]
    """Of the images that begin within the first MOST_TOKENS tokens, as are the neighbors; each says how many it saw."""
    neighbors: dict[str, NeighborStatistics]
    """By axis: sequence; horizontal, vertical; time."""
    huffman: HuffmanCode
    zlib_bits_per_token: float
    xz_bits_per_token: float


@dataclass(frozen=True, kw_only=True)
class TokenSummary:
    """Everything about the tokens of a set of images; bits per pixel are of the source images."""

    images: int
    tokens_per_image: float
    length_code_bits: float
    """Bits an image spends on saying how many tokens it has; 0 where that is fixed. Part of both bpp."""
    nominal_bits: float
    """Mean bits per image: sum of log2 vocab over the tokens really there, plus the length code."""
    nominal_bpp: float
    entropy_bpp: float
    """With the pooled entropy of each codebook in place of log2 vocab (an ideal order-0 code; its table is free)."""
    compression_ratio: float
    """24 bits per pixel over nominal_bpp."""
    position_entropy_bits: list[float]
    """Plug-in entropy of the codes at each position; biased low where images are fewer than codes."""
    position_distinct: list[int]
    """Distinct codes at each position."""
    segments: list[SegmentStatistics]
    codebooks: list[CodebookStatistics]

    @property
    def mean_position_entropy_bits(self) -> float:
        """Mean over positions."""
        return sum(self.position_entropy_bits) / len(self.position_entropy_bits)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
