"""The working files of a run: one per chunk of images, written whole or not at all.

A killed run starts again with the first chunk that is missing; results are made from the chunks in their order, so they
do not depend on where it was killed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from smalti.files import read_tensors, write_json, write_tensors


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """What one chunk of images gave."""

    tensors: dict[str, Tensor]
    """Columns, features and sums by name."""
    facts: dict[str, Any]
    """Plain data: names, hashes, skipped images, seconds."""


class ChunkStore:
    """Chunks of one subject in a folder; a run with other settings cannot go on in it."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """`settings`: everything that changes a number. Errors: ValueError if the folder holds another run's chunks."""
        self.folder, self._plan = folder, folder / "settings.json"
        plain = json.loads(json.dumps(settings, sort_keys=True, default=str))
        if self._plan.exists() and json.loads(self._plan.read_text(encoding="utf-8")) != plain:
            raise ValueError(
                f"{folder} holds an unfinished run with other settings: finish that one with its own command, or give "
                "another --out"
            )
        write_json(self._plan, plain)

    def _path(self, i: int) -> Path:
        return self.folder / f"chunk-{i:06d}.safetensors"

    def has(self, i: int) -> bool:
        """True if chunk i is there; a damaged one counts as missing."""
        try:
            self.read(i)
        except (FileNotFoundError, ValueError, KeyError):
            return False
        return True

    def write(self, i: int, chunk: Chunk) -> None:
        """Keeps chunk i."""
        write_tensors(self._path(i), chunk.tensors, {"facts": json.dumps(chunk.facts)})

    def read(self, i: int, wanted: Callable[[str], bool] | None = None) -> Chunk:
        """Chunk i, all its tensors or those of the names that are `wanted`."""
        tensors, metadata = read_tensors(self._path(i), wanted)
        return Chunk(tensors=tensors, facts=json.loads(metadata["facts"]))

    def all(self, count: int, wanted: Callable[[str], bool] | None = None) -> Iterator[Chunk]:
        """The first `count` chunks, one in memory at a time: clone a tensor that is kept, it is a view of its file."""
        for i in range(count):
            yield self.read(i, wanted)

    def discard(self) -> None:
        """Deletes the working files, once the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Short name of a set of settings, for folder names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
