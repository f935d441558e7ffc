"""VTBench's published splits as sources of images: from a local copy of the dataset, as folders or parquet shards."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from PIL import Image
from torch import Tensor

from smalti.eval.run.sources import SUFFIXES, Source
from smalti.images import read_images

REPOSITORY = "huaweilin/VTBench"
Task = Literal["reconstruction", "detail", "text"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of the dataset."""

    task: Task
    config: str
    split: str
    label: str
    """What rows of a result carry."""
    script: str = "latin"


SPLITS = (
    Split(task="reconstruction", config="task1-imagenet", split="val", label="task1-imagenet"),
    Split(task="reconstruction", config="task1-high-resolution", split="test", label="task1-high-resolution"),
    Split(task="reconstruction", config="task1-varying-resolution", split="test", label="task1-varying-resolution"),
    Split(task="detail", config="task2-detail-preservation", split="test", label="task2-detail-preservation"),
    Split(task="text", config="task3-movie-posters", split="test", label="task3-movie-posters"),
    Split(task="text", config="task3-arxiv-abstracts", split="test", label="task3-arxiv-abstracts"),
    *(
        Split(
            task="text",
            config="task3-multilingual",
            split=language,
            label=f"task3-multilingual/{language}",
            script=language.lower(),
        )
        for language in ("Chinese", "Hindi", "Japanese", "Korean")
    ),
)
"""The seven configurations of the dataset; the last one has a split per language."""


def hub_copy() -> Path:
    """The dataset from the hub, fetched into its cache. Errors: FileNotFoundError where there is no connection."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(REPOSITORY, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"the dataset {REPOSITORY} could not be had from the hub ({type(error).__name__}): fetch it where there is "
            f"a connection (hf download {REPOSITORY} --repo-type dataset --local-dir vtbench), and give --data vtbench"
        ) from error


def open_split(root: Path, split: Split, limit: int | None = None) -> Source | None:
    """A split of a local copy, the first `limit` images; None if it is not there.

    It is looked for where the copy's README declares it, then as CONFIG/SPLIT (a folder of images, or of shards), as
    shards CONFIG/SPLIT-*.parquet, and as images directly in CONFIG; the same below `data`. Errors: ValueError without
    pyarrow where there are only shards, and for shards without images.
    """
    for files in _places(root, split):
        images = sorted(p for p in files if p.suffix.lower() in SUFFIXES and p.is_file())[:limit]
        if images:
            names = tuple(p.relative_to(root).as_posix() for p in images)
            return Source(name=f"VTBench {split.label}", paths=tuple(images), names=names)
        shards = sorted(p for p in files if p.suffix == ".parquet" and p.is_file())
        if shards:
            return _of_shards(f"VTBench {split.label}", shards, limit)
    return None


def _places(root: Path, split: Split) -> Iterator[list[Path]]:
    """Files that may be the split's, the likeliest first."""
    for pattern in _declared(root, split):
        yield list(root.glob(pattern))
    for top in (root, root / "data"):
        folder = top / split.config
        yield list((folder / split.split).rglob("*"))
        yield list(folder.glob(f"{split.split}-*.parquet"))
        if sum(s.config == split.config for s in SPLITS) == 1:
            yield [p for p in folder.rglob("*") if p.suffix != ".parquet"]


def _declared(root: Path, split: Split) -> list[str]:
    """Patterns of the split in the header of README.md, as the hub's dataset pages have them."""
    readme = root / "README.md"
    if not readme.is_file():
        return []
    _, *parts = readme.read_text(encoding="utf-8").split("---\n")
    try:
        header = yaml.safe_load(parts[0]) if parts else None
    except yaml.YAMLError:
        return []
    found: list[str] = []
    for config in header.get("configs", []) if isinstance(header, dict) else []:
        files = config.get("data_files", []) if config.get("config_name") == split.config else []
        for entry in files if isinstance(files, list) else [files]:
            if isinstance(entry, dict) and entry.get("split") == split.split:
                path = entry.get("path", [])
                found += path if isinstance(path, list) else [path]
    return [p for p in found if isinstance(p, str) and p and not p.startswith("/") and ".." not in p]


# ---- parquet ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ShardSource(Source):
    """Images inside parquet shards; `paths` names the shard of each."""

    rows: tuple[tuple[int, int], ...]
    """Row group in the shard, row in the group."""

    def read(self, i: int) -> Tensor:
        """As a file would be read."""
        try:
            with Image.open(io.BytesIO(self._bytes(i))) as picture:
                return read_images(picture)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.paths[i].name}, {self.names[i]}: {error}") from error

    def digest(self, i: int) -> str:
        """sha256 of the image as it is stored."""
        return hashlib.sha256(self._bytes(i)).hexdigest()

    def _bytes(self, i: int) -> bytes:
        group, row = self.rows[i]
        data = _group(self.paths[i], group)[row]
        if data is None:
            raise ValueError("the row holds no image")
        return data


def _of_shards(name: str, shards: list[Path], limit: int | None) -> ShardSource:
    paths, names, rows = [], [], []
    for shard in shards:
        file = _parquet(shard)
        column = _image_column(shard, file)
        for group in range(file.num_row_groups):
            for row, entry in enumerate(file.read_row_group(group, [f"{column}.path"]).column(column).to_pylist()):
                paths.append(shard)
                rows.append((group, row))
                names.append(f"{shard.stem}/{group:04d}-{row:05d}-{entry.get('path') or ''}".rstrip("-"))
        if limit is not None and len(rows) >= limit:
            break
    return ShardSource(name=name, paths=tuple(paths[:limit]), names=tuple(names[:limit]), rows=tuple(rows[:limit]))


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowInvalid, parquet  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            f"{path} is a parquet shard, and reading it needs pyarrow: pip install pyarrow, or give the images as "
            "folders CONFIG/SPLIT"
        ) from error
    try:
        return parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole parquet file: {error}") from error


def _image_column(path: Path, file: Any) -> str:
    """The column of images: a struct of bytes and path."""
    found = [f.name for f in file.schema_arrow if {"bytes", "path"} <= {s.name for s in _fields(f.type)}]
    if len(found) != 1:
        raise ValueError(
            f"{path} has the columns {', '.join(file.schema_arrow.names)}: needed is one column of images, a struct of "
            "bytes and path"
        )
    return found[0]


def _fields(kind: Any) -> list[Any]:
    return [kind.field(i) for i in range(kind.num_fields)]


@lru_cache(maxsize=2)
def _group(path: Path, group: int) -> list[bytes | None]:
    """The stored images of one row group; two are kept, as they are asked for in order."""
    file = _parquet(path)
    column = _image_column(path, file)
    return [
        entry["bytes"] if entry else None for entry in file.read_row_group(group, [column]).column(column).to_pylist()
    ]
