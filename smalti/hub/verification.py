"""What can be checked of a model on this machine: its file, keys, shapes and values, and a range probe."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from smalti.decoding.prediction import Categorical
from smalti.generators.base import Condition, Generator
from smalti.hub import keymap
from smalti.hub.assembly import as_stated, fill, read_state
from smalti.hub.families import build_empty
from smalti.hub.fetch import fetch
from smalti.hub.folders import WEIGHTS
from smalti.hub.loading import find
from smalti.hub.registry import Entry, Folder
from smalti.tokenizers.base import NoFeedback, Tokenizer

GRAY_TOLERANCE = 0.1
"""Largest mean difference from a gray image at which its reconstruction still counts as gray, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    result: Literal["ok", "failed", "not checked"]
    detail: str = ""


def verify(
    name_or_path: str | Path, *, like: str | None = None, wrapping: str | None = None
) -> tuple[Entry, list[Check]]:
    """Checks a named model, a folder or an official file; stops at the first check that makes the rest pointless.

    Errors: ValueError for an unknown name, FetchError if the file cannot be had.
    """
    entry = find(str(name_or_path), like=like, wrapping=wrapping)
    path = fetch(entry)
    entry = as_stated(entry, path)
    return entry, list(_checks(entry, path))


def _checks(entry: Entry, path: Path) -> Iterator[Check]:
    file = path / WEIGHTS if isinstance(entry.source, Folder) else path
    yield Check(name="file", result="ok", detail=f"{file}, {file.stat().st_size / 1e6:,.1f} MB")
    yield _hash(entry, file)
    try:
        state = read_state(entry, path)
    except keymap.WeightsError as error:
        yield Check(name="keys and shapes", result="failed", detail=str(error))
        return
    values = sum(v.numel() for v in state.values())
    detail = f"{len(state)} tensors, {values:,} values, {', '.join(_dtypes(state))}"
    yield Check(name="keys and shapes", result="ok", detail=detail)
    broken = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        detail = f"not finite: {', '.join(broken[:5])}{' ...' if len(broken) > 5 else ''}"
        yield Check(name="values", result="failed", detail=detail)
        return
    yield Check(name="values", result="ok", detail="all finite")
    model = fill(build_empty(entry.role, entry.family, entry.config), state, torch.float32)
    yield _gray(entry, model) if isinstance(model, Tokenizer) else _one_step(model)


def _hash(entry: Entry, file: Path) -> Check:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if entry.sha256 is None:
        return Check(name="sha256", result="not checked", detail=f"{found} (the published one is not known here)")
    if found == entry.sha256:
        return Check(name="sha256", result="ok", detail=found)
    return Check(name="sha256", result="failed", detail=f"{found}, published is {entry.sha256}")


def _dtypes(state: Mapping[str, Tensor]) -> list[str]:
    return sorted({str(v.dtype).removeprefix("torch.") for v in state.values()})


def _gray(entry: Entry, tokenizer: Tokenizer) -> Check:
    """A gray image must come back gray: a wrong pixel range or a wrong scale of the latents shows at once."""
    name, size = "range probe", entry.image_size or tokenizer.sizes.value
    frames = [tokenizer.frames] if tokenizer.frames else []
    shape = (1, 3, *frames, size, size)
    try:
        decoded = tokenizer.decode(tokenizer.encode(torch.full(shape, 0.5)))
    except (
        OSError,
        ValueError,
    ) as error:  # pixels need a further published model, or latents a scale that is not known
        return Check(name=name, result="not checked", detail=str(error))
    off = (decoded.flatten(2).mean(2) - 0.5).abs().max().item()
    detail = f"gray 0.5 comes back within {off:.3f} (allowed {GRAY_TOLERANCE})"
    return Check(name=name, result="ok" if off <= GRAY_TOLERANCE else "failed", detail=detail)


def _one_step(generator: Generator) -> Check:
    """The first prediction without a condition must be finite."""
    if generator.needs_text:
        return Check(name="first step", result="not checked", detail="this model makes nothing without a text")
    with torch.no_grad():
        prediction = generator.predict(generator.begin(Condition.of_classes([-1]), feedback=NoFeedback()))
    if not isinstance(prediction, Categorical):
        return Check(name="first step", result="not checked", detail="this family predicts no logits")
    finite = bool(torch.isfinite(prediction.logits_RBnV).all())
    count = generator.schedule()[0].count
    detail = f"logits of the first {count} token{'s' if count > 1 else ''} {'are' if finite else 'are not'} finite"
    return Check(name="first step", result="ok" if finite else "failed", detail=detail)
