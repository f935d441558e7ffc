"""Text spotting from end to end: words found and read on a page, against known words in their known boxes.

A found word is paired with a known one if the intersection of their boxes over the union (IoU) is at least one half;
pairs are taken one to one, the largest IoU first. Detection counts the pairs, end to end those whose strings are equal:
one pairing for both, as in the ICDAR robust reading competitions (2015), whose script takes pairs in the order of the
words, and only above one half.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from smalti.eval.strings import Preset, normalize

IOU = 0.5
"""Smallest overlap of a pair."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


class Placed(Protocol):
    """A word with its box: a known one or a found one."""

    @property
    def text(self) -> str: ...

    @property
    def box(self) -> Box: ...


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Shares in [0, 1]; of nothing 1 if the other side is empty too, else 0."""

    precision: float
    """Pairs over found words."""
    recall: float
    """Pairs over known words."""
    f1: float
    """Twice the pairs over all words of both sides."""


@dataclass(frozen=True, kw_only=True)
class Spotting:
    """Counts of one page; those of several pages add up."""

    known: int
    """Words on the page."""
    found: int
    """Words that the reader sees."""
    detected: int
    """Pairs by their boxes."""
    read: int
    """Pairs of them with equal strings."""

    def __add__(self, other: "Spotting") -> "Spotting":
        return Spotting(
            known=self.known + other.known,
            found=self.found + other.found,
            detected=self.detected + other.detected,
            read=self.read + other.read,
        )

    @property
    def detection(self) -> Rates:
        """By the boxes alone."""
        return _rates(self.detected, self.known, self.found)

    @property
    def end_to_end(self) -> Rates:
        """By box and string."""
        return _rates(self.read, self.known, self.found)


def spotting(known: Sequence[Placed], found: Sequence[Placed], preset: Preset = "nfkc-casefold-ws") -> Spotting:
    """Counts of one page; strings are compared after `normalize` by the preset ("raw" minds the case).

    Where overlaps tie, pairs of equal strings go first; the order of the words never counts.
    """
    pairs = pairing(known, found, preset)
    return Spotting(
        known=len(known), found=len(found), detected=len(pairs), read=sum(_equal(k, f, preset) for k, f in pairs)
    )


def pairing(known: Iterable[Placed], found: Sequence[Placed], preset: Preset) -> list[tuple[Placed, Placed]]:
    """The pairs (known, found), the largest overlap first."""
    near = [(overlap(k.box, f.box), i, j, k, f) for i, k in enumerate(known) for j, f in enumerate(found)]
    near = [each for each in near if each[0] >= IOU]
    near.sort(key=lambda n: (-n[0], not _equal(n[3], n[4], preset), n[3].box, n[4].box, n[3].text, n[4].text))
    taken_known: set[int] = set()
    taken_found: set[int] = set()
    pairs = []
    for _, i, j, k, f in near:
        if i not in taken_known and j not in taken_found:
            taken_known.add(i)
            taken_found.add(j)
            pairs.append((k, f))
    return pairs


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two upright boxes; 0 where they do not overlap.

    >>> overlap((0, 0, 4, 2), (1, 0, 4, 2))
    0.75
    """
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def _equal(known: Placed, found: Placed, preset: Preset) -> bool:
    return normalize(known.text, preset) == normalize(found.text, preset)


def _rates(pairs: int, known: int, found: int) -> Rates:
    return Rates(
        precision=pairs / found if found else float(known == 0),
        recall=pairs / known if known else float(found == 0),
        f1=2 * pairs / (known + found) if known + found else 1.0,
    )
