"""Proves the measurements of the floors on cases with known answers: retrieval, classes, copies, usage, verdicts."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.minis.captions import caption_rows, spread
from benchmarks.minis.classifier import JudgeTraining, augmented, train_judges
from benchmarks.minis.copies import Neighbors, copy_rows, sheet
from benchmarks.minis.features import Gallery, cached
from benchmarks.minis.reconstruction import reconstruction
from benchmarks.minis.rows import Row, row, table, verdict
from benchmarks.minis.samples import Jury, Labels, category_rows, ceilings, shares, subcategory_rows, timings
from smalti.data.bank import ImageBank, Item
from smalti.data.tokens_bank import wordings
from smalti.eval.bootstrap import mean_interval
from tests.tiny.var import tiny_var_tokenizer

CATEGORIES = {"animals": ("cats", "dogs"), "food": ("fruit", "bread")}
ARTISTS = ("fluent3d", "noto", "twemoji")


def features(images: Tensor) -> Tensor:
    """16 x 3 numbers an image: enough to tell the patterns below apart."""
    return F.avg_pool2d(images, 4).flatten(1)


def toy_bank() -> ImageBank:
    """48 names, 12 of every subcategory, drawn by three artists: a pattern per name, a tint per subcategory."""
    rng = torch.Generator().manual_seed(0)
    images, items = [], []
    for category, parts in CATEGORIES.items():
        for part in parts:
            tint = torch.rand(3, 1, 1, generator=rng)
            for number in range(12):
                pattern = F.interpolate(torch.rand(1, 3, 4, 4, generator=rng), size=16)[0] * 0.3 + tint * 0.7
                for artist in ARTISTS:
                    noise = torch.rand(3, 16, 16, generator=rng) * 0.05
                    images.append(((pattern + noise).clamp(0, 1) * 255).to(torch.uint8))
                    unseen, heldout = number == 11, number >= 10
                    pair = number in (3, 4) and artist == "noto"
                    items.append(
                        Item(
                            source="emoji",
                            artist=artist,
                            category=category,
                            subcategory=part,
                            caption=f"{part} {number}",
                            codepoint=f"{part}-{number}",
                            split_tokenizer="heldout" if heldout else "pair" if pair else "train",
                            split_generator="unseen" if unseen else "pair" if pair else "train",
                        )
                    )
    return ImageBank(torch.stack(images), items, size=16)


@dataclass
class Oracle:
    """Draws exactly what is asked for: the real image, moved by `wrong` places in the list."""

    bank: ImageBank
    wrong: int = 0
    classes: tuple[str, ...] = ("cats", "dogs", "fruit", "bread")

    def generate(self, *, text: list[str] | None = None, classes: list[str] | None = None, seed: int = 0) -> Any:
        """Images of the captions or classes."""
        items = self.bank.items
        if text is not None:
            chosen = [next(i for i, x in enumerate(items) if wordings(x, 1, 0)[0] == t) for t in text]
        else:
            assert classes is not None
            chosen = [next(i for i, x in enumerate(items) if c in (x.category, x.subcategory)) for c in classes]
        places = (torch.tensor(chosen) + self.wrong) % len(items)
        return SimpleNamespace(images=self.bank.exact(places))


def value_of(rows: list[Row], name: str) -> Row:
    """The row of a name."""
    return next(r for r in rows if r.name == name)


def jury(bank: ImageBank) -> Jury:
    """A judge of the toy emoji."""
    labels, train = Labels.of(bank), bank.indices("emoji", "train")
    settings = JudgeTraining(versions=1, steps=150, batch=64)
    judges = train_judges(bank.exact(train), labels.labels(train), (2, 4), features, settings)
    return Jury(judges=judges, features=features, labels=labels)


def test_captions_of_a_perfect_and_of_a_wrong_generator() -> None:
    """The oracle finds every code point; one that draws other things finds none; real drawings are the reference."""
    bank = toy_bank()
    rows, images = caption_rows(Oracle(bank), bank, features, limit=100, seed=0)  # type: ignore[arg-type]
    for name in ("withheld artist", "withheld code point"):
        assert value_of(rows, f"{name}: samples").value == 1
        assert value_of(rows, f"{name}: another artist's real drawing").value == 1
        assert value_of(rows, f"{name}: the withheld drawing itself").value == 1
    floor = value_of(rows, "withheld artist: samples less 0.5 x another artist's")
    assert floor.value == pytest.approx(0.5)
    assert floor.met is True
    assert (len(images["pair"]), len(images["unseen"])) == (8, 12)
    rows, _ = caption_rows(Oracle(bank, wrong=3), bank, features, limit=100, seed=0)  # type: ignore[arg-type]
    assert value_of(rows, "withheld artist: samples").value == 0
    assert value_of(rows, "withheld artist: samples less 0.5 x another artist's").met is False


def test_a_query_does_not_find_itself() -> None:
    """`leave_out` hides exactly one image of the gallery."""
    gallery = Gallery(torch.eye(5) + 0.01 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    own, distance = gallery.nearest(gallery.features_ND)
    assert own.tolist() == [0, 1, 2, 3, 4]
    assert distance.abs().max() < 1e-5
    other, _ = gallery.nearest(gallery.features_ND, leave_out=torch.arange(5))
    assert (other != torch.arange(5)).all()


def test_classes_of_right_and_wrong_samples() -> None:
    """Right samples agree, those of the other category do not, and subcategories count separately."""
    bank = toy_bank()
    judges = jury(bank)
    asked = ["animals"] * 4 + ["food"] * 4
    right = Oracle(bank).generate(classes=asked).images
    assert category_rows(judges, "x", right, asked, 0.5)[0].met is True
    swapped = category_rows(judges, "x", right, asked[::-1], 0.5)
    assert swapped[0].value == 0
    assert swapped[0].met is False
    assert subcategory_rows(judges, Oracle(bank), 2, 0)[0].value == 1  # type: ignore[arg-type]


def test_ceilings_compare_with_reconstructions() -> None:
    """A tokenizer with random weights destroys the pictures: originals are recognized, its floor is missed."""
    bank = toy_bank()
    rows, coded = ceilings(jury(bank), tiny_var_tokenizer(), bank.indices("emoji", "heldout"))
    assert value_of(rows, "category: held-out originals").value > 0.9
    assert value_of(rows, "category: their reconstructions").value == pytest.approx(coded)
    assert coded < 0.8
    assert value_of(rows, "category: their reconstructions").met is False


def test_reconstruction_rows() -> None:
    """A random tokenizer loses against the thumbnail in every metric; usage counts distinct codes."""
    tokenizer, images = tiny_var_tokenizer(), toy_bank().exact(torch.arange(12))
    rows = reconstruction(tokenizer, {"emoji": images}, lambda a, b: (a - b).abs().mean((1, 2, 3)))
    assert value_of(rows, "emoji: psnr over the thumbnail (paired)").met is False
    assert value_of(rows, "emoji: lpips over the thumbnail (paired)").met is False
    ids = tokenizer.encode(images).ids
    assert ids is not None
    assert value_of(rows, "codebook usage, all scales").value == len(ids.unique()) / 32
    assert value_of(rows, "codebook usage, 1x1").value == len(ids[:, :1].unique()) / 32
    assert sum(r.kind == "floor" and "->" in r.name for r in rows) == 2 * 3


def test_copies_are_seen() -> None:
    """Training images are reported as copies, fresh patterns are not."""
    bank = toy_bank()
    training = bank.exact(bank.indices("emoji", "train", role="generator"))
    rng = torch.Generator().manual_seed(3)
    fresh = F.interpolate(torch.rand(20, 3, 4, 4, generator=rng), size=16)
    neighbors = Neighbors(training, features)
    near = (training[:20] + 0.01 * torch.randn(20, 3, 16, 16, generator=rng)).clamp(0, 1)
    found = {"copies": neighbors.of(training[5:15]), "new ones": neighbors.of(fresh)}
    assert found["copies"].by_pixels.tolist() == found["copies"].by_features.tolist() == list(range(5, 15))
    assert found["copies"].pixel_rmse.max() < 1e-3
    rows = copy_rows(
        found, neighbors.of(bank.exact(bank.indices("emoji", "unseen", role="generator"))), neighbors.of(near)
    )
    assert value_of(rows, "pixel_rmse: share of copies as near as a copy").value == 1
    assert value_of(rows, "pixel_rmse: share of copies as near as a copy").note == ""
    assert value_of(rows, "pixel_rmse: share of new ones as near as a copy").value == 0
    blurred = copy_rows(found, found["copies"], found["new ones"])
    assert "says nothing" in value_of(blurred, "pixel_rmse: share of copies as near as a copy").note
    assert value_of(rows, "feature_distance: share of new ones as near as a copy").value == 0
    assert sheet(fresh, found["new ones"], training, count=8, columns=4).shape[0] == 3


def test_natural_mix() -> None:
    """Largest remainder: exact sum, in proportion."""
    assert Counter(shares(Counter(a=5, b=3, c=2), 7)) == Counter(a=4, b=2, c=1)
    assert len(shares(Counter(a=1, b=1, c=1), 100)) == 100
    assert set(Labels.of(toy_bank()).natural(10)) == {"animals", "food"}


def test_bars_and_verdict() -> None:
    """A bar on the interval is stricter than one on the value; the table and the verdict name what was missed."""
    noisy = mean_interval(torch.tensor([-1.0, 3.0, -2.0, 4.0]))
    loose = row("a", "loose", noisy, kind="floor", at_least=0.0)
    strict = row("a", "strict", noisy, kind="floor", at_least=0.0, on_interval=True)
    assert (loose.met, strict.met) == (True, False)
    assert Row(group="b", name="no bar", value=1.0).met is None
    assert "1 of 2 floors met; missed: ['a strict']" in verdict([loose, strict])
    assert "NO" in table([loose, strict]).splitlines()[2]


def test_augmentation_keeps_range_and_changes_pixels() -> None:
    """Blurred and recolored copies are images again, the same for the same seed."""
    images = toy_bank().exact(torch.arange(6))
    made = augmented(images, 1)
    assert torch.equal(made, augmented(images, 1))
    assert made.min() >= 0
    assert made.max() <= 1
    assert ((made - images).abs().amax((1, 2, 3)) > 0.01).all()


def test_features_are_remembered_by_content(tmp_path: Path) -> None:
    """Every image is computed once, in this run and the next."""
    calls: list[int] = []

    def counting(images: Tensor) -> Tensor:
        calls.append(len(images))
        return features(images)

    images, path = toy_bank().exact(torch.arange(6)), tmp_path / "cache" / "features.safetensors"
    remember = cached(counting, path)
    assert torch.equal(remember(images[:4]), features(images[:4]))
    assert torch.equal(remember(images.flip(0)), features(images.flip(0)))
    assert torch.equal(cached(counting, path)(images), features(images))
    assert calls == [4, 2]


def test_spread_and_timings() -> None:
    """Evenly spread picks; every call is timed the same number of times."""
    assert spread(torch.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
    counts = [0, 0]

    def call(i: int) -> None:
        counts[i] += 1

    assert len(timings([lambda: call(0), lambda: call(1)], rounds=3)) == 2
    assert counts == [4, 4]
