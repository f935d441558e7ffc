"""The text encoder contract: text to features that a generator is conditioned on."""

from typing import Protocol

from torch import Tensor


class TextEncoder(Protocol):
    """Text to (features, mask)."""

    @property
    def width(self) -> int:
        """Number of features F."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 over its weights: a generator works only with the encoder it was trained with."""
        ...

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Features float [B, T, F] and mask bool [B, T], True where a feature counts; T = 1 for a pooled encoder.

        Errors: ValueError for an empty text, or one of which nothing is understood.
        """
        ...
