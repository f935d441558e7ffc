"""Rendered words in open fonts: what a tokenizer needs to keep letters legible.

A tenth of the words is held out; held-out images hold none of the training words, and the other way round.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageDraw, ImageFont

from smalti.data.folder import FolderWriter
from smalti.data.packages import Package, PackageError, fetch, read_members
from smalti.data.splits import fraction

WORDS = Path(__file__).with_name("words.txt")
TRAIN, HELDOUT = 3000, 200
HELDOUT_WORDS = 0.10
LICENSE = "OFL-1.1"


@dataclass(frozen=True, kw_only=True)
class Font:
    """One font family and the cuts of it that are used."""

    family: str
    """Family name, stored as `subclass`."""
    package: Package
    """Where the font files are."""
    cuts: tuple[str, ...]
    """File stems inside the package."""


def _font(family: str, slug: str, version: str, *cuts: str) -> Font:
    prefix = family.replace(" ", "")
    package = Package(registry="npm", name=f"@expo-google-fonts/{slug}", version=version)
    return Font(family=family, package=package, cuts=tuple(f"{prefix}_{cut}" for cut in cuts))


FONTS = (
    _font("Inter", "inter", "0.4.2", "400Regular", "700Bold"),
    _font("Nunito", "nunito", "0.4.2", "400Regular", "800ExtraBold"),
    _font("Lora", "lora", "0.4.2", "400Regular", "400Regular_Italic", "700Bold"),
    _font("EB Garamond", "eb-garamond", "0.4.3", "400Regular", "600SemiBold"),
    _font("Playfair Display", "playfair-display", "0.4.2", "400Regular", "900Black"),
    _font("Roboto Mono", "roboto-mono", "0.4.2", "400Regular", "600SemiBold"),
    _font("Caveat", "caveat", "0.4.2", "400Regular", "700Bold"),
    _font("Bebas Neue", "bebas-neue", "0.4.1", "400Regular"),
)


def prepare_text(
    out: Path, *, size: int = 96, seed: int = 0, source: Path | None = None, overwrite: bool = False
) -> Path:
    """Write the folder of rendered words: 3,000 training and 200 held-out images of `size` px."""
    fonts = [(font, read_font(font, fetch(font.package, source=source))) for font in FONTS]
    with FolderWriter(out, overwrite=overwrite) as writer:
        for split, count in (("train", TRAIN), ("heldout", HELDOUT)):
            words = read_words(split)
            for index in range(count):
                rng = random.Random(f"smalti text {seed} {split} {index}")
                font, cuts = rng.choice(fonts)
                text, image = draw_words(rng.choice(cuts), words, size, rng)
                writer.add(
                    f"{split}-{index:05d}", image, **{"class": "text"}, subclass=font.family, caption=text,
                    source=font.package.label, license=LICENSE, attribution=f"set in {font.family} (OFL-1.1)",
                    split_tokenizer=split,
                )  # fmt: skip
        packages = [font.package.label for font in FONTS]
        return writer.commit(name="text", size=size, seed=seed, packages=packages)


def read_words(split: str) -> list[str]:
    """The words of `train` or `heldout`; the two share none."""
    words = WORDS.read_text(encoding="utf-8").split()
    return [word for word in words if (fraction(word, "word") < HELDOUT_WORDS) == (split == "heldout")]


def read_font(font: Font, archive: Path) -> list[bytes]:
    """The font files of the cuts, in their order."""
    files = {PurePosixPath(name).stem: data for name, data in read_members(archive, lambda n: n.endswith(".ttf"))}
    missing = [cut for cut in font.cuts if cut not in files]
    if missing:
        raise PackageError(f"{archive.name} lacks the fonts {missing}; it holds {sorted(files)}.")
    return [files[cut] for cut in font.cuts]


def draw_words(font: bytes, words: list[str], size: int, rng: random.Random) -> tuple[str, Image.Image]:
    """(text, RGB image of `size` px): one to four lines, at least a tenth of `size` tall, never cut off."""
    lines = [_line(words, rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
    style = rng.choice((str.lower, str.lower, str.capitalize, str.upper))
    background, ink = colors(rng)
    align = rng.choice(("left", "center"))
    pixels = round(size * rng.uniform(0.12, 0.42))
    image = Image.new("RGB", (size, size), background)
    draw = ImageDraw.Draw(image)
    while True:
        text = "\n".join(style(line) for line in lines)
        cut = ImageFont.truetype(io.BytesIO(font), pixels, layout_engine=ImageFont.Layout.BASIC)
        left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=cut, align=align, spacing=pixels // 8)
        if right - left <= size * 0.94 and bottom - top <= size * 0.94:
            break
        if pixels > size * 0.10:
            pixels -= 1
        else:
            lines = _shorter(lines)
    x = rng.uniform(size * 0.03, size * 0.97 - (right - left)) - left
    y = rng.uniform(size * 0.03, size * 0.97 - (bottom - top)) - top
    draw.multiline_text((x, y), text, font=cut, fill=ink, align=align, spacing=pixels // 8)
    return text.replace("\n", " "), image


def _shorter(lines: list[str]) -> list[str]:
    """One word less, from the longest line that has several; then one line less."""
    longest = max(range(len(lines)), key=lambda i: (len(lines[i].split()) > 1, len(lines[i])))
    if " " in lines[longest]:
        return [line.rsplit(" ", 1)[0] if i == longest else line for i, line in enumerate(lines)]
    assert len(lines) > 1, f"{lines[0]!r} does not fit at the smallest size"
    return lines[:-1]


def _line(words: list[str], rng: random.Random) -> str:
    parts = [rng.choice(words) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    if rng.random() < 0.2:
        parts.append(str(rng.randrange(10, 10_000)))
    return " ".join(parts) + rng.choice(("", "", "", "", ".", "!", "?", ","))


def colors(rng: random.Random) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(background, ink): white, light, tinted or dark, with at least 110 of 255 between their lumas."""
    kind = rng.random()
    while True:
        if kind < 0.35:
            background = (255, 255, 255)
        else:
            low, high = (225, 255) if kind < 0.55 else (60, 235) if kind < 0.8 else (0, 60)
            background = (rng.randint(low, high), rng.randint(low, high), rng.randint(low, high))
        if rng.random() < 0.5:
            grey = rng.randint(0, 40) if luma(background) > 128 else rng.randint(215, 255)
            ink = (grey, grey, grey)
        else:
            ink = (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))
        if abs(luma(background) - luma(ink)) >= 110:
            return background, ink


def luma(color: tuple[int, ...]) -> float:
    """Rec. 601 luma in 0..255."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
