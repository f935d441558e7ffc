"""`smalti inpaint`: part of an image painted anew, or its surroundings invented."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from smalti.cli import call
from smalti.cli.console import Dtype, load_generator, print_json
from smalti.cli.generate import sampling_of, settings_line

if TYPE_CHECKING:
    from torch import Tensor


def inpaint(
    name: Positional[str],
    image: Positional[Path],
    *,
    out: Path,
    mask: Path | None = None,
    margin: int = 0,
    category: Annotated[str | None, arg(name="class")] = None,
    text: str | None = None,
    n: int = 1,
    seed: int = 0,
    guidance: float | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    paste: bool = False,
    text_encoder: Path | None = None,
    dtype: Dtype = "float32",
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Part of an image painted anew under a class or text; the rest is kept, as near as tokens can.

    Args:
        name: Generator: model name, file or folder; its tokens must lie on maps.
        image: The image.
        out: Folder for 0000.png, ..., tokens.safetensors and generation.json.
        mask: Image of the same size; white places are painted anew.
        margin: Out-painting: the image is shrunk by that many pixels on each side, and the margin is painted.
        category: Class name or number (`smalti info NAME` lists them).
        text: A text, in quotes.
        n: Versions of the image.
        seed: Seed of the first version; the next ones count up.
        guidance: Guidance scale s in u + s (c - u); 1 is none.
        temperature: Divides the logits; 0 always takes the most likely token.
        top_k: Draw from the k most likely tokens; 0 is all.
        top_p: Draw from the fewest tokens that reach this probability; 1 is all.
        paste: Put the original pixels back where nothing was to be painted.
        text_encoder: Folder of the text encoder, for models asked by text whose encoder is not in the package.
        dtype: Of the generator's weights: float32, bfloat16, float16.
        device: Where to compute: cpu, cuda, mps.
        json: Print JSON.
    """
    if (mask is None) == (margin == 0):
        raise ValueError("say what to paint: --mask MASK.png (white = paint) or --margin PIXELS, one of them")
    generator = load_generator(name, device, dtype, text_encoder)

    from smalti.files import write_json
    from smalti.images import read_images, write_images

    pixels = generator.tokenizer.preprocess(read_images(image))
    if mask is not None:
        paint = _read_mask(mask, read_images(image).shape[-2:], pixels)
    else:
        pixels, paint = _with_margin(pixels, margin)
    made = generator.inpaint(
        pixels,
        paint,
        paste=paste,
        classes=[category] if category else None,
        text=[text] if text else None,
        n=n,
        seed=seed,
        guidance=guidance,
        sampling=sampling_of(generator, temperature=temperature, top_k=top_k, top_p=top_p),
    )
    images = write_images(made.images.cpu(), out)
    made.tokens.to("cpu").save(out / "tokens.safetensors")
    facts = {**made.provenance, "image": str(image), "mask": mask and str(mask), "margin": margin}
    write_json(out / "generation.json", {**facts, "files": [path.name for path in images]})
    if json:
        print_json({**facts, "out": str(out)})
        return
    print(f"settings: {settings_line(made)}")
    print(f"{out}: {len(images)} {'image' if len(images) == 1 else 'images'} ({generator.name}, seed {seed})")


def _read_mask(path: Path, size: Sequence[int], pixels: "Tensor") -> "Tensor":
    """bool [H, W], True where the mask image is white; brought to the model's size as the image was."""
    import torch.nn.functional as F

    from smalti.images import read_images

    mask = read_images(path)
    if mask.shape[-2:] != size:
        raise ValueError(f"{path} is {list(mask.shape[-2:])} pixels, the image {list(size)}: give a mask of its size")
    side = min(size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    if pixels.shape[-2] == pixels.shape[-1]:
        mask = mask[..., top : top + side, left : left + side]
    return F.interpolate(mask.mean(1, keepdim=True), pixels.shape[-2:], mode="area")[0, 0] > 0.5


def _with_margin(pixels: "Tensor", margin: int) -> "tuple[Tensor, Tensor]":
    """The image shrunk into the middle, its edge pixels drawn out to the border; and the mask of that border."""
    import torch
    import torch.nn.functional as F

    height, width = pixels.shape[-2:]
    if not 0 < margin < min(height, width) // 2:
        raise ValueError(f"margin must be 1..{min(height, width) // 2 - 1} pixels for this model, got {margin}")
    inner = (height - 2 * margin, width - 2 * margin)
    small = F.interpolate(pixels, inner, mode="bicubic", antialias=True).clamp(0, 1)
    paint = torch.ones(height, width, dtype=torch.bool)
    paint[margin : height - margin, margin : width - margin] = False
    return F.pad(small, [margin] * 4, mode="replicate"), paint


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    return call(inpaint, "inpaint", arguments)
