"""Which images train what. Every split is a pure function of a name: no random state, no order of files.

An emoji is known by its code points without skin tone and variation selector, so that no drawing of a held-out
emoji, by whatever artist, is ever trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Literal

ARTISTS = ("fluent3d", "noto", "twemoji")
TOKENIZER_HELDOUT = 0.10
GENERATOR_UNSEEN = 0.05
PAIR = 0.28

TokenizerSplit = Literal["train", "heldout", "pair"]
GeneratorSplit = Literal["train", "pair", "unseen"]

_SKIN_TONES = {f"{c:04x}" for c in range(0x1F3FB, 0x1F400)}


def base_codepoint(name: str) -> str:
    """`1F44D-1F3FD` or `1f44d_fe0f` -> `1f44d`: lower case, four digits at least, no skin tone, no U+FE0F."""
    parts = [part.zfill(4) for part in name.lower().replace("_", "-").split("-")]
    return "-".join(part for part in parts if part != "fe0f" and part not in _SKIN_TONES)


def has_skin_tone(name: str) -> bool:
    """True if a code point sequence names a skin tone."""
    return any(part in _SKIN_TONES for part in name.lower().replace("_", "-").split("-"))


def fraction(text: str, salt: str) -> float:
    """A number in [0, 1) that depends on nothing but the two strings (first 8 bytes of SHA-256)."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{text}".encode()).digest()[:8], "big") / 2**64


def is_heldout(codepoint: str) -> bool:
    """True for the tenth of the code points that no tokenizer is trained on."""
    return fraction(codepoint, "tokenizer") < TOKENIZER_HELDOUT


def is_unseen(codepoint: str) -> bool:
    """True for the code points that no generator is trained on; all of them are held out of the tokenizer as well."""
    return fraction(codepoint, "tokenizer") < GENERATOR_UNSEEN


def withheld_artist(codepoint: str, artists: Collection[str]) -> str | None:
    """The artist whose drawing of this code point is withheld from all training, or None.

    Only code points that every artist has drawn and that the tokenizer trains on have one.
    """
    if is_heldout(codepoint) or not set(ARTISTS) <= set(artists) or fraction(codepoint, "pair") >= PAIR:
        return None
    return ARTISTS[int(fraction(codepoint, "artist") * len(ARTISTS))]


def emoji_splits(codepoint: str, artist: str, artists: Collection[str]) -> tuple[TokenizerSplit, GeneratorSplit]:
    """(split_tokenizer, split_generator) of one drawing; `artists` are all who have drawn the code point."""
    if is_heldout(codepoint):
        return "heldout", "unseen" if is_unseen(codepoint) else "train"
    if withheld_artist(codepoint, artists) == artist:
        return "pair", "pair"
    return "train", "train"
