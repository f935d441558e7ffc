"""Where the images of an evaluation come from: a folder, the packaged samples, or two folders of equal names."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif", ".avif")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A list of image files in a fixed order."""

    name: str
    """What the result calls it."""
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    """What the rows of the result call them."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError(f"{self.name} holds no image files ({', '.join(SUFFIXES)}): nothing to evaluate")

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, i: int) -> Tensor:
        """Image i, float [1, 3, H, W] in [0, 1]. Errors: OSError or ValueError that name the file and the reason."""
        from smalti.images import read_images

        return read_images(self.paths[i])

    def digest(self, i: int) -> str:
        """sha256 of file i."""
        with self.paths[i].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(digests: Sequence[str]) -> str:
    """sha256 over the sorted hashes of the files: the same set of images has the same one, whatever their names."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def folder(path: str | Path, limit: int | None = None) -> Source:
    """All image files below a folder, sorted by path. Errors: FileNotFoundError; ValueError if there are none."""
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())[:limit]
    names = tuple(p.relative_to(root).as_posix() for p in found)
    return Source(name=f"folder {root.name}", paths=tuple(found), names=names)


def packaged() -> Source:
    """The samples inside the package; no model of this package was trained on them."""
    from smalti.data.sample_images import samples

    paths = tuple(sample.path for sample in samples())
    return Source(name="packaged samples", paths=paths, names=tuple(p.name for p in paths))


def pairs(originals: str | Path, reconstructions: str | Path) -> tuple[Source, Source]:
    """Two folders whose images have the same relative names, up to the suffix.

    Errors: ValueError that names images without a partner: a missing reconstruction must not go unnoticed.
    """
    a, b = folder(originals), folder(reconstructions)
    stems = [{Path(n).with_suffix("").as_posix(): i for i, n in enumerate(s.names)} for s in (a, b)]
    alone = sorted(set(stems[0]) ^ set(stems[1]))
    if alone:
        shown = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
        raise ValueError(
            f"{len(alone)} images have no partner of the same name in the other folder: {shown}. Give two folders with "
            "the same image names"
        )
    order = [stems[1][stem] for stem in stems[0]]
    return a, Source(name=b.name, paths=tuple(b.paths[i] for i in order), names=tuple(b.names[i] for i in order))
