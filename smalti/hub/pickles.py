"""Reading `.pt`, `.pth`, `.bin` and `.safetensors` files of strangers: tensors and plain data, never code.

Pickles go through `torch.load(weights_only=True)`; besides tensors and containers only a fixed list of data classes is
allowed, because published files hold them (training arguments, paths, numpy numbers).
"""

import argparse
import collections
import pathlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from smalti.files import read_tensors
from smalti.hub.keymap import WeightsError
from smalti.hub.shards import is_index, read_shards

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

WRAPPINGS: dict[str, tuple[str, ...]] = {
    "model": ("model",),
    "ema": ("ema",),
    "module": ("module",),
    "state_dict": ("state_dict",),
    "var_wo_ddp": ("trainer", "var_wo_ddp"),
    "vae_local": ("trainer", "vae_local"),
    "model_sd": ("model", "sd"),
}
"""Name of a wrapping -> where the state dict is in the file; "" is a bare state dict."""

_PREFIXES = ("module.", "_orig_mod.")


def _allowed() -> list[Any]:
    reconstruct: Any = np.empty(0).__reduce__()[0]  # numpy's own function that rebuilds an array
    scalar: Any = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [argparse.Namespace, collections.OrderedDict, np.ndarray, np.dtype]
    allowed += [type(np.dtype(kind)) for kind in "?bhilqBHILQefdSUM"]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(reconstruct, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    allowed.append((collections.OrderedDict, "easydict.EasyDict"))  # settings in the files of LARP's trainer
    for module in ("pathlib", "pathlib._local"):
        for kind, plain in (("Posix", pathlib.PurePosixPath), ("Windows", pathlib.PureWindowsPath)):
            allowed += [(plain, f"{module}.{kind}Path"), (plain, f"{module}.Pure{kind}Path")]
    return allowed


def read_weights(path: str | Path, prefix: str = "") -> Any:
    """Everything a weight file holds, on the CPU, memory-mapped where the format allows.

    `path` may be the index of several files; of these only the ones with keys that begin with `prefix` are read.
    Errors: FileNotFoundError; WeightsError naming the file if it is damaged, of another kind, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    if is_index(path):
        return read_shards(path, prefix)
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path} is no weight file: known endings are {', '.join(SUFFIXES)}")
    try:
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from error
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise WeightsError(
            f"{path} is not a whole weight file ({type(error).__name__}: {_first_line(error)})"
        ) from error


def unwrap(
    data: Any, wrapping: str | None = None, *, role: str | None = None, name: str = "the file"
) -> dict[str, Tensor]:
    """The state dict in what a file holds, without prefixes that training wrappers add.

    `wrapping` is a name of WRAPPINGS or "" (bare); None finds it out. `role` decides between the models of a trainer
    file. Errors: WeightsError if there is none, or several and nothing says which.
    """
    if wrapping is not None and wrapping not in ("", *WRAPPINGS):
        raise ValueError(f"wrapping {wrapping!r} is unknown; allowed: '' (bare), {', '.join(map(repr, WRAPPINGS))}")
    found = candidates(data, role)
    if wrapping in found:
        return _without_prefixes(found[wrapping])
    if wrapping and found and not name.endswith(".safetensors"):  # which has no wrapping: it is always bare
        raise WeightsError(_not_wrapped(name, wrapping, list(found)))
    if len(found) == 1:
        return _without_prefixes(next(iter(found.values())))
    if found:
        options = " or ".join(f"wrapping={key!r}" for key in found)
        raise WeightsError(f"{name} holds several sets of weights ({', '.join(found)}): say which, {options}")
    holds = f"keys {', '.join(map(repr, list(data)[:5]))}" if isinstance(data, Mapping) else f"a {type(data).__name__}"
    raise WeightsError(f"{name} holds no state dict (names with tensors), but {holds}")


def candidates(data: Any, role: str | None = None) -> dict[str, Mapping[str, Tensor]]:
    """Every state dict in what a file holds, by the name of its wrapping ("" = bare)."""
    other = {"generator": "vae_local", "tokenizer": "var_wo_ddp"}.get(role or "")
    return {key: state for key, state in _states(data) if key != other}


def _not_wrapped(name: str, wrapping: str, found: list[str]) -> str:
    """What a file holds instead of the expected state dict, and how to ask for that."""
    kinds = {"": "a bare state dict, as sharded (FSDP) training writes it", "model": "the weights of the last step"}
    holds = " and ".join(kinds.get(key, f"[{key!r}]") for key in found)
    options = " or ".join(f"wrapping={key!r}" for key in found)
    average = " (the moving average that published numbers are measured with)" if wrapping == "ema" else ""
    return f"{name} has no {wrapping!r} weights{average}; it holds {holds}: if you want those, pass {options}"


def _states(data: Any) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    if _is_state(data):
        yield "", data
        return
    for name, path in WRAPPINGS.items():
        inner: Any = data
        for key in path:
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        if _is_state(inner):
            yield name, inner


def _is_state(data: Any) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(data, Mapping)
        and bool(data)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in data.items())
    )


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = dict(state)
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in result)), ""):
        result = {key[len(prefix) :]: value for key, value in result.items()}
    return result


def _refusal(path: Path, message: str) -> str:
    match = re.search(r"GLOBAL ([\w.]+)", message)
    if match is None:
        return f"{path} is not a whole weight file, or one that cannot be read safely: {_first_line(message)}"
    return (
        f"{path} was not loaded: reading it would call {match[1]}, which is not on the list of plain data. "
        "Nothing was run. If you trust its author, convert it to .safetensors where it was made"
    )


def _first_line(error: object) -> str:
    return str(error).strip().split("\n")[0][:200]
