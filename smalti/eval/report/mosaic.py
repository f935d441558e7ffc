"""The token maps of one image drawn as mosaics: one tile, one token."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from smalti.eval.report.html import columns
from smalti.images import to_uint8

SIZE, GROUT = 64.0, 1.3


def mosaic(image: Tensor, shape: tuple[int, int]) -> str:
    """An <svg> with one square tile per token of a map of `shape`, in the mean color of what lies under it.

    `image` [3, H, W] in [0, 1] is what the tokens up to this map decode to.
    """
    height, width = shape
    colors = to_uint8(F.interpolate(image[None], shape, mode="area")[0]).permute(1, 2, 0).tolist()
    step_y, step_x = (SIZE - GROUT) / height, (SIZE - GROUT) / width
    tiles = []
    for row in range(height):
        for column in range(width):
            red, green, blue = colors[row][column]
            x, y = GROUT + column * step_x, GROUT + row * step_y
            tiles.append(
                f'<rect x="{x:.2f}" y="{y:.2f}" width="{step_x - GROUT:.2f}" height="{step_y - GROUT:.2f}" '
                f'rx="1" fill="#{red:02x}{green:02x}{blue:02x}"/>'
            )
    return (
        f'<svg viewBox="0 0 {SIZE:g} {SIZE:g}" role="img" aria-label="{height} x {width} tokens">{"".join(tiles)}</svg>'
    )


def mosaics(images: Sequence[Tensor], shapes: Sequence[tuple[int, int]]) -> str:
    """The maps of one image side by side, coarse to fine, with the number of tiles under each."""
    figures = "".join(
        f"<figure>{mosaic(image, shape)}<figcaption><span>{shape[0]} × {shape[1]}</span></figcaption></figure>"
        for image, shape in zip(images, shapes, strict=True)
    )
    return f'<div class="mosaics" {columns(len(images))}>{figures}</div>'
