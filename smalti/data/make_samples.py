"""Makes the packaged samples from the held-out part of the prepared sources: `python -m smalti.data.make_samples`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

from smalti.data.emoji import ARTIST_SETS, NAMES, read_drawings, read_names
from smalti.data.folder import write_text
from smalti.data.packages import fetch
from smalti.data.photos import open_photo, read_photos, read_table
from smalti.data.rendered_text import FONTS, LICENSE, draw_words, read_font, read_words
from smalti.data.sample_images import FOLDER
from smalti.data.splits import is_unseen

SIDE = 256
EMOJI = {
    "fluent3d": ("1f308", "1f438", "1f9cb", "2603"),
    "noto": ("1f98b", "1f41a", "1f607", "26f5"),
    "twemoji": ("1f988", "1f3db", "1f36d", "1f9d9"),
}
PHOTOS = {
    "skimage/data/chelsea.png": (0.40, 0.45),
    "skimage/data/coffee.png": (0.45, 0.5),
    "sklearn/datasets/images/china.jpg": (0.35, 0.5),
    "./usr/share/libjxl-testdata/external/wesaturate/500px/tmshre_riaphotographs_srgb8.png": (0.5, 0.5),
    "./usr/share/backgrounds/picosdeeuropa_by_Aitzol_Berasategi.jpg": (0.5, 0.5),
}
"""Held-out photographs, and where the square crop sits (0 left or top, 1 right or bottom)."""
TEXTS = {"Lora": 14, "Caveat": 12, "Inter": 20}
"""Font family and the seed of the drawing."""


def make_samples(folder: Path = FOLDER) -> None:
    """Write the images and `metadata.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.png"), *folder.glob("*.jpg")):
        old.unlink()
    lines = [*_emoji(folder), *_photos(folder), *_texts(folder)]
    write_text(folder / "metadata.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _line(file: str, title: str, kind: str, source: str, **fields: str) -> dict[str, Any]:
    empty = {"file": file, "title": title, "kind": kind, "artist": "", "codepoint": "", "source": source}
    return {**empty, "license": "", "attribution": "", **fields}


def _emoji(folder: Path) -> list[dict[str, Any]]:
    names, lines = read_names(fetch(NAMES)), []
    for artist in ARTIST_SETS:
        chosen = EMOJI[artist.name]
        assert all(map(is_unseen, chosen))
        for codepoint, image in read_drawings(artist, fetch(artist.package), SIDE):
            if codepoint in chosen:
                file = f"emoji-{artist.name}-{codepoint}.png"
                image.save(folder / file, optimize=True)
                fields = {"artist": artist.name, "codepoint": codepoint, "license": artist.license}
                caption, label = names[codepoint].caption, artist.package.label
                lines.append(_line(file, caption, "emoji", label, attribution=artist.attribution, **fields))
    return sorted(lines, key=lambda line: line["file"])


def _photos(folder: Path) -> list[dict[str, Any]]:
    packages, photos = read_table()
    lines = []
    for key, package in packages.items():
        chosen = [photo for photo in photos if photo.package == key and photo.path in PHOTOS]
        assert all(photo.split == "heldout" for photo in chosen)
        for photo, content in read_photos(fetch(package), chosen) if chosen else ():
            image, (x, y) = open_photo(content, 512), PHOTOS[photo.path]
            side = min(image.size)
            left, top = round((image.width - side) * x), round((image.height - side) * y)
            crop = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            file = "photo-" + photo.title.replace(" ", "-").lower() + ".jpg"
            crop.save(folder / file, quality=95, subsampling=0)
            source = f"{package.label}/{photo.path}"
            lines.append(
                _line(file, photo.title, "photo", source, license=photo.license, attribution=photo.attribution)
            )
    return lines


def _texts(folder: Path) -> list[dict[str, Any]]:
    lines = []
    for family, seed in TEXTS.items():
        font = next(font for font in FONTS if font.family == family)
        rng = random.Random(f"smalti sample {seed}")
        text, image = draw_words(read_font(font, fetch(font.package))[0], read_words("heldout"), SIDE, rng)
        file = f"text-{family.lower()}.png"
        image.save(folder / file, optimize=True)
        fields = {"license": LICENSE, "attribution": f"set in {family} (OFL-1.1)"}
        lines.append(_line(file, text, "text", font.package.label, **fields))
    return lines


if __name__ == "__main__":
    make_samples()
