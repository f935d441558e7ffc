"""`smalti models`: what can be loaded by name."""

from collections.abc import Sequence
from typing import Literal

from tyro.conf import Positional

from smalti.cli import call
from smalti.cli.console import print_json, print_table


def models(
    pattern: Positional[str] = "*", *, role: Literal["tokenizer", "generator"] | None = None, json: bool = False
) -> None:
    """List the models that can be loaded by name.

    Args:
        pattern: Wildcard, such as "var/*" or "*mini*".
        role: Only tokenizers, or only generators.
        json: Print JSON.
    """
    import smalti

    entries = [smalti.model_info(name) for name in smalti.list_models(pattern, role=role)]
    if not entries:
        raise ValueError(f"no model matches {pattern!r}; `smalti models` lists all")
    if json:
        print_json(
            [
                {
                    "name": e.name,
                    "role": e.role,
                    "family": e.family,
                    "image_size": e.image_size,
                    "tokenizer": e.tokenizer,
                    "source": str(e.source) if e.source else None,
                    "license": e.weights_license,
                    "verified": list(e.verified),
                }
                for e in entries
            ]
        )
        return
    header = ["name", "role", "pixels", "weights license", "verified", "source"]
    rows = [
        [
            e.name,
            e.role,
            str(e.image_size or ""),
            e.weights_license,
            ", ".join(e.verified),
            str(e.source or ""),
        ]
        for e in entries
    ]
    print_table(header, rows, texts=len(header))


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(models, "models", arguments)
