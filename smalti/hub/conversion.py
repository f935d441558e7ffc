"""Writing a model in another layout: the authors' files to our folders and back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from smalti.hub.assembly import as_stated, fill, read_state
from smalti.hub.families import build_empty
from smalti.hub.fetch import fetch
from smalti.hub.loading import find, load
from smalti.hub.pickles import SUFFIXES
from smalti.hub.saving import save_official, save_pretrained
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import Tokenizer


def convert(
    source: str | Path,
    target: str | Path,
    *,
    like: str | None = None,
    wrapping: str | None = None,
    tokenizer: str | Path | None = None,
) -> Path:
    """Writes a model (name, folder or official file) as an official file or as a folder of ours; tensors stay equal.

    A target that ends like a weight file gets the authors' names, with the constants their files hold; any other one
    is a folder. A generator's folder names its tokenizer, so that must be loadable too (`tokenizer` as for `load`).
    Errors: ValueError for unknown names, WeightsError, FetchError; FileExistsError if the target is there.
    """
    target = Path(target)
    if target.exists():
        raise FileExistsError(f"{target} is there already: choose another target, or remove it first")
    entry = find(str(source), like=like, wrapping=wrapping)
    path = fetch(entry)
    entry = as_stated(entry, path)
    model = fill(build_empty(entry.role, entry.family, entry.config), read_state(entry, path))
    if target.suffix in SUFFIXES:
        return save_official(model, target)
    facts: dict[str, Any] = {"name": target.name, "license": entry.weights_license, "notes": entry.notes}
    if isinstance(model, Tokenizer):
        model.resize = entry.resize
        return save_pretrained(model, target, **facts)
    whole = load(source, like=like, wrapping=wrapping, tokenizer=tokenizer)
    assert isinstance(whole, ImageGenerator)
    return save_pretrained(replace(whole, generator=model), target, **facts)
