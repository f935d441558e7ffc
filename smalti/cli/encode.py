"""`smalti encode`: images to a token file."""

from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from smalti.cli import call
from smalti.cli.console import image_paths, load_tokenizer, print_json


def encode(
    images: Positional[tuple[Path, ...]],
    *,
    out: Path,
    tokenizer: str = "mini/var",
    budget: int | None = None,
    window: int | None = None,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Images to a token file.

    Args:
        images: Image files, or folders of them.
        out: Token file to write (.safetensors).
        tokenizer: Model name, file or folder.
        budget: Keep only that many tokens of every image.
        window: Work in overlapping windows of that many pixels, for images too large for the memory.
        device: Where to compute: cpu, cuda, mps.
        json: Print JSON.
    """
    paths = image_paths(images)
    if out.suffix != ".safetensors":
        raise ValueError(
            f"token files end in .safetensors, got --out {out}: use --out {out.with_suffix('.safetensors')}"
        )

    from smalti.images import read_images
    from smalti.tokens import Tokens

    model = load_tokenizer(tokenizer, device, window)
    parts = [model.encode(model.preprocess(read_images(path))).to("cpu") for path in paths]
    tokens = Tokens.cat(parts)
    if budget is not None:
        tokens = tokens.prefix(budget)
    tokens.save(out)
    lengths, bits = tokens.lengths.tolist(), tokens.bits().tolist()
    if json:
        entries = [{"image": str(p), "tokens": n, "bits": b} for p, n, b in zip(paths, lengths, bits, strict=True)]
        print_json({"out": str(out), "tokenizer": model.name, "images": entries})
        return
    shape = f"{lengths[0]} tokens, {bits[0]:,.0f} bits each" if len(set(lengths)) == 1 else f"{sum(lengths)} tokens"
    print(f"{out}: {len(paths)} {'image' if len(paths) == 1 else 'images'}, {shape} ({model.name})")


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(encode, "encode", arguments)
