"""How many tokens stand for which resolution: DetailFlow, arXiv 2505.21473, section 3.2."""

import math
from dataclasses import dataclass

from smalti.tokenizers.base import Sizes
from smalti.tokenizers.detailflow.config import DetailFlowTokenizerConfig


def resolution(count: int, config: DetailFlowTokenizerConfig) -> int:
    """R(t) = S - (S - 1) ((N - t) / (N - 1))^p, rounded down and at least 1: the resolution of t of N tokens, pixels.

    S is the side of the whole image, p the degradation power: R(N) = S.
    """
    size, total, power = config.image_size, config.tokens, config.degradation_power
    slope = (size - 1) / math.pow(total - 1, power)  # kept: dividing first decides how some values round
    return max(1, int(size - slope * math.pow(total - count, power)))


class Resolutions:
    """The legal numbers of tokens, and what each of them stands for."""

    def __init__(self, config: DetailFlowTokenizerConfig) -> None:
        head, patch = config.head_length, config.decoder.patch
        self.counts = (*range(1, head + 1), *range(head + config.group, config.tokens + 1, config.group))
        """Legal numbers of leading tokens: one by one inside the head, then whole groups."""
        self.resolution = {k: resolution(k, config) for k in self.counts}
        """Number of tokens -> resolution, pixels."""
        self.side = {k: math.ceil(r / patch) * patch for k, r in self.resolution.items()}
        """Number of tokens -> side of the decoded image: the resolution, rounded up to whole patches."""
        self.best: dict[int, int] = {}
        """Side -> number of tokens that an image of this side gets: nearest resolution, the longer one of equals."""
        for k, side in self.side.items():
            other = self.best.get(side)
            if other is None or side - self.resolution[k] <= side - self.resolution[other]:
                self.best[side] = k


@dataclass(frozen=True, kw_only=True)
class SquareSizes(Sizes):
    """Square images of the default side and of some smaller ones."""

    smaller: tuple[int, ...] = ()
    """Pixels, ascending."""

    def allows(self, height: int, width: int) -> bool:
        """True if an image of this size can be encoded."""
        return height == width and height in (*self.smaller, self.value)

    def __str__(self) -> str:
        return " or ".join(f"{side}x{side}" for side in (*self.smaller, self.value)) + " pixels"
