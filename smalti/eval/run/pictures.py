"""Pictures that a run leaves for its report: PNG files with original and reconstruction side by side."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalti.eval.detail.result import Picture
from smalti.images import write_image

FOLDER = "pictures"
GAP = 2
"""Pixels between the parts of a picture."""


def write_charts(out: Path, key: str, task: str, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Writes charts of a task; what the result keeps of them."""
    return [write_parts(out, key, task, p.name, p.title, [p.original, p.reconstruction]) for p in pictures]


def write_extremes(
    out: Path,
    key: str,
    names: Sequence[str],
    psnr_N: Tensor,
    source: Callable[[str], Tensor],
    reconstruct: Callable[[Tensor], Tensor],
) -> list[dict[str, Any]]:
    """The worst, the median and the best image: original, reconstruction, ten times the error."""
    order = psnr_N.argsort().tolist()
    chosen: dict[str, int] = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
    found = []
    for word, i in chosen.items():
        original = source(names[i])
        back = reconstruct(original)
        error = (10 * (back - original).abs()).clamp(0, 1)
        title = f"{word}: {names[i]}, {float(psnr_N[i]):.1f} dB"
        found.append(write_parts(out, key, "images", word, title, [original[0], back[0], error[0]]))
    return found


def write_parts(out: Path, key: str, task: str, name: str, title: str, parts: Sequence[Tensor]) -> dict[str, Any]:
    """One picture of parts [3, H, W] side by side; what the result keeps of it."""
    slug = re.sub(r"[^\w.-]+", "-", f"{key}-{task}-{name}")
    path = write_image(joined([p.cpu() for p in parts]), out / FOLDER / f"{slug}.png")
    return {"task": task, "title": title, "file": f"{FOLDER}/{path.name}"}


def joined(parts: Sequence[Tensor], dim: int = -1) -> Tensor:
    """Images [3, H, W] side by side (-1) or below each other (-2), with white gaps."""
    shape = list(parts[0].shape)
    shape[dim] = GAP
    return torch.cat([p for part in parts for p in (part, torch.ones(shape))][:-1], dim=dim)
