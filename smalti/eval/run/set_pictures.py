"""Pictures of generated images for the page: a sheet of them, and some beside the reference images nearest to them.

Shape suffixes: N samples, M reference images, k nearest of them, D features, H W pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.eval.run.image_sets import ImageSet
from smalti.eval.run.pictures import joined, write_parts
from smalti.eval.run.set_features import ReadSet

SHEET = (4, 12)
"""Rows and columns of the sheet."""
BESIDE, SPREAD, CLOSEST = 3, 8, 4
"""Reference images beside a sample; samples taken evenly from all; samples nearest to the reference."""
LARGEST = 128
"""Pixels: tiles are shrunk to it."""
ROWS = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A set of images, what was read of it, and the pooled features of its first images."""

    images: ImageSet
    read: ReadSet
    features_ND: Tensor


def write_sheet(out: Path, key: str, samples: Shown, chunk: int) -> list[dict[str, Any]]:
    """The first samples, in rows; what the result keeps of the picture."""
    rows, width = SHEET
    found = list(_pick(samples, range(min(rows * width, len(samples.read.names))), chunk).values())
    side = _side(found[0])
    blank = torch.ones(3, *side)
    tiles = [_tile(image, side) for image in found]
    tiles += [blank] * (-len(tiles) % width if len(tiles) > width else 0)
    lines = [joined(tiles[i : i + width]) for i in range(0, len(tiles), width)]
    return [write_parts(out, key, "samples", "sheet", f"the first {len(found)} samples", [joined(lines, dim=-2)])]


def write_neighbors(
    out: Path, key: str, samples: Shown, reference: Shown, chunk: int, classes: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Samples beside the reference images whose pooled features are nearest, so that copies are seen.

    Some are taken evenly from all samples, the others are those nearest to the reference. Returns the pictures, and
    distances as plain data: the median from a sample to its nearest reference image, and from a reference image to its
    nearest other.
    """
    distances_Nk, numbers_Nk = _nearest(samples.features_ND, reference.features_ND, BESIDE)
    among_M = _nearest(reference.features_ND, reference.features_ND, 2)[0][:, 1]
    count = len(distances_Nk)
    spread = torch.linspace(0, count - 1, min(SPREAD, count)).round().long().tolist()
    closest = [i for i in distances_Nk[:, 0].argsort().tolist() if i not in spread][:CLOSEST]
    chosen = [*spread, *closest]
    made = _pick(samples, chosen, chunk)
    real = _pick(reference, numbers_Nk[chosen].flatten().tolist(), chunk)
    found = []
    for i in chosen:
        side = _side(made[i])
        tiles = [_tile(image, side) for image in (made[i], *(real[j] for j in numbers_Nk[i].tolist()))]
        label = samples.read.labels[i]
        what = classes[label] if 0 <= label < len(classes) else samples.read.names[i]
        title = f"{'closest: ' if i in closest else ''}{what}, {distances_Nk[i, 0]:.1f}"
        found.append(write_parts(out, key, "neighbors", Path(samples.read.names[i]).stem, title, tiles))
    facts = {"samples": float(distances_Nk[:, 0].median()), "reference": float(among_M.median())}
    return found, facts


def _nearest(a_ND: Tensor, b_MD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Euclidean distances and numbers of the k nearest rows of b, [N, k]."""
    found = [torch.cdist(rows, b_MD).topk(min(k, len(b_MD)), largest=False) for rows in a_ND.split(ROWS)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _pick(shown: Shown, numbers: Iterable[int], chunk: int) -> dict[int, Tensor]:
    """float [3, H, W] in [0, 1] of the images with these numbers among those that were read."""
    wanted, found = set(numbers), {}
    starts = [0]
    for count in shown.read.counts:
        starts.append(starts[-1] + count)
    for i, (start, end) in enumerate(pairwise(starts)):
        here = [j for j in wanted if start <= j < end]
        if here:
            images = [image for batch in shown.images.chunk(i, chunk).batches for image in batch]
            found |= {j: images[j - start].float() / 255 for j in here}
    return {j: found[j] for j in sorted(found)}


def _side(image: Tensor) -> tuple[int, int]:
    height, width = image.shape[-2:]
    factor = min(1.0, LARGEST / max(height, width))
    return ceil(height * factor), ceil(width * factor)


def _tile(image: Tensor, side: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == side:
        return image
    return F.interpolate(image[None], side, mode="bicubic", antialias=True)[0].clamp(0, 1)
