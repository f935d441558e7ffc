"""Proves that every published model builds at its size, and that its key map covers the published file both ways, on
the meta device. The key lists are those of tests/goldens/keys; tests/tiny says which file has which.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smalti.generators.base import Generator
from smalti.hub import model_info
from smalti.hub.assembly import convert, our_shapes
from smalti.hub.families import build_empty, family
from smalti.hub.keymap import to_official
from smalti.hub.registry import Entry, Folder, entries
from tests.tiny import gathered

KEYS = Path(__file__).parent / "goldens" / "keys"
KEY_LISTS: dict[str, str | tuple[str, ...]] = gathered("KEY_LISTS")
PUBLISHED = [e.name for e in entries() if not isinstance(e.source, Folder)]

DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16", "int64", "int32", "bool")}


def key_list(name: str) -> dict[str, Tensor]:
    """The published keys and shapes of an entry's files, as tensors without data.

    Several lists are those of its file and of its companions, in order; the latter get the companion's prefix.
    """
    stems, companions = KEY_LISTS[name], model_info(name).companions
    listed: dict[str, Any] = {}
    for i, stem in enumerate((stems,) if isinstance(stems, str) else stems):
        prefix = companions[i - 1].prefix if i and companions else ""
        keys = json.loads((KEYS / f"{stem}.json").read_text())
        listed |= {k if k.startswith(prefix) else prefix + k: v for k, v in keys.items()}
    return {k: torch.empty(shape, dtype=DTYPES[dtype], device="meta") for k, (dtype, shape) in listed.items()}


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Key -> dtype and shape."""
    return {k: (v.dtype, tuple(v.shape)) for k, v in state.items()}


def check_generator(entry: Entry, model: Generator) -> None:
    """Its tokenizer writes its layout, and its published settings fit its schedule."""
    assert entry.tokenizer is not None
    tokenizer = model_info(entry.tokenizer)
    layout = build_empty("tokenizer", tokenizer.family, tokenizer.config).layout(entry.image_size)
    assert model.layout == layout, f"{entry.name} writes another layout than {entry.tokenizer} reads"
    steps = len(model.schedule())
    assert model.schedule().length == layout.length
    assert all(entry.settings.guidance.at(i, steps) for i in range(steps))
    entry.settings.sampling.check(steps)
    entry.settings.guidance.branches(model.branches)
    assert (entry.num_classes or 0) == model.classes, "the entry's number of classes is the model's"


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_builds_on_the_meta_device(name: str) -> None:
    """And its layout, sizes and preprocessing answer without weights."""
    entry = model_info(name)
    model = build_empty(entry.role, entry.family, entry.config)
    assert sum(p.numel() for p in model.parameters()) > 1e6
    if entry.role == "tokenizer":
        assert model.layout(entry.image_size).length > 0
    else:
        check_generator(entry, model)
    assert entry.weights_license and entry.code_license and entry.verified, "what a user must know of an entry"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_key_map_covers_the_published_files_both_ways(name: str) -> None:
    """Every key is used or dropped on purpose, and all of ours go back."""
    entry = model_info(name)
    if name not in KEY_LISTS:
        assert "layout" not in entry.verified, f"{name} says its layout is verified, but names no key list"
        pytest.skip("no key list of this file is known")
    official = key_list(name)
    ours = convert(entry, official)
    assert {k: tuple(v.shape) for k, v in ours.items()} == our_shapes(entry.role, entry.family, entry.config)
    found = family(entry.role, entry.family)
    back = to_official(ours, found.key_map(entry.config), found.constants(entry.config))
    dropped = {k for k in official if k not in back}
    assert {k: v for k, v in shapes(official).items() if k not in dropped} == shapes(back)
    assert not any(k in ours for k in dropped)
