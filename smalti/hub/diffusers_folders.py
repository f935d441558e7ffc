"""Folders as diffusers writes them: config.json and weights of an autoencoder, alone or as `vae` of a pipeline.

Shares nothing with our own folders but the name config.json, in which diffusers names the class.
"""

import json
from pathlib import Path

from smalti.hub.registry import Entry, LocalFile
from smalti.images import Resize

CONFIG, VAE = "config.json", "vae"
WEIGHTS = "diffusion_pytorch_model.safetensors"
_OTHERS = ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")
_LONGEST = 1_000_000  # characters of a config


def autoencoder_of(folder: Path, file: Path | None = None) -> Entry | None:
    """The autoencoder that a folder holds, or that `file` in it is; None for a folder of another kind.

    Errors: FileNotFoundError for a folder without weights, ValueError for an architecture that is not supported.
    """
    from smalti.tokenizers.kl.config import from_diffusers

    places = (folder,) if file is not None else (folder, folder / VAE)
    described = [p for p in places if is_autoencoder(p / CONFIG)]
    if not described:
        return None
    here = described[0]
    try:
        config = from_diffusers(json.loads((here / CONFIG).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{here / CONFIG} cannot be used: {error}") from error
    return Entry(
        name=str(folder),
        role="tokenizer",
        family="kl",
        config=config,
        source=LocalFile(path=file or _weights(here)),
        code_license="Apache-2.0",
        image_size=config.image_size,
        resize=Resize(),
    )


def is_autoencoder(file: Path) -> bool:
    """True for a config.json in which diffusers describes an autoencoder known here."""
    from smalti.tokenizers.kl.config import READERS

    if not file.is_file() or file.stat().st_size > _LONGEST:
        return False
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(data, dict) and data.get("_class_name") in READERS


def _weights(folder: Path) -> Path:
    for name in (WEIGHTS, *_OTHERS):
        if (folder / name).is_file():
            return folder / name
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:8])
    raise FileNotFoundError(f"{folder} has the config of an autoencoder, but no {WEIGHTS}; there is {there}")
