"""Posters and document crops, found and read from end to end."""

from collections.abc import Callable

from smalti.eval.detail.result import Part, Picture, Quantity
from smalti.eval.tasks.text_parts.setup import TextSetup, absent, no_reader, rate
from smalti.eval.text.legibility import Readings, corpus, difference, mean, readings
from smalti.eval.text.pages import documents, posters
from smalti.eval.text.render import TextImages

PAGES: dict[str, Callable[..., TextImages]] = {"posters": posters, "documents": documents}
SMALLEST = 56
"""Pixels a side below which no title and line of running text fit."""


def pages(setup: TextSetup, kind: str) -> Part:
    """CER, WER, 1-NED and bag-of-words F1 of originals and reconstructions, and dCER, of one kind of page."""
    if setup.reader is None:
        return Part(skipped=no_reader(setup, kind))
    if setup.charts.size < SMALLEST:
        note = f"images of {setup.charts.size} px hold no {kind}: they need {SMALLEST}"
        return Part(quantities=(absent(f"{kind}_dcer", note),))
    shown = PAGES[kind](setup.charts.size, setup.pages, setup.charts.seed, font=setup.fonts.get("latin"))
    again = setup.charts.again(shown.images)
    first, second = (setup.reader.pages(images) for images in (shown.images, again))
    pair = readings(shown.texts(), first, second, "nfkc-casefold-ws")
    picture = Picture(name=kind, title=kind.capitalize(), original=shown.images[0], reconstruction=again[0])
    return Part(quantities=tuple(_quantities(kind, pair, setup)), pictures=(picture,), images=len(again))


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
