"""The prepared image folder: `images/<id>.png`, `metadata.jsonl` (one line an image) and `info.json`."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

FIELDS = (
    "file", "artist", "source", "class", "subclass", "caption", "keywords", "codepoint", "license", "attribution",
    "split_tokenizer", "split_generator",
)  # fmt: skip
"""Every metadata line holds exactly these; what a source does not have is an empty string or list."""


class FolderWriter:
    """Writes a folder under a temporary name beside `out`, and renames it at the end: never a half-written folder.

    An existing `out` is an error unless `overwrite`, and is replaced only if it is a prepared folder itself.
    """

    def __init__(self, out: Path, *, overwrite: bool = False) -> None:
        self.out = out
        check_replaceable(out, overwrite=overwrite, marker="metadata.jsonl")
        out.parent.mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.partial-"))
        (self.work / "images").mkdir()
        self.lines: list[dict[str, Any]] = []

    def add(self, name: str, image: Image.Image, **fields: Any) -> None:
        """Store one RGB image as `images/<name>.png` with its metadata; unnamed fields stay empty."""
        unknown = set(fields) - set(FIELDS)
        assert not unknown, f"unknown metadata fields {sorted(unknown)}"
        assert image.mode == "RGB", f"{name}: stored images are RGB, not {image.mode}"
        file = f"images/{name}.png"
        image.save(self.work / file)
        line: dict[str, Any] = {key: [] if key == "keywords" else "" for key in FIELDS}
        self.lines.append({**line, "file": file, **fields})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            shutil.rmtree(self.work, ignore_errors=True)

    def commit(self, **info: Any) -> Path:
        """Write metadata and info, and put the folder in place."""
        self.lines.sort(key=lambda line: line["file"])
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines)
        write_text(self.work / "metadata.jsonl", text)
        write_text(self.work / "info.json", json.dumps({**info, "counts": counts(self.lines)}, indent=2) + "\n")
        os.chmod(self.work, 0o755)
        put_in_place(self.work, self.out)
        return self.out


def counts(lines: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Images per value of every field that groups them."""
    keys = ("artist", "class", "split_tokenizer", "split_generator", "license")
    return {"all": {"images": len(lines)}} | {key: dict(sorted(Counter(x[key] for x in lines).items())) for key in keys}


def check_replaceable(out: Path, *, overwrite: bool, marker: str) -> None:
    """Raise FileExistsError if `out` exists and may not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(f"{out} exists already. Choose another folder, or pass overwrite=True to replace it.")
    if not (out / marker).is_file():
        raise FileExistsError(f"{out} holds no {marker}, so it is not a prepared folder and is not replaced.")


def put_in_place(work: Path, out: Path) -> None:
    """Rename `work` to `out`; an earlier `out` is moved aside first and deleted last."""
    old = work.with_name(work.name + ".old")
    if out.exists():
        os.replace(out, old)
    os.replace(work, out)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file and flush it to the disk."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_metadata(folder: Path) -> list[dict[str, Any]]:
    """The metadata lines of a prepared folder. Raises FileNotFoundError with the command to run."""
    path = folder / "metadata.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no metadata.jsonl; make it with: smalti data prepare NAME --out {folder}"
        )
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
