"""Ladders of known text: words, random strings and digits at one font size, with the box of each string.

Shape suffixes: N images, S pixels a side.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, features
from torch import Tensor

from smalti.data.rendered_text import read_words

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""
Face = ImageFont.FreeTypeFont
Kind = Literal["words", "random", "digits"]

SIZES = (6, 8, 10, 12, 16, 20, 24, 32, 40, 48)
"""Font sizes in pixels."""
LETTERS = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
"""Letters of random strings; without i, I, l, o and O, which look like digits or each other."""
DIGITS = "0123456789"
MARGIN = 2
"""Pixels that a string keeps from the edge of the image and from others."""
MOST = 16
"""Strings on one image, so that a tokenizer of few tokens is not asked for a whole page."""
SHORTEST = 2
"""Characters; a reader says nothing certain about less."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A string on an image."""

    text: str
    box: Box
    """The advance of the string by the ascent and descent of its font."""
    line: int = 0
    """Line of the page it is on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextImages:
    """Images with all that is written on them."""

    kind: str
    images: Tensor
    """float32 [N, 3, S, S] in [0, 1], 8-bit values."""
    words: tuple[tuple[Word, ...], ...]
    """For each image, in the order of reading."""
    size: float
    """Font size in pixels; of pages the size of their running text."""
    x_height: float
    """Height of the ink of an "x" in pixels (of a script without it: of its characters)."""

    def texts(self) -> list[str]:
        """The text of each image: words by blanks, lines by line breaks."""
        return [page_text(words) for words in self.words]


def page_text(words: Sequence[Word]) -> str:
    """Words by blanks, lines by line breaks."""
    lines: dict[int, list[str]] = {}
    for word in words:
        lines.setdefault(word.line, []).append(word.text)
    return "\n".join(" ".join(line) for line in lines.values())


def ladder(
    kind: Kind, size: float, image_size: int, *, characters: int, seed: int, font: str | Path | None = None
) -> TextImages:
    """One rung: strings of a kind at `size` px, black on white, on as many images as `characters` take.

    words: words that training on rendered text holds out; random: letters, as many as those words have, so that the
    two differ in what a reader knows of language; digits: likewise. Random strings too long for an image are cut, such
    words left out. Strings stand at random sub-pixel places. `font` is a file, None the font inside Pillow.
    Errors: ValueError if nothing fits.
    """
    face, words = load_font(font, size), read_words("heldout")
    if kind == "words":
        return _rung(kind, _in_turns(words), "".join(sorted(set("".join(words)))), face, image_size, characters, seed)
    alphabet = LETTERS if kind == "random" else DIGITS
    return _rung(kind, _drawn(alphabet, [len(w) for w in words]), alphabet, face, image_size, characters, seed)


def script_ladder(
    name: str, alphabet: Sequence[str], size: float, image_size: int, *, characters: int, seed: int, font: str | Path
) -> TextImages:
    """Random strings of two to five entries of any alphabet (an entry may be several code points); else as `ladder`."""
    face = load_font(font, size)
    return _rung(name, _drawn(alphabet, (2, 3, 4, 5)), alphabet, face, image_size, characters, seed)


@lru_cache(maxsize=256)
def load_font(font: str | Path | None, size: float) -> Face:
    """A font file, or the font inside Pillow, at a size in pixels, laid out glyph by glyph: the same on all machines.

    Errors: FileNotFoundError; ValueError for what is no font, or a Pillow without FreeType.
    """
    if font is not None and not Path(font).is_file():
        raise FileNotFoundError(f"no font file {font}: give the path of a .ttf, .otf or .ttc file")
    if not features.check("freetype2"):
        raise ValueError("this Pillow was built without FreeType and draws no scalable fonts: install its usual wheel")
    try:
        if font is not None:
            return ImageFont.truetype(str(font), size, layout_engine=ImageFont.Layout.BASIC)
        face = ImageFont.load_default(size)
    except OSError as error:
        raise ValueError(f"{font} is not a font that can be read ({error})") from error
    assert isinstance(face, ImageFont.FreeTypeFont)
    return face


def line_height(face: Face) -> int:
    """Ascent and descent in pixels."""
    return sum(face.getmetrics())


def draw_word(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, face: Face, ink: Color) -> Box:
    """Writes a string with its ascender at (x, y), fractions of a pixel kept; its box."""
    draw.text((x, y), text, font=face, fill=ink)
    return int(x), int(y), int(np.ceil(x + face.getlength(text))), int(np.ceil(y)) + line_height(face)


def stacked(images: Sequence[Image.Image]) -> Tensor:
    """RGB images of one size as float32 [N, 3, S, S] in [0, 1]."""
    pixels = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255


def ink_height(face: Face, alphabet: Sequence[str]) -> float:
    """Height in pixels of the ink of an "x" where the alphabet has one, else the median over its entries."""
    boxes = [face.getbbox(c) for c in (["x"] if "x" in alphabet else alphabet)]
    return float(np.median([bottom - top for _, top, _, bottom in boxes]))


# ---- parts -----------------------------------------------------------------------------------------------------------


def _rung(
    kind: str, words: "_Source", alphabet: Sequence[str], face: Face, image_size: int, characters: int, seed: int
) -> TextImages:
    rng = random.Random(f"smalti ladder {seed} {kind} {face.size} {image_size}")
    room = image_size - 2 * MARGIN - 1
    strings = words(face, room, rng)
    first = next(strings, None) if line_height(face) <= image_size else None
    if first is None:
        raise ValueError(f"{kind} of {face.size:g} px do not fit an image of {image_size} px: use smaller sizes")
    images, pages = [], []
    pending, missing = chain([first], strings), characters
    while missing > 0:
        image, page, pending = _page(pending, face, image_size, missing, rng)
        images.append(image)
        pages.append(page)
        missing -= sum(len(w.text) for w in page)
    return TextImages(
        kind=kind,
        images=stacked(images),
        words=tuple(pages),
        size=face.size,
        x_height=ink_height(face, alphabet),
    )


def _page(
    strings: Iterator[str], face: Face, image_size: int, characters: int, rng: random.Random
) -> tuple[Image.Image, tuple[Word, ...], Iterator[str]]:
    """One image, what is on it, and the strings that are left."""
    image = Image.new("RGB", (image_size, image_size), "white")
    draw = ImageDraw.Draw(image)
    height = line_height(face)
    rows = max(image_size // (height + MARGIN), 1)
    spare = image_size - rows * height - (rows - 1) * MARGIN
    down = rng.uniform(0, max(spare - 1, 0))
    found: list[Word] = []
    text = next(strings)
    for row in rng.sample(range(rows), rows):
        x, y = MARGIN + rng.random(), down + row * (height + MARGIN)
        while x + face.getlength(text) <= image_size - MARGIN and len(found) < MOST and characters > 0:
            found.append(Word(text=text, box=draw_word(draw, x, y, text, face, (0, 0, 0)), line=row))
            x += face.getlength(text) + face.size * 0.6 + MARGIN + rng.random()
            characters -= len(text)
            text = next(strings)
    return image, tuple(sorted(found, key=lambda w: (w.line, w.box[0]))), chain([text], strings)


class _Source(Protocol):
    """Endless strings that are at most `room` pixels wide; none if nothing is."""

    def __call__(self, face: Face, room: float, rng: random.Random) -> Iterator[str]: ...


def _in_turns(words: Sequence[str]) -> _Source:
    """All words that fit, in random order, again and again."""

    def strings(face: Face, room: float, rng: random.Random) -> Iterator[str]:
        fitting = [w for w in words if face.getlength(w) <= room]
        while fitting:
            yield from rng.sample(fitting, len(fitting))

    return strings


def _drawn(alphabet: Sequence[str], lengths: Sequence[int]) -> _Source:
    """Random strings of random lengths, cut to what fits; none where two entries of usual width do not."""

    def strings(face: Face, room: float, rng: random.Random) -> Iterator[str]:
        usual = float(np.median([face.getlength(entry) for entry in alphabet]))
        while usual * SHORTEST <= room:
            entries = [rng.choice(alphabet) for _ in range(rng.choice(lengths))]
            while entries and face.getlength("".join(entries)) > room:
                entries.pop()
            if len(entries) >= SHORTEST:
                yield "".join(entries)

    return strings
