"""Key map of diffusers' autoencoder files (vae/diffusion_pytorch_model.safetensors, a bare state dict)."""

import json
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from smalti.nn import dc_autoencoder, kl_autoencoder
from smalti.nn.kl_autoencoder import KLAutoencoderConfig
from smalti.tokenizers.kl.config import READERS, KLTokenizerConfig, from_diffusers

ALIASES = kl_autoencoder.OLD_KEYS
"""Official names of older files -> those of newer ones."""


def key_map(config: KLTokenizerConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    posterior = isinstance(config.autoencoder, KLAutoencoderConfig)
    return {key: f"autoencoder.net.{key}" for key in (kl_autoencoder if posterior else dc_autoencoder).KEYS}


def constants(config: KLTokenizerConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}


def config_in(path: Path, config: KLTokenizerConfig) -> KLTokenizerConfig:
    """What the config.json beside a file says, if it is one of diffusers, else `config`; the image size is `config`'s.

    Errors: ValueError naming the file for an architecture that is not supported.
    """
    beside = path.with_name("config.json")
    if not beside.is_file():
        return config
    try:
        data = json.loads(beside.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("_class_name") not in READERS:
            return config
        return replace(config, autoencoder=from_diffusers(data, config.image_size).autoencoder)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{beside} cannot be used: {error}") from error
