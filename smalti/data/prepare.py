"""`smalti data prepare NAME`: one entry to every source this folder knows.

Nothing that is prepared here is committed or packaged; `SOURCES.md` names sources and licenses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("emoji", "photos", "text", "cifar10", "networks")


def prepare(
    name: str,
    out: Path,
    *,
    size: int | None = None,
    seed: int = 0,
    source: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Fetch and convert one source into the folder `out`, and return it.

    name: emoji, photos, text, cifar10 (image folders with `images/`, `metadata.jsonl` and `info.json`) or networks
        (safetensors of the feature networks).
    size: px of the stored images (emoji, text: the side, default 96; photos: largest shorter side, default 512;
        cifar10: the side, default 32). Networks have none.
    seed: for `text`; the others hold no chance.
    source: a file, or a folder of package archives, to read instead of asking the registries.
    overwrite: replace an earlier prepared folder.

    Raises ValueError for an unknown name or a useless setting, FileExistsError if `out` is there already, and
    PackageError (a RuntimeError) if a package cannot be had.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data {name!r}; known are {', '.join(NAMES)}.")
    if size is not None and not 8 <= size <= 1024:
        raise ValueError(f"size is {size} px; allowed are 8 to 1024.")
    if size is not None and name == "networks":
        raise ValueError("networks are not images: leave out size.")
    options: dict[str, Any] = {"source": source, "overwrite": overwrite}
    if size is not None:
        options["size"] = size
    if name == "text":
        options["seed"] = seed
    elif seed != 0:
        raise ValueError(f"seed is {seed}, but {name} holds no chance: leave it out.")
    return _preparer(name)(Path(out), **options)


def _preparer(name: str) -> Callable[..., Path]:
    if name == "emoji":
        from smalti.data.emoji import prepare_emoji as function
    elif name == "photos":
        from smalti.data.photos import prepare_photos as function
    elif name == "text":
        from smalti.data.rendered_text import prepare_text as function
    elif name == "cifar10":
        from smalti.data.cifar10 import prepare_cifar10 as function
    else:
        from smalti.data.networks import prepare_networks as function
    return function
