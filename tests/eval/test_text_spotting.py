"""Proves that text spotting counts as defined: pairs by boxes, one to one, the largest overlap first, then strings."""

from itertools import permutations
from typing import Any

import pytest
import torch

from smalti.eval.tasks.text import text
from smalti.eval.text.ocr import Found, Reader, _words, in_reading_order, reader, words_of
from smalti.eval.text.pages import documents, posters
from smalti.eval.text.spotting import Box, Rates, Spotting, overlap, pairing, spotting


def words(*pieces: tuple[str, Box]) -> list[Found]:
    return [Found(text=text, box=box) for text, box in pieces]


KNOWN = words(("one", (0, 0, 10, 10)), ("two", (20, 0, 30, 10)), ("three", (0, 20, 10, 30)))


def test_overlap() -> None:
    """By hand: equal, half of one in the other, shifted by a half, touching, apart, without area."""
    box = (0.0, 0.0, 10.0, 10.0)
    others = [box, (0, 0, 10, 5), (5, 0, 15, 10), (10, 0, 20, 10), (50, 50, 60, 60), (3, 3, 3, 8)]
    assert [overlap(box, other) for other in others] == [1, 0.5, pytest.approx(1 / 3), 0, 0, 0]
    assert [overlap(other, box) for other in others] == [overlap(box, other) for other in others]


def test_a_page_by_hand() -> None:
    """3 known, 4 found: one read, one found but misread, one too far off (IoU 1/3), one where nothing is."""
    found = words(
        ("ONE", (0, 0, 10, 9)), ("too", (21, 0, 30, 10)), ("three", (5, 20, 15, 30)), ("ghost", (50, 50, 60, 60))
    )
    page = spotting(KNOWN, found)
    assert page == Spotting(known=3, found=4, detected=2, read=1)
    assert page.detection == Rates(precision=0.5, recall=2 / 3, f1=4 / 7)
    assert page.end_to_end == Rates(precision=0.25, recall=1 / 3, f1=2 / 7)
    assert spotting(KNOWN, found, "raw").read == 0, "the case counts"
    assert page + Spotting(known=1, found=0, detected=0, read=0) == Spotting(known=4, found=4, detected=2, read=1)


def test_an_overlap_of_exactly_one_half_counts() -> None:
    """10 x 5 of 10 x 10 does, 10 x 4.999 does not."""
    for height, detected in ((5, 1), (4.999, 0)):
        assert spotting(KNOWN[:1], words(("one", (0, 0, 10, height)))).detected == detected


def test_one_to_one_and_the_largest_first() -> None:
    """Of two found on one known the nearer counts, also if the other has the right string; a found word pairs once."""
    twice = words(("one", (0, 0, 10, 8)), ("uno", (0, 0, 10, 9)))
    assert spotting(KNOWN[:1], twice) == Spotting(known=1, found=2, detected=1, read=0)
    ((_, nearer),) = pairing(KNOWN[:1], twice, "raw")
    assert nearer.text == "uno"
    stacked = words(("one", (0, 0, 10, 10)), ("two", (0, 0, 10, 12)))
    assert spotting(stacked, words(("two", (0, 0, 10, 11)))) == Spotting(known=2, found=1, detected=1, read=1)


def test_the_second_best_is_free_for_another() -> None:
    """Overlaps with the higher box .9 for a, .67 for b, with the lower .8 and .75: a takes the higher, b the lower."""
    known = words(("a", (0, 0, 10, 10)), ("b", (0, 0, 10, 6)))
    found = words(("a", (0, 0, 10, 9)), ("b", (0, 0, 10, 8)))
    assert {(k.text, f.text) for k, f in pairing(known, found, "raw")} == {("a", "a"), ("b", "b")}


def test_ties_go_to_equal_strings_and_never_to_the_order() -> None:
    """One found word over two known ones at exactly one half each; copies of one box with different strings."""
    halves = words(("left", (0, 0, 10, 10)), ("right", (10, 0, 20, 10)))
    for name in ("left", "right"):
        for known in (halves, halves[::-1]):
            assert spotting(known, words((name, (0, 0, 20, 10)))) == Spotting(known=2, found=1, detected=1, read=1)
    copies = words(*((t, (0.0, 0.0, 10.0, 10.0)) for t in ("won", "one", "on")))
    for found in permutations(copies):
        assert spotting(KNOWN[:1], found) == Spotting(known=1, found=3, detected=1, read=1)
    found = words(("one", (0, 0, 10, 8)), ("uno", (0, 0, 10, 9)), ("two", (20, 0, 31, 10)), ("three", (0, 20, 9, 30)))
    assert len({spotting(k, f) for k in permutations(KNOWN) for f in permutations(found)}) == 1


def test_empty_sides() -> None:
    """Nothing on both sides is perfect; nothing on one is 0."""
    assert spotting([], []).detection == Rates(precision=1, recall=1, f1=1)
    assert spotting(KNOWN, []).end_to_end == Rates(precision=0, recall=0, f1=0)
    assert spotting([], KNOWN).end_to_end == Rates(precision=0, recall=0, f1=0)


def box(left: float, right: float) -> list[list[float]]:
    """The corners of a box as RapidOCR gives them."""
    return [[left, 0], [right, 0], [right, 5], [left, 5]]


def test_words_of_a_line() -> None:
    """Units of RapidOCR may be words, characters (where a line has Chinese) or parts between wide gaps."""
    units = [("ab", 1.0, box(0, 9)), ("c", 1.0, box(9, 12)), ("中", 1.0, box(20, 25)), ("d", 1.0, box(26, 30))]
    assert _words("abc  中d", units) == tuple(words(("abc", (0, 0, 12, 5)), ("中d", (20, 0, 30, 5))))
    with pytest.raises(RuntimeError, match="do not spell 'abd 中d'"):
        _words("abd 中d", units)


class Lines:
    """An engine that finds one line of two words on enlarged pixels, and one that it has not cut."""

    label = "lines"

    def facts(self) -> dict[str, Any]:
        return {}

    def strings(self, images: Any, script: str) -> list[str]:
        return [""] * len(images)

    def page(self, pixels: Any) -> list[Found]:
        parts = tuple(words(("a", (2, 4, 10, 12)), ("b", (14, 4, 20, 12))))
        return [Found(text="a b", box=(2, 4, 20, 12), words=parts), Found(text="c", box=(2, 20, 10, 28))]

    def reads(self, script: str, alphabet: Any) -> bool:
        return True


def test_boxes_are_in_pixels_of_the_image() -> None:
    """The reader enlarges twice; the text is the one that `pages` gives."""
    read, image = Reader(Lines()), torch.ones(1, 3, 16, 16)
    (page,) = read.found(image)
    assert words_of(page) == words(("a", (1, 2, 5, 6)), ("b", (7, 2, 10, 6)), ("c", (1, 10, 5, 14)))
    assert in_reading_order(page) == read.pages(image)[0] == "a b\nc"


def test_the_reader_spots_what_is_drawn() -> None:
    """Every word of untouched pages in its box; the text as before; the flag of word boxes does not stay set."""
    pytest.importorskip("rapidocr")
    read = reader("rapidocr")
    for make in (documents, posters):
        shown = make(96, 1, 1)
        for known, page in zip(shown.words, read.found(shown.images), strict=True):
            assert spotting(known, words_of(page)).end_to_end == Rates(precision=1, recall=1, f1=1)
        assert [in_reading_order(page) for page in read.found(shown.images)] == read.pages(shown.images)
    one = [[shown.words[0][0].box]]
    assert read.words(shown.images, one) == [shown.words[0][0].text]


def test_noise_spells_its_words_too() -> None:
    """Lines of invented characters have words with boxes that spell them, whatever the reader makes of them."""
    pytest.importorskip("rapidocr")
    shown, rng = documents(128, 1, 3), torch.Generator().manual_seed(0)
    for strength in (0.3, 0.6):
        noisy = (shown.images + strength * torch.randn(shown.images.shape, generator=rng)).clamp(0, 1)
        for piece in reader("rapidocr").found(noisy)[0]:
            assert " ".join(w.text for w in piece.words) == " ".join(piece.text.split())


def test_the_text_task_scores_both_sides() -> None:
    """Originals are spotted, a picture of nothing has no words; all twelve rates stand in the result."""
    pytest.importorskip("rapidocr")
    result = text(torch.ones_like, 64, quick=True, seed=0, parts=("documents",))
    for measure in ("detection", "end_to_end"):
        for share in ("precision", "recall", "f1"):
            original, lost = (result.quantity(f"documents_{measure}_{share}{s}") for s in ("_original", ""))
            assert original.value == 1 and lost.value == 0 and lost.better == "higher"
            assert "IoU >= 0.5" in lost.note
    assert "nfkc-casefold-ws" in result.quantity("documents_end_to_end_f1").note
