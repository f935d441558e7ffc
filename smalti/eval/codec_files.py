"""Files of common image codecs in memory, and how many of their bytes are picture rather than header."""

import io
import struct
from typing import Literal

from PIL import Image, features
from torch import Tensor

from smalti.images import read_images, to_pil

Format = Literal["JPEG", "WebP", "AVIF"]
FORMATS: dict[Format, tuple[int, int]] = {"JPEG": (1, 95), "WebP": (0, 100), "AVIF": (0, 100)}
"""Lowest and highest quality of Pillow's encoders."""
_MODULE = {"JPEG": "jpg", "WebP": "webp", "AVIF": "avif"}
_OPTIONS = {"JPEG": {"subsampling": "4:2:0"}, "WebP": {"method": 4}, "AVIF": {"speed": 6, "max_threads": 1}}


def available(kind: Format) -> bool:
    """True if this Pillow writes the format."""
    return bool(features.check(_MODULE[kind]))


def encode(image: Tensor, kind: Format, quality: int) -> bytes:
    """One image [1, 3, H, W] in [0, 1] as a file. Errors: ImportError if this Pillow was built without the format."""
    if not available(kind):
        raise ImportError(f"this Pillow was built without {kind}: pip install --upgrade pillow")
    file = io.BytesIO()
    to_pil(image).save(file, kind.upper(), quality=quality, **_OPTIONS[kind])
    return file.getvalue()


def decode(file: bytes) -> Tensor:
    """float32 [1, 3, H, W] in [0, 1]."""
    with Image.open(io.BytesIO(file)) as image:
        return read_images(image)


def payload_bytes(file: bytes, kind: Format) -> int:
    """Bytes of entropy-coded picture data.

    JPEG: the scans between their SOS headers and the next marker, with Pillow's standard Huffman tables, so that the
    rest is the same for all images of a size and quality; WebP: the VP8 chunk; AVIF: the contents of the mdat box.
    """
    if kind == "JPEG":
        return _jpeg_scans(file)
    return _webp_chunk(file) if kind == "WebP" else _avif_mdat(file)


def _jpeg_scans(file: bytes) -> int:
    at, total = 2, 0
    while at < len(file):
        marker = file[at + 1]
        if marker == 0xD9:
            break
        at += 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        if marker != 0xDA:
            continue
        start = at
        while not (file[at] == 0xFF and file[at + 1] not in (0x00, *range(0xD0, 0xD8))):
            at += 1
        total += at - start
    return total


def _webp_chunk(file: bytes) -> int:
    at, total = 12, 0
    while at < len(file):
        size = struct.unpack("<I", file[at + 4 : at + 8])[0]
        if file[at : at + 4] in (b"VP8 ", b"VP8L"):
            total += size
        at += 8 + size + size % 2
    return total


def _avif_mdat(file: bytes) -> int:
    at, total = 0, 0
    while at < len(file):
        size, kind = struct.unpack(">I4s", file[at : at + 8])
        size = size or len(file) - at
        if kind == b"mdat":
            total += size - 8
        at += size
    return total
