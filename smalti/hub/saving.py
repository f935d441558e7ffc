"""Writing models: our own folders with a model card, and official files for the authors' code."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smalti.files import read_tensors, whole, write_json, write_tensors, write_text
from smalti.hub import keymap
from smalti.hub.assembly import fingerprint
from smalti.hub.families import family_of
from smalti.hub.folders import CARD, CONFIG, FORMAT, WEIGHTS
from smalti.pipeline import ImageGenerator
from smalti.text.base import TextEncoder
from smalti.text.chat import ChatText
from smalti.text.t5 import T5Text
from smalti.tokenizers.base import Tokenizer

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def save_pretrained(
    model: Tokenizer | ImageGenerator,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    license: str | None = None,
    notes: str = "",
    published: tuple[Mapping[str, Any], ...] = (),
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Writes config.json, model.safetensors and README.md, which `from_pretrained` and `load` read.

    `dtype` is that of the stored weights (default: as they are); `published` are dicts with metric, value and protocol;
    `card` holds further facts for the model card (training data, recipe, time). A generator's tokenizer is named with
    its fingerprint, not copied: save it beside, or under a name that `load` knows.
    """
    folder = Path(folder)
    if dtype not in (None, *_DTYPES):
        raise ValueError(f"weights are stored as {', '.join(map(str, _DTYPES))}, got {dtype}")
    module: Any = model if isinstance(model, Tokenizer) else model.generator
    found = family_of(module)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "role": found.role,
        "family": found.name,
        "name": name or model.name or folder.name,
        "config": asdict(module.config),
    }
    if isinstance(model, Tokenizer):
        facts |= {"image_size": getattr(model.config, "image_size", None), "resize": asdict(model.resize)}
    else:
        facts |= _generator_facts(model)
    facts |= {
        "license": license if license is not None else getattr(model, "license", ""),
        "published": [dict(p) for p in published],
        "notes": notes,
        "card": dict(card or {}),
    }
    facts = json.loads(json.dumps(facts))  # fails here, before anything is written, if a fact is no plain data
    state = stored(module, dtype)
    write_tensors(folder / WEIGHTS, state, {"format": FORMAT, "name": facts["name"]})
    write_text(folder / CARD, model_card(facts, state))
    write_json(folder / CONFIG, facts)
    return folder


def update_card(folder: str | Path, **facts: Any) -> None:
    """Changes facts of a saved model (`published`, `notes`, `license`, `card`, `name`) and writes its card anew.

    The weights stay as they are. Errors: FileNotFoundError, ValueError for facts that are not of the card.
    """
    folder, allowed = Path(folder), {"published", "notes", "license", "card", "name"}
    if unknown := sorted(set(facts) - allowed):
        raise ValueError(f"a card has no {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} is no model folder: it has no {CONFIG}")
    now = {**json.loads((folder / CONFIG).read_text()), **facts}
    state, _ = read_tensors(folder / WEIGHTS)
    write_text(folder / CARD, model_card(now, state))
    write_json(folder / CONFIG, now)


def _generator_facts(model: ImageGenerator) -> dict[str, Any]:
    encoder = model.text_encoder
    if not model.tokenizer.name:
        raise ValueError("the generator's tokenizer has no name: set tokenizer.name to a model name or its folder")
    return {
        "tokenizer": {"name": model.tokenizer.name, "fingerprint": model.tokenizer.fingerprint},
        "settings": model.settings.to_dict(),
        "classes": list(model.classes),
        "text": _text_facts(encoder) if encoder is not None else None,
        "image_size": (model.tokenizer.image_size(model.generator.layout) or (model.tokenizer.sizes.value,))[0],
    }


def _text_facts(encoder: TextEncoder) -> dict[str, Any]:
    """A T5 or a chat is named by where it is published: its files are not read for that."""
    if isinstance(encoder, T5Text):
        return {"encoder": asdict(encoder.settings)}
    if isinstance(encoder, ChatText):
        return {"encoder": asdict(encoder.chat)}
    return {"encoder": "packaged", "fingerprint": encoder.fingerprint}


def stored(module: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The tensors of a model as they are stored: on the CPU, floats in `dtype`."""
    state = {key: value.detach().cpu() for key, value in module.state_dict().items()}
    if dtype is None:
        return state
    cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    for key, value in cast.items():
        if value.is_floating_point() and not torch.isfinite(value).all() and torch.isfinite(state[key]).all():
            raise ValueError(f"{key} holds values too large for {dtype}: store it as torch.float32")
    return cast


def save_official(model: nn.Module, path: str | Path) -> Path:
    """Writes the weights under the authors' names (bare state dict) as .safetensors, or as .pth for their code."""
    path, found = Path(path), family_of(model)
    config: Any = model.config
    state = keymap.to_official(stored(model), found.key_map(config), found.constants(config))
    if path.suffix == ".safetensors":
        write_tensors(path, state)
    elif path.suffix in (".pth", ".pt"):
        with whole(path) as temporary:
            torch.save({key: value.clone() for key, value in state.items()}, temporary)
    else:
        raise ValueError(f"official weights are written as .safetensors, .pth or .pt, got {path}")
    return path


def model_card(facts: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """README.md of a model folder: front matter, how to use it, numbers, facts."""
    name, license = facts["name"], facts["license"]
    count = sum(value.numel() for value in state.values())
    size = sum(value.numel() * value.element_size() for value in state.values())
    use = 'tokens = model.encode(smalti.read_images("cat.png", size={}))\n' if facts["role"] == "tokenizer" else ""
    use = use.format(facts.get("image_size")) + (
        "images = model.decode(tokens)" if use else "out = model.generate(n=4)"
    )
    lines = [
        "---",
        "library_name: smalti",
        f"license: {license.lower() or 'unknown'}",
        f"tags: [{facts['family']}, {facts['role']}]",
        "---",
        f"# {name}",
        f"A {facts['family']} {facts['role']} of [Smalti]: {count:,} values in {size / 1e6:.1f} MB.",
    ]
    if facts["notes"]:
        lines.append(f"\n{facts['notes']}")
    lines += ["\n```python", "import smalti", "", f"model = smalti.load({json.dumps(name)})", use, "```"]
    if tokenizer := facts.get("tokenizer"):
        lines.append(
            f"\nWrites tokens of `{tokenizer['name']}` (weights {tokenizer['fingerprint'][:12] or 'unknown'})."
        )
    if facts["published"]:
        lines += ["\n## Numbers\n", "| metric | value | protocol |", "|---|---|---|"]
        lines += [f"| {p['metric']} | {p['value']} | {p['protocol']} |" for p in facts["published"]]
    if facts["card"]:
        lines += ["\n## Facts\n", *(f"- {key}: {_plain(value)}" for key, value in facts["card"].items())]
    lines += ["\n## Config\n", "```json", json.dumps(facts["config"], indent=2), "```"]
    lines += [f"\nLicense of the weights: {license or 'not stated'}. Fingerprint: `{fingerprint(state)}`.", ""]
    return "\n".join(lines).replace("[Smalti]", "Smalti")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
