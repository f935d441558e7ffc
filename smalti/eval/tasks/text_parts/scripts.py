"""Legibility by script: glyph templates of any font, and a reader where there is one for the script."""

from collections.abc import Sequence
from pathlib import Path

from smalti.eval.detail.result import Part, Skipped
from smalti.eval.tasks.detail_parts.acuity import glyphs
from smalti.eval.tasks.text_parts.ladders import climbed, ladder_part
from smalti.eval.tasks.text_parts.setup import TextSetup, absent
from smalti.eval.text.render import TextImages, script_ladder
from smalti.eval.text.scripts import SCRIPTS, Script, find_font

LOWERCASE = tuple("abcdefghijkmnopqrstuvwxyz")
"""Without l, which many fonts draw as I."""
SIZES = (6, 8, 10, 12, 16, 20, 24, 32, 40, 48)
QUICK_SIZES = (6, 8, 12, 16, 24)


def scripts(setup: TextSetup) -> Part:
    """Small Latin letters by templates; the other scripts by templates and, where one knows them, by a reader."""
    latin = _templates(setup, "latin", "Small letters", LOWERCASE, setup.fonts.get("latin"))
    return joined([latin, *(_script(setup, script) for script in SCRIPTS)])


def joined(parts: Sequence[Part]) -> Part:
    """All parts as one."""
    return Part(
        quantities=tuple(q for p in parts for q in p.quantities),
        curves=tuple(c for p in parts for c in p.curves),
        pictures=tuple(x for p in parts for x in p.pictures),
        skipped=tuple(s for p in parts for s in p.skipped),
        images=sum(p.images for p in parts),
    )


def _script(setup: TextSetup, script: Script) -> Part:
    font = setup.fonts.get(script.name) or find_font(script)
    if font is None:
        way = f'give a font file, fonts={{"{script.name}": PATH}}; npm {script.package} has an open one'
        reason = f"no {script.title} font is found on this machine: {way}"
        return _unmeasured(script, reason)
    templates = _templates(setup, script.name, script.title, script.alphabet, font)
    if templates.skipped:  # the font lacks the script: a reader would read boxes
        return joined([templates, _unmeasured(script, templates.skipped[0].reason)])
    return joined([templates, _read(setup, script, font)])


def _templates(setup: TextSetup, name: str, title: str, alphabet: Sequence[str], font: Path | None) -> Part:
    sizes = QUICK_SIZES if setup.charts.quick else SIZES
    try:
        return glyphs(setup.charts, f"glyphs_{name}", title, alphabet, font=font, sizes=sizes)
    except ValueError as error:
        return Part(skipped=(Skipped(metric=f"glyphs_{name}", reason=str(error)),))


def _read(setup: TextSetup, script: Script, font: Path) -> Part:
    if setup.reader is None:
        return _unmeasured(script, f"no text recognition ({setup.engine}): {setup.reason}")
    if not setup.reader.reads(script.name, script.alphabet):
        reason = f"{setup.reader.label} does not know {script.title}; glyph templates are scored instead"
        return _unmeasured(script, reason)

    def rung(size: float) -> TextImages:
        return script_ladder(
            script.name, script.alphabet, size, setup.charts.size,
            characters=setup.characters, seed=setup.charts.seed, font=font,
        )  # fmt: skip

    return ladder_part(climbed(setup, script.name, script.title, rung, script.name), setup.charts.seed)


def _unmeasured(script: Script, reason: str) -> Part:
    """dCER without a value, but never without a word."""
    quantity = absent(f"{script.name}_dcer", f"not measurable here: {reason}")
    return Part(quantities=(quantity,), skipped=(Skipped(metric=f"{script.name}_dcer", reason=reason),))
