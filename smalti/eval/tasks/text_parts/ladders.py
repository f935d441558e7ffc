"""Legibility by font size: words, random strings and digits, each string read inside its known box."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smalti.eval.detail.result import Curve, Part, Picture, Quantity
from smalti.eval.tasks.text_parts.setup import TextSetup, absent, no_reader, rate
from smalti.eval.text.legibility import (
    LEGIBLE,
    UNMEASURABLE,
    Readings,
    corpus,
    difference,
    mean,
    readings,
    smallest_legible,
)
from smalti.eval.text.render import Kind, TextImages, ladder

KINDS: tuple[Kind, ...] = ("words", "random", "digits")
TITLES = {"words": "Words", "random": "Random strings", "digits": "Digits"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Rung:
    """One size: what was read of it."""

    shown: TextImages
    readings: Readings
    picture: Picture


@dataclass(frozen=True, kw_only=True, eq=False)
class Ladder:
    """One kind of text at all sizes that fit."""

    kind: str
    title: str
    rungs: tuple[Rung, ...]
    too_large: tuple[float, ...]
    """Sizes in pixels that do not fit the image."""

    @property
    def measurable(self) -> list[Rung]:
        """Sizes at which the reader reads the originals."""
        return [r for r in self.rungs if r.readings.measurable]


def ladders(setup: TextSetup) -> Part:
    """Words, random strings and digits; and how much the reader's knowledge of words helps."""
    if setup.reader is None:
        return Part(skipped=no_reader(setup, "words", "random strings", "digits"))
    font, size, seed = setup.fonts.get("latin"), setup.charts.size, setup.charts.seed
    found = []
    for kind in KINDS:

        def rung(at: float, kind: Kind = kind) -> TextImages:
            return ladder(kind, at, size, characters=setup.characters, seed=seed, font=font)

        found.append(climbed(setup, kind, TITLES[kind], rung, "latin"))
    parts = [ladder_part(each, setup.charts.seed) for each in found]
    return Part(
        quantities=(*(q for p in parts for q in p.quantities), _prior(found[0], found[1])),
        curves=tuple(c for p in parts for c in p.curves),
        pictures=tuple(x for p in parts for x in p.pictures),
        images=sum(p.images for p in parts),
    )


def climbed(setup: TextSetup, kind: str, title: str, rung: Callable[[float], TextImages], script: str) -> Ladder:
    """All sizes at which `rung` has something to show (it says ValueError where nothing fits)."""
    rungs, too_large = [], []
    for size in setup.sizes:
        try:
            shown = rung(size)
        except ValueError:
            too_large.append(size)
            continue
        rungs.append(_read(setup, shown, title, script))
    return Ladder(kind=kind, title=title, rungs=tuple(rungs), too_large=tuple(too_large))


def ladder_part(found: Ladder, seed: int) -> Part:
    """Error rates over the measurable sizes, the smallest legible size, and the curves."""
    worst = [r for r in found.measurable if r.readings.dcer > LEGIBLE]
    shown = worst[-1:] or list(found.measurable or found.rungs)[:1]
    return Part(
        quantities=(*_rates(found, seed), _smallest(found)),
        curves=tuple(_curves(found, seed)),
        pictures=tuple(r.picture for r in shown),
        images=sum(len(r.shown.images) for r in found.rungs),
    )


def _read(setup: TextSetup, shown: TextImages, title: str, script: str) -> Rung:
    reader = setup.reader
    assert reader is not None
    again = setup.charts.again(shown.images)
    truth = [word.text for words in shown.words for word in words]
    boxes = [[word.box for word in words] for words in shown.words]
    first, second = (reader.words(images, boxes, script) for images in (shown.images, again))
    picture = Picture(
        name=f"text_{shown.kind}",
        title=f"{title}, {shown.size:g} px (x-height {shown.x_height:g} px)",
        original=shown.images[0],
        reconstruction=again[0],
    )
    return Rung(shown=shown, readings=readings(truth, first, second, "cjk"), picture=picture)


def _rates(found: Ladder, seed: int) -> list[Quantity]:
    names = ("cer_original", "cer", "dcer", "wer_original", "wer", "one_minus_ned")
    good = found.measurable
    if not good:
        return [absent(f"{found.kind}_{name}", _why_not(found)) for name in names if name != "one_minus_ned"]
    pair = good[0].readings
    for rung in good[1:]:
        pair = pair + rung.readings
    n = len(pair.original)
    note = "sizes " + ", ".join(f"{r.shown.size:g}" for r in good) + " px"
    ned = mean([s.one_minus_ned for s in pair.reconstruction], seed)
    values = {
        "cer_original": corpus(pair.original, "char", seed),
        "cer": corpus(pair.reconstruction, "char", seed),
        "dcer": difference(pair, seed),
        "wer_original": corpus(pair.original, "word", seed),
        "wer": corpus(pair.reconstruction, "word", seed),
    }
    rates = [rate(f"{found.kind}_{name}", value, n, note=note) for name, value in values.items()]
    return [*rates, rate(f"{found.kind}_one_minus_ned", ned, n, better="higher", note=note)]


def _smallest(found: Ladder) -> Quantity:
    name, unit = f"{found.kind}_smallest_legible", "px of font size"
    good = found.measurable
    n = sum(len(r.readings.original) for r in good)
    if not good:
        return absent(name, _why_not(found), unit=unit)
    weights = [float(sum(s.ref_chars for s in r.readings.original)) for r in good]
    value = smallest_legible([r.shown.size for r in good], [r.readings.dcer for r in good], weights)
    if value is None:
        note = f"not reached: the largest size shown, {good[-1].shown.size:g} px, is not legible"
        return absent(name, "; ".join([note, *_left_out(found)]), unit=unit, n=n)
    height = next(r.shown.x_height for r in good if r.shown.size == value)
    smaller = "the smallest size that can be measured; " if value == good[0].shown.size else ""
    note = "; ".join([f"{smaller}x-height {height:g} px", *_left_out(found)])
    return Quantity(name=name, value=value, low=None, high=None, n=n, unit=unit, better="lower", note=note)


def _left_out(found: Ladder) -> list[str]:
    unmeasurable = [r for r in found.rungs if not r.readings.measurable]
    parts = []
    if unmeasurable:
        listed = ", ".join(f"{r.shown.size:g} px (CER {r.readings.cer_original:.2f})" for r in unmeasurable)
        parts.append(f"unmeasurable, as the reader fails on the originals: {listed}")
    if found.too_large:
        parts.append("too large for the image: " + ", ".join(f"{s:g}" for s in found.too_large) + " px")
    return parts


def _why_not(found: Ladder) -> str:
    return f"unmeasurable at every size (CER of originals above {UNMEASURABLE}); " + "; ".join(_left_out(found))


def _curves(found: Ladder, seed: int) -> list[Curve]:
    def curve(name: str, title: str, rungs: Sequence[Rung], values: list[tuple[float, float, float]]) -> Curve:
        return Curve(
            name=f"{found.kind}_{name}",
            title=f"{found.title}: {title}",
            x=tuple(r.shown.size for r in rungs),
            x_unit="px of font size",
            y=tuple(v[0] for v in values),
            y_unit=name.split("_")[0],
            low=tuple(v[1] for v in values),
            high=tuple(v[2] for v in values),
        )

    good, rungs = found.measurable, found.rungs
    originals = [corpus(r.readings.original, "char", seed) for r in rungs]
    again = [corpus(r.readings.reconstruction, "char", seed) for r in rungs]
    curves = [
        curve("dcer", "CER above that of the original", good, [difference(r.readings, seed) for r in good]),
        curve("cer", "CER", rungs, again),
        curve("cer_original", "CER of the original", rungs, originals),
    ]
    return [c for c in curves if c.x]


def _prior(words: Ladder, strings: Ladder) -> Quantity:
    """dCER of random strings minus dCER of words, over the sizes that both have."""
    by_size = {r.shown.size: r.readings for r in words.measurable}
    common = [(by_size[r.shown.size], r.readings) for r in strings.measurable if r.shown.size in by_size]
    if not common:
        return absent("reader_prior", "no size is measurable with words and with random strings")
    known, unknown = common[0]
    for pair in common[1:]:
        known, unknown = known + pair[0], unknown + pair[1]
    return Quantity(
        name="reader_prior",
        value=unknown.dcer - known.dcer,
        low=None,
        high=None,
        n=len(known.original) + len(unknown.original),
        unit="",
        better="",
        note="dCER of random strings minus dCER of words: what the reader guesses from its knowledge of language",
    )
