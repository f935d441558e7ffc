"""`smalti decode`: a token file to images."""

from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from smalti.cli import call
from smalti.cli.console import load_tokenizer, print_json


def decode(
    tokens: Positional[Path],
    *,
    out: Path,
    tokenizer: str | None = None,
    budget: int | None = None,
    window: int | None = None,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """A token file to images.

    Args:
        tokens: Token file (.safetensors) written by `smalti encode`.
        out: Folder for the PNG files 0000.png, 0001.png, ...
        tokenizer: Model name, file or folder; default: the one named in the file.
        budget: Decode only the first tokens of every image, that many.
        window: Work in overlapping windows of that many pixels, for images too large for the memory.
        device: Where to compute: cpu, cuda, mps.
        json: Print JSON.
    """
    from smalti.images import write_images
    from smalti.tokens import Tokens

    coded = Tokens.load(tokens)
    name = tokenizer or (coded.origin.tokenizer if coded.origin else "")
    if not name:
        raise ValueError(f"{tokens} does not say which tokenizer made it: name it with --tokenizer")
    model = load_tokenizer(name, device, window)
    if budget is not None:
        coded = coded.prefix(budget)
    written = write_images(model.decode(coded).cpu(), out)
    if json:
        print_json({"tokenizer": model.name, "images": [str(path) for path in written]})
        return
    print(f"{out}: {len(written)} {'image' if len(written) == 1 else 'images'} ({model.name})")


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(decode, "decode", arguments)
