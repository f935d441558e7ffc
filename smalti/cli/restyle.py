"""`smalti restyle`: some kinds of tokens of one image with the rest of another."""

from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from smalti.cli import call
from smalti.cli.console import image_paths, load_tokenizer, print_json, unique_names


def restyle(
    content: Positional[Path],
    style: Positional[Path],
    *,
    out: Path,
    tokenizer: str = "hita/ultra",
    segment: tuple[str, ...] = ("holistic",),
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Images decoded from their own tokens, but for one kind, which is taken from another image.

    Hita's holistic tokens of a style image with the patch tokens of a content image; with VAR the coarse maps of one
    image under the fine ones of another.

    Args:
        content: Image file, or folder of images.
        style: Image whose tokens of the named segments are taken.
        out: Folder for the PNG files, named as the content images, and tokens.safetensors.
        tokenizer: Model name, file or folder; its tokens must have several segments.
        segment: Segments taken from the style image, by name or number (for VAR 1x1 2x2 ...).
        device: Where to compute: cpu, cuda, mps.
        json: Print JSON.
    """
    paths = image_paths([content])

    import torch

    from smalti.images import read_images, write_image

    model = load_tokenizer(tokenizer, device)
    contents, styles = (
        model.encode(torch.cat([model.preprocess(read_images(path)) for path in files])) for files in (paths, [style])
    )
    taken = {contents.layout.segment_number(name) for name in segment}
    if not 0 < len(taken) < len(contents.layout.segments):
        names = ", ".join(s.name or str(i) for i, s in enumerate(contents.layout.segments))
        raise ValueError(
            f"the images made must have some segments of either image: {model.name} has the segments {names}, and "
            f"--segment takes {len(taken)} of them from the style image"
        )
    mixed = contents
    for i in sorted(taken):
        mixed = mixed.with_segment(i, styles[torch.zeros(len(paths), dtype=torch.int64)])
    images = model.decode(mixed).cpu()
    written = [write_image(p, out / f"{n}.png") for p, n in zip(images, unique_names(paths), strict=True)]
    mixed.to("cpu").save(out / "tokens.safetensors")
    taken_names = [contents.layout.segments[i].name or str(i) for i in sorted(taken)]
    if json:
        facts = {"tokenizer": model.name, "style": str(style), "segments": taken_names}
        print_json({**facts, "images": [str(path) for path in written]})
        return
    count = f"{len(written)} {'image' if len(written) == 1 else 'images'}"
    print(f"{out}: {count} with {', '.join(taken_names)} of {style} ({model.name})")


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(restyle, "restyle", arguments)
