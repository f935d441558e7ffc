"""What text was set with and read with: the font files, and the reader with its models.

Both move every score of text, so a result names them by content and not only by name.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import PIL

from smalti.eval.text.ocr import Reader
from smalti.eval.text.render import load_font
from smalti.eval.text.scripts import SCRIPTS, find_font

SIZE = 16
"""Pixels; a font is opened at some size, its name is the same at all."""


def instruments(reader: Reader | None, fonts: Mapping[str, Path], scripts: Iterable[str]) -> dict[str, Any]:
    """Plain data: `recognizer` (None without one) and `fonts` by script, for those of `scripts` that have one here.

    `fonts`: the files that were given; the others are looked up as the text task does.
    """
    found = {"latin": fonts.get("latin")} | {s.name: fonts.get(s.name) or find_font(s) for s in SCRIPTS}
    kept = {name: font for name, font in found.items() if name in scripts and (font is not None or name == "latin")}
    return {
        "recognizer": None if reader is None else reader.engine.facts(),
        "fonts": {name: font_facts(font) for name, font in kept.items()},
    }


def font_facts(font: Path | None) -> dict[str, str]:
    """Family, style, file name and sha256 of a font file (of a collection its first font), None: that inside Pillow.

    A file that is no font has neither family nor style; the task says under `skipped` what it could not draw with it.
    """
    if font is not None:
        family, style = _name(font)
        return {"family": family, "style": style, "file": font.name, "sha256": sha256(font.read_bytes()).hexdigest()}
    face = load_font(None, SIZE)
    family, style = face.getname()
    digest = sha256(face.font_bytes).hexdigest()
    return {"family": family or "", "style": style or "", "file": f"inside Pillow {PIL.__version__}", "sha256": digest}


def _name(font: Path) -> tuple[str, str]:
    try:
        family, style = load_font(font, SIZE).getname()
    except ValueError:
        return "", ""
    return family or "", style or ""
