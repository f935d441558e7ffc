"""ADM-compatible .npz files: samples (uint8 NHWC under `arr_0`) and reference statistics (mu, sigma, mu_s, sigma_s).

Samples are read and written in batches, so that 50,000 images need no more memory than one batch.
Shape suffixes: B batch, N images, H W pixels.
"""

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from smalti.eval.moments import Statistics
from smalti.files import whole

MAX_DIM = 16_384
"""Features a reference file may have: a covariance of more than 2 GB is none of an Inception."""


def sample_shape(path: str | Path) -> tuple[int, int, int]:
    """(N, H, W) of the samples in a file, without reading them. Errors: as `read_samples`."""
    with _samples(Path(path)) as (_, shape):
        return shape


def read_samples(path: str | Path, *, batch: int = 64) -> Iterator[Tensor]:
    """Batches uint8 [B, 3, H, W] of the array `arr_0`, in order.

    Errors: FileNotFoundError; ValueError for a file without uint8 [N, H, W, 3] under `arr_0`, or a damaged one.
    """
    with _samples(Path(path)) as (file, (count, height, width)):
        for start in range(0, count, batch):
            n = min(batch, count - start)
            data = _exactly(file, n * height * width * 3, path)
            array = np.frombuffer(data, np.uint8).reshape(n, height, width, 3)
            yield torch.from_numpy(array.transpose(0, 3, 1, 2).copy())


def read_labels(path: str | Path) -> Tensor | None:
    """int64 [N] of the array `arr_1`, where ADM's sampler has written classes; None without it."""
    with zipfile.ZipFile(path) as archive:
        if "arr_1.npy" not in archive.namelist():
            return None
    with np.load(path, allow_pickle=False) as arrays:
        return torch.from_numpy(arrays["arr_1"].astype(np.int64))


def write_samples(path: str | Path, batches: Iterable[Tensor], count: int, *, labels: Tensor | None = None) -> Path:
    """Writes `count` images from batches uint8 [B, 3, H, W]; labels int64 [N] go to `arr_1`. Never a partial file.

    Errors: ValueError if the batches are of other images than uint8 RGB of one size, or not `count` of them.
    """
    path, iterator = Path(path), iter(batches)
    if path.suffix != ".npz":
        raise ValueError(f"samples are written as .npz, got {path}: use {path.with_suffix('.npz')}")
    first = next(iterator, None)
    if first is None:
        raise ValueError("no images to write")
    height, width = first.shape[-2:]
    shape = (count, height, width, 3)
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        written = 0
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            _header(file, shape, np.dtype(np.uint8))
            for part in chain([first], iterator):
                if part.dtype != torch.uint8 or tuple(part.shape[1:]) != (3, height, width):
                    raise ValueError(
                        f"got {part.dtype} {list(part.shape)}; all must be uint8 [B, 3, {height}, {width}]"
                    )
                written += len(part)
                file.write(part.cpu().permute(0, 2, 3, 1).contiguous().numpy().tobytes())
        if written != count or (labels is not None and len(labels) != count):
            raise ValueError(
                f"{count} images were announced, {written} came; labels: {None if labels is None else len(labels)}"
            )
        if labels is not None:
            with archive.open("arr_1.npy", "w") as file:
                np.lib.format.write_array(file, labels.cpu().numpy().astype(np.int64), allow_pickle=False)
    return path


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceStatistics:
    """Statistics of a reference set, as ADM publishes them."""

    pool: Statistics
    """Of Inception's pooled 2048 features, for FID."""
    spatial: Statistics | None
    """Of its 2023 spatial features, for sFID; None = not in the file."""


def read_statistics(path: str | Path) -> ReferenceStatistics:
    """mu, sigma and, where present, mu_s, sigma_s.

    The number of images is read from `n` where this library wrote it; ADM's files do not say. Errors:
    FileNotFoundError; ValueError for another file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = set(arrays.files)
            if not {"mu", "sigma"} <= names:
                raise ValueError(f"{path} has no mu and sigma, but {', '.join(sorted(names)) or 'nothing'}")
            if arrays["mu"].ndim != 1 or len(arrays["mu"]) > MAX_DIM:
                raise ValueError(f"{path}: mu is {list(arrays['mu'].shape)}; allowed is one row of up to {MAX_DIM}")
            n = int(arrays["n"]) if "n" in names else None
            pool = _statistics(arrays["mu"], arrays["sigma"], n)
            spatial = _statistics(arrays["mu_s"], arrays["sigma_s"], n) if {"mu_s", "sigma_s"} <= names else None
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"{path} is not a whole .npz file: {error}") from error
    return ReferenceStatistics(pool=pool, spatial=spatial)


def write_statistics(path: str | Path, pool: Statistics, spatial: Statistics | None = None) -> Path:
    """Writes statistics as ADM's evaluator reads them, with the number of images beside. Never a partial file."""
    path = Path(path)
    arrays: dict[str, Any] = {"mu": pool.mean.numpy(), "sigma": pool.covariance.numpy()}
    if spatial is not None:
        arrays |= {"mu_s": spatial.mean.numpy(), "sigma_s": spatial.covariance.numpy()}
    if pool.n is not None:
        arrays["n"] = np.int64(pool.n)
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return path


# ---- one array of a zip file, as a stream ----------------------------------------------------------------------------


@contextmanager
def _samples(path: Path) -> Iterator[tuple[IO[bytes], tuple[int, int, int]]]:
    """Stream of the pixels behind the header of `arr_0`, and (N, H, W)."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not an .npz file: {error}") from error
    with archive:
        if "arr_0.npy" not in archive.namelist():
            held = ", ".join(name.removesuffix(".npy") for name in archive.namelist()) or "nothing"
            raise ValueError(f"{path} has no array arr_0, where samples stand, but {held}")
        with archive.open("arr_0.npy") as file:
            yield file, _shape(file, path)


def _shape(file: IO[bytes], path: Path) -> tuple[int, int, int]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no readable array: {error}") from error
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
        raise ValueError(f"{path}: arr_0 is {dtype} {list(shape)}; allowed is uint8 [N, H, W, 3]")
    return shape[0], shape[1], shape[2]


def _exactly(file: IO[bytes], count: int, path: str | Path) -> bytes:
    try:
        data = file.read(count)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if len(data) != count:
        raise ValueError(f"{path} is cut off: {count - len(data)} bytes are missing")
    return data


def _header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def _statistics(mu: np.ndarray, sigma: np.ndarray, n: int | None) -> Statistics:
    return Statistics(mean=torch.from_numpy(mu).double(), covariance=torch.from_numpy(sigma).double(), n=n)
