"""What the chunks of a run say together, read back one at a time; of each only what is asked for.

Memory grows with the number of images by their names and hashes and by one float64 per image and metric.

Shape suffixes: B batch, N images, D features, R rings, C latent channels, K codes of a channel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smalti.eval.detail.frc import RingSums
from smalti.eval.run.chunks import Chunk, ChunkStore
from smalti.eval.run.result import Skip
from smalti.eval.run.subjects import Subject
from smalti.eval.stopwatch import Stopwatch
from smalti.eval.tasks.reconstruction import SHARED
from smalti.tokens import TokenLayout, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """What all chunks together say of one row."""

    names: list[str]
    columns: dict[str, Tensor]
    """float64 [N]; NaN for an image whose size has no such metric."""
    rings: RingSums | None
    code_counts: Tensor | None
    """int64 [C, K], of rounded latents."""
    times: Stopwatch
    """Of this row, and of reading and encoding where they are part of it."""


def gather(subject: Subject, store: ChunkStore, count: int) -> tuple[dict[str, Gathered], list[Skip], list[str]]:
    """Columns of every row over all chunks, skipped images, hashes of the files that were read."""
    rows = {row.key: _Sums() for row in subject.rows()}
    shared = Stopwatch()
    names, digests, skipped = [], [], []
    for chunk in store.all(count, lambda name: not name.endswith("|features") and not name.startswith("tokens|")):
        names += chunk.facts["names"]
        digests += chunk.facts["digests"]
        skipped += [Skip(**s) for s in chunk.facts["skipped"]]
        shared.merge(chunk.facts["times"][SHARED])
        for key, sums in rows.items():
            sums.add(_part(chunk, key), chunk.facts["times"].get(key, {}), len(chunk.facts["names"]))
    found = {key: sums.gathered(names, shared) for key, sums in rows.items() if names}
    return found, skipped, digests


class _Sums:
    """One row, chunk by chunk."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Tensor]] = {}
        self.rings: RingSums | None = None
        self.code_counts: Tensor | None = None
        self.times = Stopwatch()
        self.images = 0

    def add(self, part: dict[str, Tensor], times: dict[str, list[float]], images: int) -> None:
        self.times.merge(times)
        if "rings" in part:
            self.rings = _added(self.rings, part["rings"], part["ring_counts"][0])
        if "code_counts" in part:
            counts = part["code_counts"].sum(dim=0)
            self.code_counts = counts if self.code_counts is None else self.code_counts + counts
        new = {name: column.clone() for name, column in part.items() if column.ndim == 1}  # views keep files mapped
        for name in new.keys() - self.columns.keys():
            self.columns[name] = [_missing(self.images)]
        for name, parts in self.columns.items():
            parts.append(new.get(name, _missing(images)))
        self.images += images

    def gathered(self, names: list[str], shared: Stopwatch) -> Gathered:
        times = Stopwatch(shared.sums)
        if "code" in self.times.sums:  # a codec is not encoded by the tokenizer
            times = Stopwatch({"read": shared.sums["read"]})
        own = Stopwatch(times.sums | self.times.sums)
        return Gathered(
            names=names,
            columns={name: torch.cat(parts) for name, parts in self.columns.items()},
            rings=self.rings,
            code_counts=self.code_counts,
            times=own,
        )


def feature_batches(store: ChunkStore, count: int, key: str) -> Iterator[Tensor]:
    """Inception features float32 [B, D] of a row, or of the originals (key SOURCE), chunk by chunk."""
    wanted = f"{key}|features"
    for chunk in store.all(count, wanted.__eq__):
        if wanted in chunk.tensors:
            yield chunk.tensors[wanted]


def token_batches(store: ChunkStore, count: int) -> Iterator[tuple[Tokens, tuple[int, int]]]:
    """Tokens of all images with their image size. Errors: ValueError if images of one run have several layouts."""
    first: dict[str, Any] | None = None
    for chunk in store.all(count, lambda name: name.startswith("tokens|")):
        if "tokens|ids" not in chunk.tensors:
            continue
        first = first or chunk.facts["layout"]
        if chunk.facts["layout"] != first or chunk.facts.get("mixed_layouts"):
            raise ValueError("images of different sizes have different token layouts: their statistics do not add up")
        tensors = chunk.tensors
        layout = TokenLayout.from_dict(chunk.facts["layout"])
        tokens = Tokens(layout=layout, ids=tensors["tokens|ids"], lengths=tensors["tokens|lengths"])
        height, width = chunk.facts["size"]
        yield tokens, (height, width)


def _part(chunk: Chunk, key: str) -> dict[str, Tensor]:
    start = f"{key}|"
    return {name.removeprefix(start): value for name, value in chunk.tensors.items() if name.startswith(start)}


def _missing(images: int) -> Tensor:
    return torch.full((images,), torch.nan, dtype=torch.float64)


def _added(before: RingSums | None, rings_B3R: Tensor, counts_R: Tensor) -> RingSums:
    """Sums with those of one chunk, one row a size of its images."""
    cross, reference, image = rings_B3R.sum(dim=0)
    if before is not None:
        cross, reference, image = before.cross + cross, before.reference + reference, before.image + image
    return RingSums(cross=cross, reference=reference, image=image, count=counts_R.long())
