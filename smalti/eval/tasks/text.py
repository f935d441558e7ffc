"""The text task: what a tokenizer keeps legible, against known text.

Text is rendered, so that the truth is known. Every text is read on the original and on the reconstruction by the same
reader, and dCER = CER(reconstruction) - CER(original). Strings of ladders are read inside their known boxes
(recognition only; characters are compared without white space and case), posters and documents from end to end.
Bands are the 10 and 90 per cent quantiles over resampled texts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from smalti.eval.detail.result import Part, TaskResult
from smalti.eval.tasks.detail_parts.setup import Keep, Reconstruct, Setup, anew
from smalti.eval.tasks.text_parts.ladders import ladders
from smalti.eval.tasks.text_parts.pages import pages
from smalti.eval.tasks.text_parts.scripts import joined, scripts
from smalti.eval.tasks.text_parts.setup import TextSetup, open_reader
from smalti.eval.text.instruments import instruments
from smalti.eval.text.scripts import NAMES, check_fonts

PARTS: dict[str, Callable[[TextSetup], Part]] = {
    "ladders": ladders,
    "posters": partial(pages, kind="posters"),
    "documents": partial(pages, kind="documents"),
    "scripts": scripts,
}
"""What is measured, in the order of the report."""
SMALLEST = 32
"""Pixels a side below which no text is shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextResult(TaskResult):
    """All text measures of one reconstruction function."""

    engine: str
    """Name and version of the reader; empty if there is none here."""
    facts: Mapping[str, Any]
    """The reader with its models, and the font of every script, by sha256."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; of the pictures only their names."""
        return {"engine": self.engine, "facts": dict(self.facts)} | super().to_dict()


def text(
    reconstruct: Reconstruct,
    size: int,
    *,
    quick: bool,
    seed: int,
    engine: str = "rapidocr",
    fonts: Mapping[str, str | Path] | None = None,
    parts: tuple[str, ...] = tuple(PARTS),
    batch: int = 32,
    on_part: Callable[[str], None] | None = None,
    keep: Keep = anew,
) -> TextResult:
    """Measures what `reconstruct` (float32 [B, 3, size, size] in [0, 1] to the same shape) keeps legible.

    `engine`: rapidocr or tesseract; one that is not installed becomes entries in `skipped` that say how to get it,
    while glyph templates are still scored. `fonts`: font files by script (latin, chinese, japanese, korean, hindi);
    without them Latin is set in the font inside Pillow, and the others in what the system has. `quick`: fewer sizes,
    characters and pages; `on_part` is called with the name of each part before it begins; `keep` gives the parts, made
    or remembered. Errors: ValueError for a size below 32 pixels, an unknown engine, part or script, or reconstructions
    of another shape, with NaN or outside [0, 1]; FileNotFoundError for a font.
    """
    if size < SMALLEST:
        raise ValueError(f"text needs at least {SMALLEST} pixels a side, got size={size}")
    unknown = [p for p in parts if p not in PARTS]
    if unknown or not parts:
        raise ValueError(f"unknown parts {unknown} of {parts}: there are {', '.join(PARTS)}")
    reader, reason = open_reader(engine)
    charts = Setup(reconstruct=reconstruct, size=size, stride=None, quick=quick, seed=seed, batch=batch)
    setup = TextSetup(charts=charts, engine=engine, reader=reader, reason=reason, fonts=check_fonts(fonts))
    found = []
    for name in parts:
        if on_part is not None:
            on_part(name)
        found.append(keep(name, partial(PARTS[name], setup)))
    whole = joined(found)
    scripts_shown = NAMES if "scripts" in parts else NAMES[:1]
    return TextResult(
        size=size,
        quick=quick,
        seed=seed,
        engine=reader.label if reader else "",
        facts=instruments(reader, setup.fonts, scripts_shown),
        images=whole.images,
        quantities=whole.quantities,
        curves=whole.curves,
        pictures=whole.pictures,
        skipped=whole.skipped,
    )
