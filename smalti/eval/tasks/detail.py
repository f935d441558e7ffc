"""The detail task: how much contrast, resolution, legibility, color and texture a tokenizer keeps.

Definitions: the functions of `smalti.eval.detail`. Charts are generated at the size given, drawn on 8-bit code
values without linearization, and reconstructed; every value is a median over placements on the token grid with the
band that holds the middle 80 per cent of them, because tokenizers are neither linear nor shift-invariant.
"""

from collections.abc import Callable
from functools import partial

from smalti.eval.detail.result import DetailResult, Part
from smalti.eval.tasks.detail_parts.acuity import landolt, letters
from smalti.eval.tasks.detail_parts.colors import colors
from smalti.eval.tasks.detail_parts.edges import edges
from smalti.eval.tasks.detail_parts.gratings import gratings
from smalti.eval.tasks.detail_parts.lines import lines
from smalti.eval.tasks.detail_parts.patterns import patterns
from smalti.eval.tasks.detail_parts.repeats import repeats
from smalti.eval.tasks.detail_parts.setup import Keep, Reconstruct, Setup, anew
from smalti.eval.tasks.detail_parts.textures import textures

PARTS: dict[str, Callable[[Setup], Part]] = {
    "edges": edges,
    "gratings": gratings,
    "patterns": patterns,
    "landolt": landolt,
    "letters": letters,
    "textures": textures,
    "colors": colors,
    "lines": lines,
    "repeats": repeats,
}
"""What is measured, in the order of the report; every part draws from random streams of its own."""
SMALLEST = 32
"""Pixels a side below which the charts show nothing."""


def detail(
    reconstruct: Reconstruct,
    size: int,
    *,
    stride: int | None,
    quick: bool,
    seed: int,
    parts: tuple[str, ...] = tuple(PARTS),
    batch: int = 32,
    on_part: Callable[[str], None] | None = None,
    keep: Keep = anew,
) -> DetailResult:
    """Measures what `reconstruct` (float32 [B, 3, size, size] in [0, 1] to the same shape) keeps of detail.

    `stride` is the side of a token in pixels, None for tokens without a grid; `quick` uses fewer frequencies, trials
    and placements (about 300 images instead of about 1500); `seed` draws the placements; `on_part` is called with the
    name of each part before it begins; `keep` gives the parts, made or remembered. Errors: ValueError for a size below
    32 pixels, an unknown part, or reconstructions of another shape, with NaN or outside [0, 1].
    """
    if size < SMALLEST:
        raise ValueError(f"detail charts need at least {SMALLEST} pixels a side, got size={size}")
    if stride is not None and not 1 <= stride <= size:
        raise ValueError(f"stride={stride}: a token is 1 to {size} pixels wide, or None without a grid")
    unknown = [p for p in parts if p not in PARTS]
    if unknown or not parts:
        raise ValueError(f"unknown parts {unknown} of {parts}: there are {', '.join(PARTS)}")
    setup = Setup(reconstruct=reconstruct, size=size, stride=stride, quick=quick, seed=seed, batch=batch)
    found = []
    for name in parts:
        if on_part is not None:
            on_part(name)
        found.append(keep(name, partial(PARTS[name], setup)))
    return DetailResult(
        size=size,
        stride=stride,
        quick=quick,
        seed=seed,
        images=sum(p.images for p in found),
        quantities=tuple(q for p in found for q in p.quantities),
        curves=tuple(c for p in found for c in p.curves),
        pictures=tuple(x for p in found for x in p.pictures),
        skipped=tuple(s for p in found for s in p.skipped),
    )
