"""An entry and its file -> a module that holds the weights, and the fingerprint of those weights."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalti.files import read_tensors
from smalti.hub import keymap
from smalti.hub.families import build_empty, family
from smalti.hub.fetch import fetch_companion
from smalti.hub.folders import WEIGHTS
from smalti.hub.pickles import read_weights, unwrap
from smalti.hub.registry import Entry, Folder

_ALIGNMENT = 64  # bytes; that of memory torch allocates


def assemble(entry: Entry, path: Path, dtype: torch.dtype) -> tuple[Any, str]:
    """The model in evaluation mode with the weights of `path`, and their fingerprint.

    Errors: keymap.WeightsError if the file does not hold exactly this model's keys and shapes.
    """
    entry = as_stated(entry, path)
    state = read_state(entry, path)
    model = build_empty(entry.role, entry.family, entry.config)
    return fill(model, state, dtype), fingerprint(state)


def as_stated(entry: Entry, path: Path) -> Entry:
    """The entry with the config that its official file states itself, where it does: that is the better source."""
    if isinstance(entry.source, Folder):
        return entry
    return replace(entry, config=family(entry.role, entry.family).config_in(path, entry.config))


def read_state(entry: Entry, path: Path) -> dict[str, Tensor]:
    """The weights of a folder or an official file under our names.

    Errors: keymap.WeightsError if a key or shape is not the model's, FetchError for a companion that cannot be had.
    """
    if not isinstance(entry.source, Folder):
        return convert(entry, read_official(entry, path), path)
    state, _ = read_tensors(path / WEIGHTS)
    keymap.check_keys(our_shapes(entry.role, entry.family, entry.config), state, title=str(path / WEIGHTS))
    return state


def read_official(entry: Entry, path: Path) -> dict[str, Tensor]:
    """Everything the authors publish of a model under their names: the file and its companions.

    A companion whose weights are in the file already is not looked for. Errors: WeightsError, FetchError.
    """
    state = unwrap(read_weights(path, entry.prefix), entry.wrapping, role=entry.role, name=str(path))
    for companion in entry.companions:
        if any(key.startswith(companion.prefix) for key in state):
            continue
        file = fetch_companion(entry, companion, path)
        more = unwrap(read_weights(file), companion.wrapping, name=str(file))
        state |= {companion.prefix + key: value for key, value in more.items()}
    return state


def convert(entry: Entry, state: Mapping[str, Tensor], path: Path | str = "the weights") -> dict[str, Tensor]:
    """An official state dict under our names; WeightsError with the likely cause if it is not this entry's."""
    found = family(entry.role, entry.family)
    key_map, state = found.key_map(entry.config), keymap.renamed(keymap.part(state, entry.prefix), found.aliases)
    unneeded = keymap.dropped(state, key_map)
    state = {key: value for key, value in state.items() if key not in unneeded}
    expected = official_shapes(entry.role, entry.family, entry.config)
    try:
        keymap.check_keys(expected, state, title=str(path))
    except keymap.WeightsError:
        from smalti.hub.matching import cause

        keymap.check_keys(expected, state, title=str(path), hint=cause(state, entry))
        raise
    return keymap.to_ours(state, key_map)


@cache
def our_shapes(role: str, name: str, config: Any) -> dict[str, tuple[int, ...]]:
    """Every key of our model with its shape."""
    return {key: tuple(value.shape) for key, value in build_empty(role, name, config).state_dict().items()}


@cache
def official_shapes(role: str, name: str, config: Any) -> dict[str, tuple[int, ...]]:
    """Every official key that our model needs, with its shape: without those dropped on purpose."""
    shapes = {k: torch.empty(s, device="meta") for k, s in our_shapes(role, name, config).items()}
    official = keymap.to_official(shapes, family(role, name).key_map(config))
    return {key: tuple(value.shape) for key, value in official.items()}


def fill(model: Any, state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Any:
    """Gives an empty model its weights (our names, checked before) without a second copy; evaluation mode.

    Only tensors that start at an odd address of the file are copied: matrix products may round by alignment, and equal
    weights must give equal bits wherever they lie.
    `dtype` is that of the floats; None = as they are.
    """
    if dtype is not None:
        state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    state = {key: value if value.data_ptr() % _ALIGNMENT == 0 else value.clone() for key, value in state.items()}
    model.load_state_dict(state, strict=True, assign=True)
    tensors: Iterable[Tensor] = chain(model.parameters(), model.buffers())
    assert not any(t.is_meta for t in tensors), "a tensor that is not in the state dict was made with torch.empty"
    return model.eval()


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """sha256 over the sorted names, dtypes, shapes and bytes of tensors."""

    def one(name: str) -> bytes:
        value = state[name].detach().cpu().contiguous()
        digest = hashlib.sha256(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
        return digest.digest()

    with ThreadPoolExecutor() as pool:
        return hashlib.sha256(b"".join(pool.map(one, sorted(state)))).hexdigest()


def count_parameters(entry: Entry) -> int:
    """Number of trainable parameters, without loading any weights."""
    return sum(p.numel() for p in build_empty(entry.role, entry.family, entry.config).parameters())
