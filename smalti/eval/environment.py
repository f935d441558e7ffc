"""What a result was made with: versions, device, threads."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import smalti

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "huggingface-hub", "transformers", "diffusers")


def environment() -> dict[str, Any]:
    """Versions, processor, threads and accelerators as plain data."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "smalti": smalti.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "device": devices[0] if devices else "cpu",
        "devices": devices,
        "mps": torch.backends.mps.is_available(),
        "threads": torch.get_num_threads(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
