"""Emoji of three artists from npm packages: one RGB image on white per (artist, code point), named and classified.

Names, groups and keywords: emojibase (Unicode CLDR). Skin-tone variants and component emoji are left out.
"""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from smalti.data.folder import FolderWriter
from smalti.data.packages import Package, PackageError, fetch, read_members
from smalti.data.splits import base_codepoint, emoji_splits, has_skin_tone

NAMES = Package(registry="npm", name="emojibase-data", version="17.0.0")
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
MAX_SOURCE_PIXELS = 4096 * 4096


@dataclass(frozen=True, kw_only=True)
class Artist:
    """One set of drawings."""

    name: str
    """Short name, used in file names and captions."""
    package: Package
    """Where the drawings are."""
    license: str
    """SPDX name of the license of the artwork."""
    attribution: str
    """Who is to be named."""


FLUENT3D = Artist(
    name="fluent3d",
    package=Package(registry="npm", name="@lobehub/fluent-emoji-3d", version="1.1.0"),
    license="MIT",
    attribution="Fluent Emoji (3D), Microsoft Corporation; packaged by LobeHub",
)
NOTO = Artist(
    name="noto",
    package=Package(registry="npm", name="@svgmoji/noto", version="3.2.0"),
    license="Apache-2.0",
    attribution="Noto Emoji, Google LLC; packaged by svgmoji",
)
TWEMOJI = Artist(
    name="twemoji",
    package=Package(registry="npm", name="@twemoji/svg", version="15.0.0"),
    license="CC-BY-4.0",
    attribution="Twemoji, Twitter, Inc and other contributors; packaged by jdecked/twemoji",
)
ARTIST_SETS = (FLUENT3D, NOTO, TWEMOJI)


@dataclass(frozen=True, kw_only=True)
class Name:
    """What one emoji is called."""

    caption: str
    """Plain words, such as `red apple`."""
    group: str
    """One of nine categories, such as `food-drink`."""
    subgroup: str
    """One of about a hundred subcategories, such as `food-fruit`."""
    keywords: tuple[str, ...]
    """Further words."""


def prepare_emoji(out: Path, *, size: int = 96, source: Path | None = None, overwrite: bool = False) -> Path:
    """Write the emoji folder: `size` px RGB on white, splits as in `smalti.data.splits`."""
    names = read_names(fetch(NAMES, source=source))
    drawings: dict[str, dict[str, Image.Image]] = defaultdict(dict)
    for artist in ARTIST_SETS:
        for codepoint, image in read_drawings(artist, fetch(artist.package, source=source), size):
            if codepoint in names:
                drawings[codepoint][artist.name] = image
    with FolderWriter(out, overwrite=overwrite) as writer:
        for codepoint, images in sorted(drawings.items()):
            for artist in ARTIST_SETS:
                if artist.name in images:
                    fields = describe(artist, codepoint, names[codepoint], images)
                    writer.add(f"{artist.name}-{codepoint}", images[artist.name], **fields)
        packages = [NAMES.label, *(artist.package.label for artist in ARTIST_SETS)]
        return writer.commit(name="emoji", size=size, packages=packages)


def describe(artist: Artist, codepoint: str, name: Name, artists: dict[str, Image.Image]) -> dict[str, Any]:
    """The metadata fields of one drawing."""
    tokenizer, generator = emoji_splits(codepoint, artist.name, artists)
    return {
        "artist": artist.name, "source": artist.package.label, "class": name.group, "subclass": name.subgroup,
        "caption": name.caption, "keywords": list(name.keywords), "codepoint": codepoint, "license": artist.license,
        "attribution": artist.attribution, "split_tokenizer": tokenizer, "split_generator": generator,
    }  # fmt: skip


def read_names(archive: Path) -> dict[str, Name]:
    """Base code point -> Name, from emojibase's English table."""
    files = dict(read_members(archive, lambda n: n.endswith(("/en/data.json", "/meta/groups.json"))))
    tables = {PurePosixPath(name).name: json.loads(content) for name, content in files.items()}
    if set(tables) != {"data.json", "groups.json"}:
        raise PackageError(f"{archive.name} holds {sorted(tables)}, expected en/data.json and meta/groups.json.")
    groups, subgroups = tables["groups.json"]["groups"], tables["groups.json"]["subgroups"]
    names = {}
    for entry in tables["data.json"]:
        group = groups.get(str(entry.get("group")))
        if group is None or group == "component":
            continue
        names[base_codepoint(entry["hexcode"])] = Name(
            caption=entry["label"].replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"'),
            group=group,
            subgroup=subgroups[str(entry["subgroup"])],
            keywords=tuple(entry.get("tags", ())),
        )
    return names


def read_drawings(artist: Artist, archive: Path, size: int) -> Iterator[tuple[str, Image.Image]]:
    """Yield (base code point, RGB image on white) for every drawing without skin tone."""
    suffix = {"fluent3d": ".webp", "noto": "/sprites/all.svg", "twemoji": ".svg"}[artist.name]
    for name, content in read_members(archive, lambda n: n.endswith(suffix)):
        if artist.name == "noto":
            yield from read_sprite(content, size)
            continue
        stem = PurePosixPath(name).stem
        if not has_skin_tone(stem):
            image = open_bitmap(content) if suffix == ".webp" else rasterize(content.decode("utf-8"), size)
            yield base_codepoint(stem), on_white(image, size)


def read_sprite(content: bytes, size: int) -> Iterator[tuple[str, Image.Image]]:
    """Split one SVG whose child <svg id="1F34E"> are the drawings."""
    if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise PackageError("the SVG sprite declares entities; refused.")
    ElementTree.register_namespace("", SVG_NAMESPACE)
    for child in ElementTree.fromstring(content):
        name = child.get("id", "")
        if child.tag.endswith("svg") and name and not has_skin_tone(name):
            yield base_codepoint(name), on_white(rasterize(ElementTree.tostring(child, encoding="unicode"), size), size)


def rasterize(svg: str, size: int) -> Image.Image:
    """Render an SVG so that its longer side is `size` px. Needs `resvg-py` (extra `[train]`)."""
    try:
        import resvg_py
    except ImportError as error:
        raise PackageError("SVG emoji need resvg-py: pip install 'smalti[train]', or pip install resvg-py.") from error
    box = [float(x) for x in ElementTree.fromstring(svg).get("viewBox", "0 0 1 1").replace(",", " ").split()]
    width, height = (size, None) if box[2] >= box[3] else (None, size)
    # One flag holds text: without the machine's own fonts every machine draws the same pixels.
    content = resvg_py.svg_to_bytes(svg_string=svg, width=width, height=height, skip_system_fonts=True)
    return open_bitmap(bytes(content))


def open_bitmap(content: bytes) -> Image.Image:
    """Decode one bitmap of at most MAX_SOURCE_PIXELS as RGBA."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_SOURCE_PIXELS:
                raise PackageError(f"an emoji bitmap has {image.width} x {image.height} px; refused.")
            return image.convert("RGBA")
    except (OSError, Image.DecompressionBombError) as error:
        raise PackageError(f"an emoji bitmap cannot be read: {error}") from error


def on_white(image: Image.Image, size: int) -> Image.Image:
    """Fit into `size` x `size` (Lanczos, premultiplied alpha), centered on white."""
    scale = size / max(image.size)
    shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if shape != image.size:
        image = image.convert("RGBa").resize(shape, Image.Resampling.LANCZOS).convert("RGBA")
    canvas = Image.new("RGBA", (size, size), "white")
    canvas.alpha_composite(image, ((size - shape[0]) // 2, (size - shape[1]) // 2))
    return canvas.convert("RGB")
