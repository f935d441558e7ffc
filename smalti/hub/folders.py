"""Our own layout of a model: a folder with config.json, model.safetensors and README.md (the model card).

config.json is data: it is checked field by field and never names code to import.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from smalti.decoding.settings import Settings
from smalti.hub.families import config_from_dict, family
from smalti.hub.registry import Entry, Folder, Published
from smalti.images import Resize
from smalti.text.chat import Chat
from smalti.text.t5 import T5

FORMAT = "smalti/1"
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
PACKAGED = Path(__file__).parents[1] / "weights"

_FIELDS = {
    "format", "role", "family", "name", "config", "tokenizer", "settings", "classes", "text", "license", "image_size",
    "resize", "published", "notes", "card", "weights_of",
}  # fmt: skip


def read_folder(path: str | Path, *, packaged: bool = False) -> Entry:
    """The entry that a folder's config.json describes; its weights are not read.

    Errors: FileNotFoundError, ValueError naming the file for another format, unknown fields or wrong values.
    """
    path = Path(path)
    file = path / CONFIG
    if not file.is_file():
        there = (
            ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing" if path.is_dir() else "no such folder"
        )
        raise FileNotFoundError(f"{path} is no model folder: it needs {CONFIG} and {WEIGHTS}; there is {there}")
    try:
        data = json.loads(file.read_text())
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}: smalti.hub.save_pretrained writes such folders")
        if unknown := sorted(set(data) - _FIELDS):
            raise ValueError(f"unknown fields {', '.join(unknown)}; known: {', '.join(sorted(_FIELDS))}")
        return _entry(path, data, packaged)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{file} cannot be used: {reason}") from error


def _entry(path: Path, data: Mapping[str, Any], packaged: bool) -> Entry:
    source = Folder(path=path, packaged=packaged)
    extras = {
        "name": str(data["name"]),
        "settings": Settings.from_dict(data.get("settings") or {}),
        "notes": str(data.get("notes", "")),
        "published": tuple(Published(**p) for p in data.get("published", ())),
    }
    if other := data.get("weights_of"):  # the same weights under other settings, such as a drafter + refiner pair
        return replace(_packaged(str(other)), **extras)
    role, tokenizer, text = data["role"], data.get("tokenizer") or {}, data.get("text") or {}
    config = family(role, data["family"]).read_config(data["config"])
    names, known = tuple(str(name) for name in data.get("classes", ())), getattr(config, "classes", None)
    if names and len(names) != known:
        raise ValueError(f"classes has {len(names)} names, but the model knows {known} classes")
    return Entry(
        role=role,
        family=data["family"],
        config=config,
        tokenizer=tokenizer.get("name"),
        tokenizer_fingerprint=tokenizer.get("fingerprint", ""),
        source=source,
        weights_license=str(data.get("license", "")),
        code_license="Apache-2.0",
        image_size=data.get("image_size"),
        resize=config_from_dict(Resize, data.get("resize") or {}),
        num_classes=known,
        class_names=names,
        text=_text_encoder(text.get("encoder")),
        text_fingerprint=text.get("fingerprint", ""),
        **extras,
    )


def _text_encoder(data: Any) -> Literal["packaged"] | T5 | Chat | None:
    if isinstance(data, Mapping):
        return config_from_dict(Chat if "assistant" in data else T5, data)
    if data not in (None, "packaged"):
        raise ValueError(f"it asks for the text encoder {data!r}; known: 'packaged', or the fields of a T5 or a Chat")
    return data


@cache
def packaged_entries() -> tuple[Entry, ...]:
    """The models inside the package, found by their folders alone."""
    return tuple(read_folder(file.parent, packaged=True) for file in sorted(PACKAGED.glob(f"*/{CONFIG}")))


def _packaged(name: str) -> Entry:
    for file in sorted(PACKAGED.glob(f"*/{CONFIG}")):
        data = json.loads(file.read_text())
        if data.get("name") == name and "weights_of" not in data:
            return read_folder(file.parent, packaged=True)
    raise ValueError(f"weights_of names {name!r}, which is not a packaged model with weights of its own")
