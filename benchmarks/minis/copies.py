"""Floor (e): how near samples are to training images, so that copying is visible.

Three sets are held against the training emoji: samples; real emoji whose code points no model has seen (what novelty
looks like); the tokenizer's reconstructions of training emoji (what a perfect copy looks like).

Shape suffixes: N images, D features, P pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.minis.features import Features, Gallery
from benchmarks.minis.rows import Row
from smalti.images import image_grid


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """The nearest training image of each of N images, in two spaces."""

    pixel_rmse: Tensor
    """float [N]: root mean square error in [0, 1] to the nearest by pixels."""
    by_pixels: Tensor
    """int64 [N]: which."""
    feature_distance: Tensor
    """float [N]: cosine distance to the nearest by features."""
    by_features: Tensor
    """int64 [N]: which."""


class Neighbors:
    """Training images to search."""

    def __init__(self, training: Tensor, features: Features) -> None:
        self.training, self.features = training, features
        self.gallery = Gallery(features(training))
        self.flat_NP = training.flatten(1)

    def of(self, images: Tensor) -> Nearest:
        """The nearest of images [N, 3, H, W]."""
        distances, places = [], []
        for part in images.flatten(1).split(128):
            best = torch.cdist(part, self.flat_NP).min(1)
            distances.append(best.values)
            places.append(best.indices)
        by_features, feature_distance = self.gallery.nearest(self.features(images))
        return Nearest(
            pixel_rmse=torch.cat(distances) / self.flat_NP.shape[1] ** 0.5,
            by_pixels=torch.cat(places),
            feature_distance=feature_distance,
            by_features=by_features,
        )


def copy_rows(samples: dict[str, Nearest], unseen: Nearest, copies: Nearest) -> list[Row]:
    """Quartiles of every set in both spaces, and how many samples are as near as a copy.

    "As near as a copy": nearer than the median reconstruction of a training image is to its nearest one; perfect copies
    would score one half. Where reconstructions are no nearer than unseen drawings, the tokenizer blurs too much for
    that number to tell copies from new images, and its note says so. "Nearer than 95 % of unseen": nearer than all but
    the nearest twentieth of the unseen drawings; new images would score one twentieth.
    """
    rows = []
    for space in ("pixel_rmse", "feature_distance"):
        copy, novel = getattr(copies, space), getattr(unseen, space)
        near_copy, near_novel = float(copy.median()), float(novel.quantile(0.05))
        blurred = "says nothing: reconstructions are no nearer than unseen drawings" * (
            near_copy >= float(novel.median())
        )
        sets = {"reconstructions of training emoji": copy, "unseen real emoji": novel}
        sets |= {name: getattr(found, space) for name, found in samples.items()}
        for name, values in sets.items():
            low, middle, high = values.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
            label = f"{space} to the nearest training emoji: {name} (median)"
            note = f"quartiles {low:.3f}, {high:.3f}; least {float(values.min()):.3f}"
            rows.append(Row(group="e", name=label, value=middle, n=len(values), note=note))
        for name, found in samples.items():
            values = getattr(found, space)
            label = f"{space}: share of {name} "
            as_near = float((values <= near_copy).float().mean())
            nearer = float((values <= near_novel).float().mean())
            rows.append(Row(group="e", name=f"{label}as near as a copy", value=as_near, n=len(values), note=blurred))
            rows.append(Row(group="e", name=f"{label}nearer than 95 % of unseen", value=nearer, n=len(values)))
    return rows


def sheet(images: Tensor, nearest: Nearest, training: Tensor, *, count: int = 48, columns: int = 12) -> Tensor:
    """[3, H, W]: samples with the nearest training image by features and by pixels below each; nearest ones first."""
    order = nearest.feature_distance.argsort()
    order = order[torch.arange(min(count, len(order))) * len(order) // min(count, len(order))]
    tiles = []
    for start in range(0, len(order), columns):
        part = order[start : start + columns]
        blank = torch.ones(columns - len(part), *images.shape[1:])
        for picked in (images[part], training[nearest.by_features[part]], training[nearest.by_pixels[part]]):
            tiles.append(torch.cat([picked, blank]))
    return image_grid(torch.cat(tiles), columns)
