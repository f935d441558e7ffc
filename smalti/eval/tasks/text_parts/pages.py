"""Posters and document crops, found and read from end to end."""

from collections.abc import Callable, Sequence

import numpy as np

from smalti.eval.detail.result import Part, Picture, Quantity
from smalti.eval.strings import Preset
from smalti.eval.tasks.text_parts.setup import TextSetup, absent, no_reader, rate
from smalti.eval.text.legibility import Readings, corpus, difference, mean, ratio, readings
from smalti.eval.text.ocr import Found, in_reading_order, words_of
from smalti.eval.text.pages import documents, posters
from smalti.eval.text.render import TextImages
from smalti.eval.text.spotting import IOU, spotting

PAGES: dict[str, Callable[..., TextImages]] = {"posters": posters, "documents": documents}
SMALLEST = 56
"""Pixels a side below which no title and line of running text fit."""
PRESET: Preset = "nfkc-casefold-ws"
"""How strings are compared: without regard to case."""


def pages(setup: TextSetup, kind: str) -> Part:
    """CER, WER, 1-NED, bag-of-words F1 and text spotting on originals and reconstructions of one kind of page; dCER."""
    if setup.reader is None:
        return Part(skipped=no_reader(setup, kind))
    if setup.charts.size < SMALLEST:
        note = f"images of {setup.charts.size} px hold no {kind}: they need {SMALLEST}"
        return Part(quantities=(absent(f"{kind}_dcer", note),))
    shown = PAGES[kind](setup.charts.size, setup.pages, setup.charts.seed, font=setup.fonts.get("latin"))
    again = setup.charts.again(shown.images)
    first, second = (setup.reader.found(images) for images in (shown.images, again))
    texts = [[in_reading_order(page) for page in side] for side in (first, second)]
    pair = readings(shown.texts(), texts[0], texts[1], PRESET)
    quantities = _quantities(kind, pair, setup)
    for suffix, side in (("_original", first), ("", second)):
        quantities += _spotted(kind, suffix, shown, side, setup.charts.seed)
    picture = Picture(name=kind, title=kind.capitalize(), original=shown.images[0], reconstruction=again[0])
    return Part(quantities=tuple(quantities), pictures=(picture,), images=len(again))


def _quantities(kind: str, pair: Readings, setup: TextSetup) -> list[Quantity]:
    n, seed = len(pair.original), setup.charts.seed
    found = []
    for suffix, scores in (("_original", pair.original), ("", pair.reconstruction)):
        ned, words = [s.one_minus_ned for s in scores], [s.bow_f1 for s in scores]
        found += [
            rate(f"{kind}_cer{suffix}", corpus(scores, "char", seed), n),
            rate(f"{kind}_wer{suffix}", corpus(scores, "word", seed), n),
            rate(f"{kind}_one_minus_ned{suffix}", mean(ned, seed), n, better="higher"),
            rate(f"{kind}_bow_f1{suffix}", mean(words, seed), n, better="higher"),
        ]
    if pair.measurable:
        return [*found, rate(f"{kind}_dcer", difference(pair, seed), n)]
    note = f"unmeasurable: the reader's CER on the originals is {pair.cer_original:.2f}"
    return [*found, absent(f"{kind}_dcer", note, n=n)]


def _spotted(kind: str, suffix: str, shown: TextImages, side: Sequence[Sequence[Found]], seed: int) -> list[Quantity]:
    """Precision, recall and F of words by their boxes (detection), and by box and string (end to end)."""
    counts = [spotting(words, words_of(page), PRESET) for words, page in zip(shown.words, side, strict=True)]
    known, found = (np.array([getattr(c, name) for c in counts], dtype=float) for name in ("known", "found"))
    quantities = []
    for measure, name, how in (
        ("detection", "detected", "boxes alone"),
        ("end_to_end", "read", f"strings by {PRESET}"),
    ):
        pairs = np.array([getattr(c, name) for c in counts], dtype=float)
        shares = {"precision": (pairs, found), "recall": (pairs, known), "f1": (2 * pairs, known + found)}
        for share, (part, whole) in shares.items():
            value, note = ratio(part, whole, seed), f"words paired one to one at IoU >= {IOU}; {how}"
            quantities.append(rate(f"{kind}_{measure}_{share}{suffix}", value, len(counts), better="higher", note=note))
    return quantities
