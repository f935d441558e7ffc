"""`smalti info`: everything known about one model, without loading it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from smalti.cli import call
from smalti.cli.console import print_facts, print_json

if TYPE_CHECKING:
    from smalti.hub import Entry


def info(name: Positional[str], *, json: bool = False) -> None:
    """Everything known about one model: sizes, source, licenses, published numbers, sampler settings, classes.

    Args:
        name: Model name (`smalti models` lists them), or a folder that was saved as a model.
        json: Print JSON.
    """
    from smalti.hub import count_parameters, model_info
    from smalti.hub.folders import read_folder

    entry = read_folder(Path(name)) if Path(name).is_dir() else model_info(name)
    facts = _facts(entry, count_parameters(entry))
    if json:
        print_json(facts)
        return
    print_facts([(key.replace("_", " "), _text(value)) for key, value in facts.items() if value not in (None, "", [])])


def _facts(entry: "Entry", parameters: int) -> dict[str, Any]:
    paper = entry.paper
    settings = entry.settings.to_dict() if entry.role == "generator" else None
    return {
        "name": entry.name,
        "role": entry.role,
        "family": entry.family,
        "parameters": parameters,
        "image_size": entry.image_size,
        "preprocessing": str(entry.resize),
        "value_range": entry.value_range,
        "tokenizer": entry.tokenizer,
        "source": str(entry.source) if entry.source else None,
        "sha256": entry.sha256,
        "weights_license": entry.weights_license,
        "code_license": entry.code_license,
        "paper": f"{paper.title}, arXiv {paper.arxiv}" if paper else None,
        "verified": list(entry.verified),
        "config": asdict(entry.config),
        "settings": settings,
        "published": [asdict(number) for number in entry.published],
        "text_encoder": entry.text,
        "num_classes": entry.num_classes,
        "classes": list(entry.class_names),
        "notes": entry.notes,
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{k}: {_text(v) if not isinstance(v, dict) else _inline(v)}" for k, v in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(f"{v['metric']} {v['value']:g} ({v['protocol']})" for v in value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _inline(value: dict[str, Any]) -> str:
    return ", ".join(f"{k} {_text(v)}" for k, v in value.items())


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(info, "info", arguments)
