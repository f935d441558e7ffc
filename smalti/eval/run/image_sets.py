"""Images that are scored as a set: a folder, or an .npz file of ADM's layout; read chunk by chunk as 8-bit values.

Shape suffixes: B batch, H W pixels.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from smalti.eval.inception_resize import Uint8Rule, quantize
from smalti.eval.npz import read_labels, read_samples, sample_shape
from smalti.eval.run.sources import Source

NO_LABEL = -1


@dataclass(frozen=True, kw_only=True)
class Part:
    """The images of one chunk that could be read, ordered by size."""

    names: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    """sha256 of the files of a folder; empty for an .npz file, which has one of its own."""
    labels: list[int] = field(default_factory=list)
    """Class of every image; -1 = not known."""
    batches: list[Tensor] = field(default_factory=list)
    """uint8 [B, 3, H, W], each of one size, together in the order of the names."""
    skipped: list[dict[str, str]] = field(default_factory=list)


class ImageSet(Protocol):
    """Images in a fixed order. Chunks must be asked for in ascending order."""

    name: str
    identity: dict[str, object]
    """What an unfinished run is recognized by."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def chunk(self, i: int, size: int) -> Part:
        """Images i size .. (i + 1) size."""
        ...


class FolderSet:
    """Image files; `prepare` is applied to each, [1, 3, H, W] in [0, 1], before it is cut to 8 bits by `rule`."""

    def __init__(
        self, source: Source, *, rule: Uint8Rule = "round", prepare: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.source, self.name, self._prepare = source, source.name, prepare
        self._rule: Uint8Rule = rule
        self.identity: dict[str, object] = {"files": list(source.names)}

    def __len__(self) -> int:
        return len(self.source)

    def chunk(self, i: int, size: int) -> Part:
        """A file that cannot be read is left out, with its reason."""
        part, read = Part(), []
        for k in range(i * size, min((i + 1) * size, len(self.source))):
            try:
                image = self.source.read(k)
                read.append((k, quantize(image if self._prepare is None else self._prepare(image), self._rule).cpu()))
            except (ValueError, OSError) as error:
                part.skipped.append({"what": self.source.names[k], "reason": str(error)})
        read.sort(key=lambda item: (tuple(item[1].shape), item[0]))
        for _, group in groupby(read, key=lambda item: item[1].shape):
            part.batches.append(torch.cat([image for _, image in group]))
        part.names.extend(self.source.names[k] for k, _ in read)
        part.digests.extend(self.source.digest(k) for k, _ in read)
        part.labels.extend(label_of(self.source.names[k]) for k, _ in read)
        return part


class NpzSet:
    """Images of the array `arr_0`, classes of `arr_1`. Errors: as `read_samples`; ValueError for an empty array."""

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self.path, self.name = path, f"file {path.name}"
        count = sample_shape(path)[0]
        self._count = count if limit is None else min(limit, count)
        if not self._count:
            raise ValueError(f"{path} holds no images")
        labels = read_labels(path)
        if labels is not None and len(labels) != count:
            raise ValueError(f"{path} holds {count} images but {len(labels)} classes: arr_1 must have one per image")
        self._labels = labels
        self.identity: dict[str, object] = {"sha256": file_digest(path)}
        self._stream: Iterator[Tensor] = iter(())
        self._next, self._size = 0, 0

    def __len__(self) -> int:
        return self._count

    def chunk(self, i: int, size: int) -> Part:
        """Chunks that were not asked for are read over."""
        if size != self._size or i < self._next:
            self._stream, self._next, self._size = read_samples(self.path, batch=size), 0, size
        while self._next < i:
            next(self._stream)
            self._next += 1
        images = next(self._stream)[: self._count - i * size]
        self._next += 1
        numbers = range(i * size, i * size + len(images))
        labels = [NO_LABEL] * len(images) if self._labels is None else self._labels[list(numbers)].tolist()
        return Part(names=[f"{k:06d}" for k in numbers], labels=labels, batches=[images])


def label_of(name: str) -> int:
    """The class in a file name such as "000012-class3.png", as our own samples are named; -1 without one.

    >>> label_of("000012-class3.png"), label_of("photo.jpg")
    (3, -1)
    """
    match = re.search(r"-class(\d+)\.\w+$", name)
    return int(match[1]) if match else NO_LABEL


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
