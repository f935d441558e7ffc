"""Fetching registry packages with the user's own clients, and reading them without unpacking them onto the disk.

Archives come from strangers: nothing in them is executed, no member is written under its own name, and names and
sizes are checked before a byte is kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

MAX_MEMBER_BYTES = 256 * 2**20
MAX_TOTAL_BYTES = 2 * 2**30
MAX_MEMBERS = 200_000
CLIENT_TIMEOUT_S = 900


@dataclass(frozen=True, kw_only=True)
class Package:
    """One pinned registry package."""

    registry: Literal["npm", "pypi", "debian"]
    """Which client fetches it: npm, pip or apt-get."""
    name: str
    """Name as the registry spells it, with the scope for npm."""
    version: str
    """Exact version."""
    sha256: str = ""
    """Digest of the archive; checked after fetching when given."""
    sdist: bool = False
    """Published as a source archive only: pip runs its build script while downloading, so `sha256` is required."""

    @property
    def label(self) -> str:
        """`registry:name@version`, as written into metadata."""
        return f"{self.registry}:{self.name}@{self.version}"

    @property
    def file_stem(self) -> str:
        """How the file name of the archive starts, as the client writes it."""
        if self.registry == "npm":
            return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}"
        if self.registry == "debian":
            return f"{self.name}_{self.version}"
        return f"{self.name.replace('-', '_')}-{self.version}"


class PackageError(RuntimeError):
    """A package cannot be had, or its archive is not what it should be."""


def cache_dir() -> Path:
    """Where fetched archives are kept: `$SMALTI_CACHE/packages` or `~/.cache/smalti/packages`."""
    root = os.environ.get("SMALTI_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "smalti") / "packages"


def fetch(package: Package, *, source: Path | None = None) -> Path:
    """Return the archive of `package`, from `source` (a file or a folder), the cache or the registry.

    Raises PackageError if the client is missing, the registry refuses, or the digest differs.
    """
    cached = None if source is not None else _find(package, cache_dir())
    found = _in_source(package, source) if source is not None else cached or _download(package)
    if package.sha256:
        check_sha256(found, package.sha256)
    return found


def check_sha256(path: Path, expected: str) -> None:
    """Raise PackageError unless the file has this SHA-256 digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise PackageError(
            f"{path.name} has sha256 {digest.hexdigest()}, expected {expected}. "
            "Delete the file and fetch it again; if it stays different, the publisher has replaced it."
        )


def _find(package: Package, folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    return next((p for p in sorted(folder.iterdir()) if p.name.lower().startswith(package.file_stem.lower())), None)


def _in_source(package: Package, source: Path) -> Path:
    if source.is_file():
        return source
    found = _find(package, source)
    if found is None:
        raise PackageError(
            f"no file starting with {package.file_stem!r} in {source}. Put the archive of {package.label} there, "
            "or leave out `source` to fetch it."
        )
    return found


def _command(package: Package, folder: Path) -> list[str]:
    if package.registry == "npm":
        return ["npm", "pack", "--loglevel=error", "--ignore-scripts", f"{package.name}@{package.version}"]
    if package.registry == "debian":
        return ["apt-get", "download", f"{package.name}={package.version}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    if not package.sdist:
        return [*pip, "--only-binary=:all:", f"{package.name}=={package.version}"]
    assert package.sha256, f"{package.label}: a source archive needs a digest, pip checks it before running anything"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    return [*pip, "--require-hashes", "--no-binary", package.name, "--requirement", str(requirements)]


def _download(package: Package) -> Path:
    if package.sdist:
        print(
            f"note: {package.label} is published as source only, so pip runs its build script while downloading. "
            "pip checks the pinned digest first. To avoid it, fetch the archive another way and pass source=."
        )
    target = cache_dir()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as temporary:
        folder = Path(temporary)
        command = _command(package, folder)
        advice = f"Install it, or get the archive of {package.label} yourself and pass source=FILE_OR_FOLDER."
        if shutil.which(command[0]) is None:
            raise PackageError(f"{command[0]} is needed to fetch {package.label} and was not found. {advice}")
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise PackageError(f"fetching {package.label} took over {CLIENT_TIMEOUT_S} s and was stopped.") from None
        found = _find(package, folder)
        if done.returncode != 0 or found is None:
            client = "pip" if package.registry == "pypi" else command[0]
            tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise PackageError(
                f"{client} could not fetch {package.label} (exit {done.returncode}):\n{tail}\n"
                "If you have the archive already, pass source=FILE_OR_FOLDER."
            )
        os.replace(found, target / found.name)
        return target / found.name


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the regular files of a .tgz, .tar.*, .whl, .zip or .deb for which `wanted(name)`.

    Nothing is written to disk. Raises PackageError on absolute names, names with `..`, too many members, a member
    above MAX_MEMBER_BYTES or more than MAX_TOTAL_BYTES in all. Links and devices are skipped.
    """
    total = 0
    for count, (name, size, read) in enumerate(_open(archive)):
        if count >= MAX_MEMBERS:
            raise PackageError(f"{archive.name} has more than {MAX_MEMBERS} members; refused.")
        _check_name(archive, name)
        if not wanted(name):
            continue
        total += size
        if size > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES:
            raise PackageError(
                f"{archive.name}: {name!r} has {size} bytes ({total} in all); at most {MAX_MEMBER_BYTES} a member "
                f"and {MAX_TOTAL_BYTES} in all are read."
            )
        content = read()
        if len(content) > size:
            raise PackageError(f"{archive.name}: {name!r} holds more than the {size} bytes it declares; refused.")
        yield name, content


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or name[1:2] == ":":
        raise PackageError(f"{archive.name} holds the unsafe member name {name!r}; refused.")


def _open(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    try:
        if archive.suffix in (".whl", ".zip"):
            yield from _open_zip(archive)
        elif archive.suffix == ".deb":
            yield from _open_tar(_deb_data(archive))
        else:
            with archive.open("rb") as file:
                yield from _open_tar(file)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise PackageError(f"{archive} cannot be read as an archive: {error}") from error


def _open_zip(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if not info.is_dir():
                yield info.filename, info.file_size, lambda info=info: file.read(info)


def _open_tar(stream: io.IOBase | io.BufferedReader) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with tarfile.open(fileobj=stream, mode="r:*") as file:  # pyright: ignore[reportArgumentType, reportCallIssue]
        for info in file:
            if info.isfile():
                member = file.extractfile(info)
                assert member is not None
                yield info.name, info.size, member.read


def _deb_data(archive: Path) -> io.BytesIO:
    """The data.tar.* of a Debian package (an `ar` archive: 8 bytes of magic, then 60-byte headers)."""
    with archive.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise PackageError(f"{archive.name} is not a Debian package (no ar header).")
        while header := file.read(60):
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
            if size > MAX_TOTAL_BYTES:
                raise PackageError(f"{archive.name}: {name} declares {size} bytes; refused.")
            if name.startswith("data.tar"):
                return io.BytesIO(file.read(size))
            file.seek(size + size % 2, io.SEEK_CUR)
    raise PackageError(f"{archive.name} holds no data.tar.")
