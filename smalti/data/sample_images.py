"""The sample images that come with the package: emoji, photographs and rendered text, none of them trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).with_name("samples")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One packaged image."""

    path: Path
    """The file: PNG or JPEG, square, RGB."""
    title: str
    """What it shows."""
    kind: Literal["emoji", "photo", "text"]
    """What it is."""
    artist: str
    """Whose emoji; empty for the others."""
    codepoint: str
    """Which emoji; empty for the others."""
    source: str
    """Package it was made from, and for photographs the file inside."""
    license: str
    """SPDX name, or `public domain`."""
    attribution: str
    """Who is to be named."""


def samples(kind: Literal["emoji", "photo", "text"] | None = None) -> list[Sample]:
    """The packaged samples, or those of one kind, always in the same order."""
    lines = (FOLDER / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    found = [Sample(path=FOLDER / entry.pop("file"), **entry) for entry in entries]
    return [sample for sample in found if kind is None or sample.kind == kind]
