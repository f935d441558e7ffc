"""What samples are compared with: real images, published statistics, or a file of both."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from smalti.eval.npz import ReferenceStatistics, read_statistics
from smalti.eval.protocols.base import Protocol
from smalti.eval.protocols.pixels import prepare
from smalti.eval.run.image_sets import FolderSet, ImageSet, NpzSet, file_digest
from smalti.eval.run.sources import folder
from smalti.tokenizers.base import Tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Real images, or what is known of them."""

    name: str
    images: ImageSet | None
    published: ReferenceStatistics | None
    digest: str | None
    """sha256 of the file; None for a folder, whose digest is made of its files as they are read."""


def images_at(path: Path, limit: int | None = None, prepared: Callable[[Tensor], Tensor] | None = None) -> ImageSet:
    """Images of a folder, sorted by path, or of an .npz file; the first `limit`."""
    if path.suffix == ".npz":
        return NpzSet(path, limit)
    return FolderSet(folder(path, limit), prepare=prepared)


def open_reference(path: Path | None, protocol: Protocol, tokenizer: Tokenizer | None) -> Reference | None:
    """The reference at a path; None stays None.

    Images of a folder are cropped as the protocol says; by "tokenizer": as that of the generator does it, or not at all
    where there is none. Errors: FileNotFoundError, or ValueError that says what the file holds.
    """
    if path is None:
        return None
    if path.suffix != ".npz":
        crop: Callable[[Tensor], Tensor] | None = partial(prepare, protocol)
        if protocol.crop == "tokenizer":
            crop = tokenizer.preprocess if tokenizer is not None else None
        return Reference(name=path.name, images=images_at(path, prepared=crop), published=None, digest=None)
    if not path.is_file():
        raise FileNotFoundError(f"no reference {path}: give a folder of images, or an .npz of images or statistics")
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy") for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not an .npz file: {error}") from error
    if not held & {"arr_0", "mu"}:
        raise ValueError(
            f"{path} holds {', '.join(sorted(held)) or 'nothing'}; a reference holds images (arr_0), statistics (mu, "
            "sigma, mu_s, sigma_s), or both"
        )
    return Reference(
        name=path.name,
        images=NpzSet(path) if "arr_0" in held else None,
        published=read_statistics(path) if "mu" in held else None,
        digest=file_digest(path),
    )
