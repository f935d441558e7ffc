"""Models by name, from folders and from official files; saving them; what is known about each."""

from smalti.hub.assembly import count_parameters, fingerprint
from smalti.hub.conversion import convert
from smalti.hub.fetch import FetchError
from smalti.hub.keymap import WeightsError
from smalti.hub.loading import from_pretrained, load
from smalti.hub.registry import Entry, list_models, model_info, register
from smalti.hub.saving import save_official, save_pretrained
from smalti.hub.verification import Check, verify

__all__ = [
    "Check",
    "Entry",
    "FetchError",
    "WeightsError",
    "convert",
    "count_parameters",
    "fingerprint",
    "from_pretrained",
    "list_models",
    "load",
    "model_info",
    "register",
    "save_official",
    "save_pretrained",
    "verify",
]
