"""Packs code, data and recipe into one .tar.gz, for training on a machine without network.

The same content gives the same bytes: files are sorted and carry no times, owners or paths of this machine.
"""

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from smalti.files import whole
from smalti.training.recipe import load_recipe, stages_of

PACKAGE = Path(__file__).parents[1]
NEEDED = "torch torchvision numpy pillow pyyaml safetensors accelerate huggingface-hub lpips tensorboard timm"
LEFT_OUT = ("__pycache__", "samples")


def pack(out: str | Path, *, data: Path, networks: Path, recipe: str = "minis", setting: str = "gpu") -> Path:
    """Writes the archive and returns its path; it unpacks into `smalti-training/`.

    Errors: FileNotFoundError for a missing bank or network, ValueError for an unknown recipe or setting.
    """
    stages = [
        load_recipe(stage, setting, text_features=1) for stage in stages_of(recipe)
    ]  # a broken recipe is found here
    names = {"lpips_alex", *(name for stage in stages for name in stage.networks)}
    files = [networks / f"{name}.safetensors" for name in sorted(names)]
    for path, command in ((data, "smalti data pack"), *((path, "smalti data prepare networks") for path in files)):
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}: make it with `{command}`")
    command = (
        f"python -m smalti.training {recipe} --setting {setting} "
        "--data bank.safetensors --networks networks --out runs/minis"
    )
    readme = (
        f"Needs Python 3.11 or later with: {NEEDED}. No installation, no network. In this folder:\n\n"
        f"    {command}\n\nAn interrupted run goes on with the same command and --resume. "
        "Models are exported to runs/minis/*/model.\n"
    )
    out = Path(out)
    with whole(out) as temporary, temporary.open("wb") as file:
        zipped = gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0)
        with zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
            _add(archive, "README.txt", readme.encode())
            for path in _sources():
                _add(archive, f"smalti/{path.relative_to(PACKAGE).as_posix()}", path.read_bytes())
            _add(archive, "bank.safetensors", data.read_bytes())
            for path in files:
                _add(archive, f"networks/{path.name}", path.read_bytes())
    return out


def _sources() -> Iterator[Path]:
    """The package without samples and trained models, but with the text encoder that generators are trained with."""
    weights = PACKAGE / "weights"
    for path in sorted(PACKAGE.rglob("*")):
        inside = path.relative_to(PACKAGE).parts
        if not path.is_file() or any(part in LEFT_OUT or part.startswith(".") for part in inside):
            continue
        if weights in path.parents and inside[1] != "words":
            continue
        yield path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(f"smalti-training/{name}")
    info.size, info.mode = len(content), 0o644
    archive.addfile(info, io.BytesIO(content))
