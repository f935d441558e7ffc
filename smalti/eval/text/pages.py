"""Small posters and document crops composed from known words.

Shape suffixes: N images, S pixels a side.
"""

import random
from pathlib import Path

from PIL import Image, ImageDraw

from smalti.data.rendered_text import colors, read_words
from smalti.eval.text.render import (
    Color,
    Face,
    TextImages,
    Word,
    draw_word,
    ink_height,
    line_height,
    load_font,
    stacked,
)

BODY = 12
"""Font size in pixels of running text: about the smallest that readers read without faults on untouched images."""
MARGIN = 3


def posters(image_size: int, count: int, seed: int, *, font: str | Path | None = None) -> TextImages:
    """`count` images [N, 3, S, S] with a title, a line below it and a band, in colors of good contrast."""
    made = [_poster(image_size, random.Random(f"smalti poster {seed} {i} {image_size}"), font) for i in range(count)]
    return _collected("posters", made, font)


def documents(image_size: int, count: int, seed: int, *, font: str | Path | None = None) -> TextImages:
    """`count` images [N, 3, S, S] of running text with numbers, black on white or nearly so, words never cut."""
    made = [
        _document(image_size, random.Random(f"smalti document {seed} {i} {image_size}"), font) for i in range(count)
    ]
    return _collected("documents", made, font)


def _collected(kind: str, made: list[tuple[Image.Image, list[Word]]], font: str | Path | None) -> TextImages:
    return TextImages(
        kind=kind,
        images=stacked([image for image, _ in made]),
        words=tuple(tuple(words) for _, words in made),
        size=BODY,
        x_height=ink_height(load_font(font, BODY), "x"),
    )


def _poster(size: int, rng: random.Random, font: str | Path | None) -> tuple[Image.Image, list[Word]]:
    background, ink = colors(rng)
    image = Image.new("RGB", (size, size), background)
    draw = ImageDraw.Draw(image)
    title = load_font(font, max(BODY * 3 // 2, round(size * rng.uniform(0.14, 0.2))))
    body = load_font(font, max(BODY, round(size * 0.07)))
    words = [w for w in read_words("heldout") if title.getlength(w.upper()) <= size - 2 * MARGIN]
    y = float(rng.randint(MARGIN, max(MARGIN, size // 12)))
    found: list[Word] = []
    for line in range(2 if size >= 128 else 1):
        text = rng.choice(words).upper()
        x = (size - title.getlength(text)) / 2
        found.append(Word(text=text, box=draw_word(draw, x, y, text, title, ink), line=line))
        y += line_height(title)
    y += MARGIN
    draw.rectangle((0, int(y), size, int(y) + max(1, size // 32)), fill=ink)
    y += size // 32 + MARGIN
    limit = y + (2 if size >= 128 else 1) * line_height(body) + 1
    found += _running(draw, read_words("heldout"), body, ink, rng, (y, min(size, limit)), found[-1].line + 1)
    return image, found


def _document(size: int, rng: random.Random, font: str | Path | None) -> tuple[Image.Image, list[Word]]:
    paper = rng.randint(235, 255)
    image = Image.new("RGB", (size, size), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    words = read_words("heldout")
    ink = rng.randint(0, 40)
    lines = rng.randint(2, 8)
    body = load_font(font, BODY)
    area = (rng.uniform(MARGIN, 2 * MARGIN), min(size, 2 * MARGIN + lines * (line_height(body) + 1)))
    return image, _running(draw, words, body, (ink, ink, ink), rng, area, 0)


def _running(
    draw: ImageDraw.ImageDraw,
    words: list[str],
    face: Face,
    ink: Color,
    rng: random.Random,
    area: tuple[float, float],
    line: int,
) -> list[Word]:
    """Lines of words, a number now and then, from the top to the bottom of an area (pixels); never an empty line."""
    y, bottom = area
    blank, width = face.getlength(" "), draw.im.size[0] - 2 * MARGIN
    found: list[Word] = []
    while y + line_height(face) <= bottom:
        x = float(MARGIN)
        while True:
            room = MARGIN + width - x
            text = str(rng.randrange(10, 10_000)) if rng.random() < 0.15 else rng.choice(words)
            if face.getlength(text) > room and not any(face.getlength(w) <= room for w in words):
                break
            if face.getlength(text) > room:
                text = rng.choice([w for w in words if face.getlength(w) <= room])
            found.append(Word(text=text, box=draw_word(draw, x, y, text, face, ink), line=line))
            x += face.getlength(text) + blank
        y += line_height(face) + 1
        line += 1
    return found
