"""Image sources: preparing them from packages (`smalti.data.prepare`), and the samples that come with the package.

This part holds no text encoding and imports no torch by itself; names are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Sample": "smalti.data.sample_images",
    "samples": "smalti.data.sample_images",
}
__all__ = ["Sample", "samples"]

if TYPE_CHECKING:
    from smalti.data.sample_images import Sample, samples


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'smalti.data' has no attribute {name!r}; public names: {', '.join(sorted(_PUBLIC))}")
