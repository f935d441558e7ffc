"""Finished parts of a task, kept in a folder so that a killed run goes on after the last of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from smalti.eval.detail.result import Curve, Part, Picture, Quantity, Skipped
from smalti.eval.run.chunks import Chunk, ChunkStore

VALUES = ("x", "y", "low", "high")
"""Fields of a curve that JSON gives back as lists."""


class PartStore:
    """Parts by name, each in one file with its pictures; a run with other settings cannot go on in the folder."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], names: Sequence[str]) -> None:
        """`settings`: everything that changes a number; `names`: all parts. Errors: as `ChunkStore`."""
        self._chunks = ChunkStore(folder, {**settings, "parts": list(names)})
        self._names = list(names)

    def part(self, name: str, make: Callable[[], Part]) -> Part:
        """The part of a name: what was kept of it, else what `make` gives, once it is kept."""
        i = self._names.index(name)
        if not self._chunks.has(i):
            self._chunks.write(i, _chunk(make()))
        return _part(self._chunks.read(i))  # also after writing: a run that was killed and one that was not agree


def _chunk(part: Part) -> Chunk:
    """Floats survive: JSON holds the shortest text that reads back as the same float64, tensors their bits."""
    tensors: dict[str, Tensor] = {}
    for i, picture in enumerate(part.pictures):
        tensors |= {f"{i}/original": picture.original, f"{i}/reconstruction": picture.reconstruction}
    return Chunk(
        tensors=tensors,
        facts={
            "quantities": [asdict(q) for q in part.quantities],
            "curves": [asdict(c) for c in part.curves],
            "pictures": [{"name": p.name, "title": p.title} for p in part.pictures],
            "skipped": [asdict(s) for s in part.skipped],
            "images": part.images,
        },
    )


def _part(chunk: Chunk) -> Part:
    facts, tensors = chunk.facts, chunk.tensors
    return Part(
        quantities=tuple(Quantity(**q) for q in facts["quantities"]),
        curves=tuple(Curve(**c | {name: tuple(c[name]) for name in VALUES}) for c in facts["curves"]),
        pictures=tuple(
            Picture(**p, original=tensors[f"{i}/original"], reconstruction=tensors[f"{i}/reconstruction"])
            for i, p in enumerate(facts["pictures"])
        ),
        skipped=tuple(Skipped(**s) for s in facts["skipped"]),
        images=facts["images"],
    )
