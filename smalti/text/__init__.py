"""Text to what a generator is conditioned on."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smalti.text.words import WordEncoder

__all__ = ["packaged"]


@cache
def packaged() -> "WordEncoder":
    """The text encoder that is inside the package (`smalti/weights/words`): read once, works offline."""
    from smalti.text.words import WordEncoder

    return WordEncoder.load(Path(__file__).parents[1] / "weights" / "words")
