"""Samples of a generator, written as they are made: PNG files, and in the end ADM's .npz.

A killed run goes on with the first chunk that is not whole. Image i has the class i mod (number of classes) and the
seed of the run + i, so a longer run begins with the images of a shorter one.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalti.eval.inception_resize import Uint8Rule, quantize
from smalti.eval.npz import sample_shape, write_samples
from smalti.eval.run.sources import Source
from smalti.files import write_json
from smalti.images import read_images, write_images
from smalti.pipeline import ImageGenerator

FOLDER, PLAN, PACKED = "samples", "samples.json", "samples.npz"


def make_samples(
    model: ImageGenerator,
    out: Path,
    n: int,
    *,
    seed: int = 0,
    chunk: int = 32,
    rule: Uint8Rule = "round",
    on_chunk: Callable[[], None] | None = None,
) -> Source:
    """`n` images in out/samples and out/samples.npz, their pixels cut to 8 bits by `rule`.

    Classes are taken in turn; a model without classes makes images of anything. Errors: ValueError if out/samples holds
    images of another model, seed or sampler.
    """
    folder, facts = out / FOLDER, sample_facts(model, seed, rule)
    _check_plan(folder / PLAN, facts)
    classes = [i % model.generator.classes if model.generator.classes else None for i in range(n)]
    names = [f"{i:06d}" if c is None else f"{i:06d}-class{c}" for i, c in enumerate(classes)]
    for start in range(0, n, chunk):
        rows = slice(start, min(start + chunk, n))
        missing = [k for k, name in enumerate(names[rows]) if not (folder / f"{name}.png").is_file()]
        if missing:
            images = _generated(model, classes[rows], seed + start)
            cut = quantize(images[missing], rule).float() / 255
            write_images(cut, folder, names=[names[start + k] for k in missing])
        if on_chunk is not None:
            on_chunk()
    paths = tuple(folder / f"{name}.png" for name in names)
    _pack(out / PACKED, paths, [-1 if c is None else c for c in classes])
    return Source(name=f"samples of {model.name}", paths=paths, names=tuple(p.name for p in paths))


def sample_facts(model: ImageGenerator, seed: int, rule: str) -> dict[str, Any]:
    """Everything the samples depend on, as plain data."""
    facts = {
        "generator": model.name,
        "weights": model.fingerprint,
        "tokenizer": model.tokenizer.name,
        "tokenizer_weights": model.tokenizer.fingerprint,
        "then": model.then.fingerprint if model.then is not None else None,
        "settings": asdict(model.settings),
        "condition": f"{model.generator.classes} classes in turn" if model.generator.classes else "none",
        "seed": seed,
        "uint8": rule,
    }
    return json.loads(json.dumps(facts, default=str))


def _generated(model: ImageGenerator, classes: list[int | None], seed: int) -> Tensor:
    if classes[0] is None:
        return model.generate(n=len(classes), seed=seed, batch=len(classes)).images.cpu()
    return model.generate(classes=classes, seed=seed, batch=len(classes)).images.cpu()


def _check_plan(path: Path, facts: dict[str, Any]) -> None:
    if path.is_file():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held != facts:
            changed = ", ".join(k for k in facts if held.get(k) != facts[k])
            raise ValueError(f"{path.parent} holds samples of other settings ({changed}): give another --out")
    write_json(path, facts)


def _pack(path: Path, images: tuple[Path, ...], labels: list[int]) -> None:
    """ADM's file, unless it is there already: it is written whole, after the last image."""
    if path.is_file() and sample_shape(path)[0] == len(images):
        return

    def batches() -> Iterator[Tensor]:
        for image in images:
            yield quantize(read_images(image))

    known = torch.tensor(labels) if labels[0] >= 0 else None
    write_samples(path, batches(), len(images), labels=known)
