"""Templates of the glyphs of any font: letter acuity by script, without a reader and its knowledge of language.

Shape suffixes: P placements, N glyphs, s side of a cell in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, features
from torch import Tensor

LATIN = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
DIGITS = tuple("0123456789")
ABSENT = "\U0010fffe"
"""A code point that Unicode gives to nothing: no font has a glyph for it."""
OVERSAMPLE = 8
MARGIN = 2
"""Pixels around the largest glyph in its cell."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GlyphBank:
    """All glyphs of an alphabet at one size and several sub-pixel placements."""

    alphabet: tuple[str, ...]
    size: float
    """Font size in pixels."""
    height: float
    """Median height of the ink in pixels."""
    ink: Tensor
    """float64 [P, N, s, s]: coverage in 0 to 1."""
    offsets: tuple[tuple[float, float], ...]

    @property
    def chance(self) -> float:
        """Share of right answers when guessing."""
        return 1 / len(self.alphabet)

    def drawn(self, levels: tuple[float, float]) -> Tensor:
        """float64 [P, N, s, s]: the glyphs between the levels of background and ink."""
        return levels[0] + (levels[1] - levels[0]) * self.ink


def glyph_bank(
    alphabet: Sequence[str], size: float, offsets: Sequence[tuple[float, float]], *, font: str | Path | None = None
) -> GlyphBank:
    """Glyphs of a font at `size` pixels, each centered by its ink and moved by every (x, y) offset, area sampled.

    `font` is a font file; None: the one inside Pillow (Latin). An entry of the alphabet may be several code points,
    such as a Devanagari cluster. Errors: FileNotFoundError; ValueError for entries the font has no glyph for or draws
    alike, and for a size at which there is no ink.
    """
    names = tuple(alphabet)
    if len(names) < 2 or len(set(names)) != len(names) or not offsets:
        raise ValueError(
            f"glyph templates need two or more different entries and an offset, got {names!r}, {offsets!r}"
        )
    path = None if font is None else str(font)
    masks = [_mask(name, size, path) for name in names]
    empty = [name for name, mask in zip(names, masks, strict=True) if not mask.size]
    if empty:
        raise ValueError(f"{font or 'the font inside Pillow'} leaves no ink for {empty} at {size} px: take them out")
    absent = _mask(ABSENT, size, path)
    _check_distinct(names, masks, absent if absent.size else None, font)
    side = math.ceil(max(max(m.shape) for m in masks) / OVERSAMPLE) + 2 * MARGIN
    ink = torch.stack([torch.stack([_placed(mask, side, offset) for mask in masks]) for offset in offsets])
    return GlyphBank(
        alphabet=names,
        size=size,
        height=float(np.median([m.shape[0] for m in masks])) / OVERSAMPLE,
        ink=ink,
        offsets=tuple(offsets),
    )


@lru_cache(maxsize=4096)
def _mask(text: str, size: float, font: str | None) -> np.ndarray:
    """bool [h, w]: the ink of a text at 8 times its size, cut to its bounding box; [0, 0] without ink."""
    face = _font(font, size * OVERSAMPLE)
    left, top, right, bottom = (int(v) for v in face.getbbox(text))
    canvas = Image.new("1", (max(right - left, 1) + 4, max(bottom - top, 1) + 4))
    ImageDraw.Draw(canvas).text((2 - left, 2 - top), text, fill=1, font=face)
    mask = np.asarray(canvas)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask[:0, :0]
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _font(font: str | None, size: float) -> ImageFont.FreeTypeFont:
    if font is not None and not Path(font).is_file():
        raise FileNotFoundError(f"no font file {font}")
    if not features.check("freetype2"):
        raise ValueError("this Pillow was built without FreeType and draws no scalable fonts: install its usual wheel")
    try:
        face = ImageFont.load_default(size) if font is None else ImageFont.truetype(font, size)
    except OSError as error:
        raise ValueError(f"{font} is not a font that can be read ({error})") from error
    assert isinstance(face, ImageFont.FreeTypeFont)
    return face


def _check_distinct(
    names: tuple[str, ...], masks: list[np.ndarray], absent: np.ndarray | None, font: str | Path | None
) -> None:
    """Fonts draw `absent`, or nothing, for all they lack; two entries drawn alike cannot be told apart."""
    face = font or "the font inside Pillow"
    seen: dict[tuple[tuple[int, ...], bytes], str] = {}
    if absent is not None:
        seen[absent.shape, absent.tobytes()] = ""
    for name, mask in zip(names, masks, strict=True):
        other = seen.setdefault((mask.shape, mask.tobytes()), name)
        if other == "":
            raise ValueError(f"{face} has no glyph for {name!r}: use a font of that script, or take it out")
        if other != name:
            raise ValueError(f"{face} draws {other!r} and {name!r} alike: they cannot be told apart, take one out")


def _placed(mask: np.ndarray, side: int, offset: tuple[float, float]) -> Tensor:
    """float64 [s, s]: a mask centered in its cell, moved by an offset rounded to 1/8 pixel, averaged over pixels."""
    canvas = np.zeros((side * OVERSAMPLE, side * OVERSAMPLE))
    height, width = mask.shape
    top = round((canvas.shape[0] - height) / 2 + offset[1] * OVERSAMPLE)
    left = round((canvas.shape[1] - width) / 2 + offset[0] * OVERSAMPLE)
    canvas[top : top + height, left : left + width] = mask
    return torch.from_numpy(canvas.reshape(side, OVERSAMPLE, side, OVERSAMPLE).mean(axis=(1, 3)))
