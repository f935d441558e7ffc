"""Smalti: image tokenizers and autoregressive image generators behind one typed API.

The public names below are imported on first use, so that ``import smalti`` costs nothing and imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Condition": "smalti.generators.base",
    "Generation": "smalti.pipeline",
    "Generator": "smalti.generators.base",
    "Guidance": "smalti.decoding.guidance",
    "ImageGenerator": "smalti.pipeline",
    "Sampling": "smalti.decoding.sampling",
    "Segment": "smalti.tokens",
    "TokenLayout": "smalti.tokens",
    "Tokenizer": "smalti.tokenizers.base",
    "Tokens": "smalti.tokens",
    "list_models": "smalti.hub",
    "load": "smalti.hub",
    "model_info": "smalti.hub",
    "read_images": "smalti.images",
    "write_images": "smalti.images",
}
__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from smalti.decoding.guidance import Guidance
    from smalti.decoding.sampling import Sampling
    from smalti.generators.base import Condition, Generator
    from smalti.hub import list_models, load, model_info
    from smalti.images import read_images, write_images
    from smalti.pipeline import Generation, ImageGenerator
    from smalti.tokenizers.base import Tokenizer
    from smalti.tokens import Segment, TokenLayout, Tokens


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'smalti' has no attribute {name!r}; public names: {', '.join(sorted(_PUBLIC))}")


def __dir__() -> list[str]:
    return sorted(__all__)
