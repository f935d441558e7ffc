"""`smalti convert`: authors' files to our folders and back."""

from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from smalti.cli import call


def convert(
    source: Positional[str],
    target: Positional[Path],
    *,
    like: str | None = None,
    wrapping: str | None = None,
    tokenizer: str | None = None,
) -> None:
    """Write a model in another layout; the tensors stay equal.

    A target that ends in .safetensors, .pth or .pt gets the authors' names; any other one is a folder in this
    library's layout (config.json, model.safetensors, README.md).

    Args:
        source: Model name, folder or weight file.
        target: File or folder to write.
        like: Name of the model a file should be, where its keys do not tell.
        wrapping: Which of several state dicts in a file, such as "ema".
        tokenizer: Of a generator: the tokenizer it goes with, if not the published one.
    """
    from smalti.hub.conversion import convert as run

    written = run(source, target, like=like, wrapping=wrapping, tokenizer=tokenizer)
    print(f"{written}: from {source}")


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(convert, "convert", arguments)
