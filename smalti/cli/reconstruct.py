"""`smalti reconstruct`: images to tokens and back at several budgets."""

from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from smalti.cli import call
from smalti.cli.console import budget_list, image_paths, load_tokenizer, print_json, print_table, unique_names


def reconstruct(
    images: Positional[tuple[Path, ...]],
    *,
    out: Path,
    tokenizer: str = "mini/var",
    budget: str = "each",
    window: int | None = None,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Images to tokens and back at several token budgets, scored against a thumbnail of the same bits.

    Args:
        images: Image files, or folders of them.
        out: Folder for the PNG files NAME-TOKENS.png.
        tokenizer: Model name, file or folder.
        budget: Numbers of tokens, such as 1,14,all; all: the whole sequence, each: every legal number.
        window: Work in overlapping windows of that many pixels, for images too large for the memory.
        device: Where to compute: cpu, cuda, mps.
        json: Print JSON.
    """
    paths = image_paths(images)

    import torch

    from smalti.eval.budgets import budgets_of, sweep
    from smalti.images import read_images, write_image

    model = load_tokenizer(tokenizer, device, window)
    pixels = torch.cat([model.preprocess(read_images(path)) for path in paths])
    legal = budgets_of(model.layout((pixels.shape[-2], pixels.shape[-1])))
    result = sweep(model, pixels, budgets=budget_list(budget, legal))
    for row, pictures in zip(result.rows, result.reconstructions, strict=True):
        for name, picture in zip(unique_names(paths), pictures, strict=True):
            write_image(picture, out / f"{name}-{row.tokens:04d}.png")
    if json:
        print_json({"tokenizer": model.name, "out": str(out), "budgets": [row.to_dict() for row in result.rows]})
        return
    print_budgets(result.rows)


def print_budgets(rows: Sequence) -> None:
    """The rate-distortion table."""
    header = ["tokens", "bits", "bit/px", "PSNR", "thumbnail", "difference", "SSIM", "thumbnail", "N"]
    body = []
    for row in rows:
        p, s = row.metrics["psnr"], row.metrics["ssim"]
        body.append(
            [
                str(row.tokens),
                f"{row.bits:,.0f}",
                f"{row.bpp:.4f}",
                f"{p.tokenizer.value:.2f}",
                f"{p.thumbnail.value:.2f}",
                f"{p.difference.value:+.2f} [{p.difference.low:+.2f}, {p.difference.high:+.2f}]",
                f"{s.tokenizer.value:.3f}",
                f"{s.thumbnail.value:.3f}",
                str(row.n),
            ]
        )
    print_table(header, body, texts=0)


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(reconstruct, "reconstruct", arguments)
