"""Files that are whole or absent: every writer goes through a temporary name in the same folder, fsync and rename."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; moves it into place when the block ends well, deletes it otherwise.

    A full disk or a killed process leaves `path` as it was. Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"could not write {path} ({error.strerror}); nothing was left behind") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a whole file of bytes."""
    with whole(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes a whole text file, UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, data: Any) -> None:
    """Writes plain data as indented JSON."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_tensors(path: str | Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file."""
    from safetensors.torch import save_file

    with whole(path) as temporary:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, temporary, metadata=dict(metadata or {}))


def read_tensors(
    path: str | Path, wanted: Callable[[str], bool] | None = None
) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Tensors and header of a safetensors file; FileNotFoundError or a ValueError that names the file.

    `wanted`: of which names (default: all). The tensors are views of the mapped file: who keeps one keeps the mapping.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            names = [key for key in file.keys() if wanted is None or wanted(key)]  # noqa: SIM118
            return {key: file.get_tensor(key) for key in names}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
