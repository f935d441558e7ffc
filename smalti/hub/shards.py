"""Weights in several files: the index that transformers writes beside them (*.safetensors.index.json)."""

import json
from pathlib import Path

from torch import Tensor

from smalti.files import read_tensors
from smalti.hub.keymap import WeightsError

INDEX = ".safetensors.index.json"
_LONGEST = 50_000_000  # characters of an index


def is_index(path: Path) -> bool:
    """True for the name of an index."""
    return path.name.endswith(INDEX)


def shard_names(index: Path, prefix: str = "") -> dict[str, list[str]]:
    """File beside the index -> keys in it that begin with `prefix`; files without any are left out.

    Errors: FileNotFoundError; WeightsError if the index is damaged or names anything but files beside it.
    """
    if not index.is_file():
        raise FileNotFoundError(f"no weight file {index}")
    try:
        if index.stat().st_size > _LONGEST:
            raise ValueError(f"it is longer than {_LONGEST} bytes")
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
            raise ValueError("weight_map must give the name of a file for every key")
        for name in set(files.values()):
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise ValueError(f"{name!r} is no .safetensors file beside it")
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{index} is no index of weight files: {error}") from error
    shards: dict[str, list[str]] = {}
    for key, name in files.items():
        if key.startswith(prefix):
            shards.setdefault(name, []).append(key)
    return shards


def read_shards(index: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of all files, memory-mapped, of those keys that begin with `prefix`.

    Errors: FileNotFoundError naming the files that are missing; WeightsError if a key is not where the index says.
    """
    shards = shard_names(index, prefix)
    if missing := sorted(name for name in shards if not (index.parent / name).is_file()):
        raise FileNotFoundError(f"{index} names weight files that are not beside it: {', '.join(missing)}")
    state: dict[str, Tensor] = {}
    for name, keys in shards.items():
        tensors, _ = read_tensors(index.parent / name)
        if lost := [key for key in keys if key not in tensors]:
            raise WeightsError(f"{index} says that {name} holds {lost[0]!r}, which it does not")
        state |= {key: tensors[key] for key in keys}
    return state
