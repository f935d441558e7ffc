"""ImageBank: all training images as uint8 on the training device, batches made there.

A bank is one file, `bank.safetensors`: the compressed images in one byte tensor, what they show in the header. It is
all the data a machine without network needs. `batch` is a pure function of (seed, step, rank): no loader, no state,
and a run that resumes sees the images it would have seen.

Shape suffixes: N images of the bank, B batch, S stored side.
"""

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from smalti.data.augment import AUGMENT, resize_exactly
from smalti.data.counter import generator_at, seed_of
from smalti.data.folder import read_metadata
from smalti.files import read_tensors, write_tensors
from smalti.images import Resize

FORMAT = "smalti-bank/1"
SOURCES = ("emoji", "photos", "text")
MAX_FILE_PIXELS = 4_000_000
DEFAULT_MIX = {"emoji": 0.7, "photos": 0.15, "text": 0.15}

Split = Literal["train", "heldout", "pair"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """What one image of the bank shows."""

    source: str
    """emoji, photos or text."""
    artist: str = ""
    """Who drew it (emoji)."""
    category: str = ""
    """One of nine (emoji); photo, text."""
    subcategory: str = ""
    """One of about a hundred (emoji)."""
    caption: str = ""
    """Plain words."""
    keywords: tuple[str, ...] = ()
    """Further words."""
    codepoint: str = ""
    """Which emoji, without skin tone."""
    split_tokenizer: str = "train"
    """train, heldout or pair."""
    split_generator: str = ""
    """train, pair or unseen; empty for what no generator learns."""


_NAMES = {"category": "class", "subcategory": "subclass"}


def _item(source: str, line: Mapping[str, Any]) -> Item:
    """An item from a line of `metadata.jsonl`."""
    values = {f.name: line[_NAMES.get(f.name, f.name)] for f in fields(Item) if f.name != "source"}
    return Item(source=source, **{**values, "keywords": tuple(values["keywords"])})


@dataclass(frozen=True, kw_only=True)
class PackSettings:
    """How `pack` stores images."""

    photo_quality: int = 95
    """WebP quality of photographs; crops are cut and mostly shrunk from them later. Emoji and text are lossless."""
    workers: int = os.cpu_count() or 1
    """Threads."""


def pack(folders: Mapping[str, Path], out: Path, settings: PackSettings = PackSettings()) -> Path:
    """Writes prepared folders (emoji, photos, text) into one bank file.

    Errors: ValueError for a source nobody knows, FileNotFoundError for a folder that is not prepared.
    """
    unknown = sorted(set(folders) - set(SOURCES))
    if unknown or not folders:
        raise ValueError(f"a bank holds {', '.join(SOURCES)}; got {', '.join(unknown) or 'no folder'}")
    items, paths = [], []
    for source, folder in folders.items():
        for line in read_metadata(Path(folder)):
            items.append(_item(source, line))
            paths.append(Path(folder) / line["file"])
    with ThreadPoolExecutor(settings.workers) as pool:
        blobs = list(pool.map(lambda i: _compress(paths[i], items[i].source, settings), range(len(items))))
    offsets = torch.from_numpy(np.cumsum([0, *map(len, blobs)]))
    data = torch.frombuffer(bytearray(b"".join(blobs)), dtype=torch.uint8)
    lines = [{k: v for k, v in asdict(item).items() if v} for item in items]
    header = {"format": FORMAT, "items": json.dumps(lines, ensure_ascii=False)}
    write_tensors(out, {"data": data, "offsets": offsets}, header)
    return out


def _compress(path: Path, source: str, settings: PackSettings) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        if source == "photos":
            image.convert("RGB").save(buffer, "WEBP", quality=settings.photo_quality, method=4)
        else:
            image.convert("RGB").save(buffer, "WEBP", lossless=True, quality=80, method=4)
    return buffer.getvalue()


def read_pack(path: Path) -> tuple[list[Item], list[bytes]]:
    """Items and compressed images of a bank file. Errors: ValueError for another kind of file."""
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT or set(tensors) != {"data", "offsets"}:
        raise ValueError(f"{path} is not a bank ({FORMAT}): make one with `smalti data pack --out {path.name}`")
    offsets, data = tensors["offsets"].tolist(), tensors["data"].numpy()
    blobs = [data[a:b].tobytes() for a, b in pairwise(offsets)]
    lines = json.loads(header["items"])
    if len(lines) != len(blobs):
        raise ValueError(f"{path} names {len(lines)} images and holds {len(blobs)}: it is damaged, pack it again")
    return [Item(**{**line, "keywords": tuple(line.get("keywords", ()))}) for line in lines], blobs


def _decode(blob: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(blob)) as image:
        if image.width * image.height > MAX_FILE_PIXELS:
            raise ValueError(f"an image of the bank has {image.width}x{image.height} pixels; at most {MAX_FILE_PIXELS}")
        return np.array(image.convert("RGB"))


def _crops(photo: np.ndarray, count: int, side: int, seed: int) -> np.ndarray:
    """uint8 [count, side, side, 3]: random square crops, sides log-uniform from `side` to the photo's shorter side."""
    rng = np.random.default_rng(seed)
    image, short = Image.fromarray(photo), min(photo.shape[:2])
    cuts = []
    for _ in range(count):
        crop = round(side * (max(short, side) / side) ** rng.random())
        left = rng.integers(0, max(photo.shape[1] - crop, 0) + 1)
        top = rng.integers(0, max(photo.shape[0] - crop, 0) + 1)
        box = (left, top, left + crop, top + crop)
        cuts.append(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box)))
    return np.stack(cuts)


class ImageBank:
    """Images uint8 [N, 3, S, S] on a device, and what they show."""

    def __init__(self, images: Tensor, items: Sequence[Item], *, seed: int = 0, size: int = 64) -> None:
        """`size`: side of the images that `batch` gives, pixels."""
        assert images.dtype == torch.uint8, "images are kept as bytes"
        assert images.shape[0] == len(items), "one item per image"
        self.images, self.items, self.seed, self.size = images, tuple(items), seed, size
        self.resize = Resize()
        self._train = {source: self.indices(source, "train").to(images.device) for source in SOURCES}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        size: int = 64,
        crops: int = 64,
        heldout_crops: int = 12,
        side: int = 96,
        workers: int | None = None,
        sources: Iterable[str] = SOURCES,
        keep: Callable[[Item], bool] = lambda item: True,
    ) -> "ImageBank":
        """Decodes a bank file in parallel threads and cuts `crops` squares from every photograph.

        Errors: FileNotFoundError, or ValueError for a file that is not a bank.
        """
        items, blobs = read_pack(Path(path))
        wanted = [i for i, item in enumerate(items) if item.source in set(sources) and keep(item)]

        def pixels(i: int) -> np.ndarray:
            image = _decode(blobs[i])
            if items[i].source != "photos":
                return image[None] if image.shape[:2] == (side, side) else _square(image, side)[None]
            count = crops if items[i].split_tokenizer == "train" else heldout_crops
            return _crops(image, count, side, seed_of(seed, "crop", items[i].caption))

        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            parts = list(pool.map(pixels, wanted))
        if not parts:
            raise ValueError(f"{path} holds no image of {', '.join(sources)}")
        stacked = torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()
        kept = [items[i] for i, part in zip(wanted, parts, strict=True) for _ in range(len(part))]
        return cls(stacked.to(device), kept, seed=seed, size=size)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def indices(self, source: str, split: str, *, role: Literal["tokenizer", "generator"] = "tokenizer") -> Tensor:
        """int64 [n]: images of one source in one split of the tokenizer or the generator."""
        name = f"split_{role}"
        return torch.tensor(
            [i for i, x in enumerate(self.items) if x.source == source and getattr(x, name) == split]
        ).long()

    def exact(self, indices: Tensor) -> Tensor:
        """float [B, 3, size, size] in [0, 1]: images as evaluation sees them, not augmented."""
        return resize_exactly(self.images[indices.to(self.device)], self.size, self.resize)

    def counts(self, size: int, mix: Mapping[str, float]) -> dict[str, int]:
        """How many images of a batch come from each source: the mix rounded, the rest from the first source."""
        present = {s: w for s, w in mix.items() if w > 0}
        empty = [s for s in present if s not in self._train or not len(self._train[s])]
        if empty or not present:
            raise ValueError(
                f"the mix asks for {', '.join(empty) or 'nothing'}, of which the bank has no training images"
            )
        total = sum(present.values())
        shares = {s: int(size * w / total) for s, w in present.items()}
        first = next(iter(present))
        return {**shares, first: shares[first] + size - sum(shares.values())}

    def batch(
        self, step: int, size: int, *, mix: Mapping[str, float] = DEFAULT_MIX, exact: float = 0.4, rank: int = 0
    ) -> Tensor:
        """float [size, 3, s, s] in [0, 1]: a pure function of (seed, step, rank).

        `exact`: share of the images of every source that is not augmented but resized as for evaluation.
        """
        parts = []
        for source, count in self.counts(size, mix).items():
            if not count:
                continue
            rng = generator_at(self.seed, "images", source, step, rank)
            pool = self._train[source]
            drawn = pool[torch.randint(len(pool), (count,), generator=rng).to(self.device)]
            plain = round(count * exact)
            if plain:
                parts.append(self.exact(drawn[:plain]))
            if plain < count:
                parts.append(AUGMENT[source](self.images[drawn[plain:]], self.size, rng))
        return torch.cat(parts)

    def batches(self, indices: Tensor, size: int) -> Iterator[Tensor]:
        """Exact images of `indices`, `size` at a time."""
        for start in range(0, len(indices), size):
            yield self.exact(indices[start : start + size])


def _square(image: np.ndarray, side: int) -> np.ndarray:
    """Center crop and resample to `side`."""
    short = min(image.shape[:2])
    top, left = (image.shape[0] - short) // 2, (image.shape[1] - short) // 2
    box = (left, top, left + short, top + short)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC, box=box))
