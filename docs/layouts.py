"""Draws the token layout of every tokenizer family: `python docs/layouts.py` writes docs/images/layout-FAMILY.svg.

Each drawing is made from the family's own `TokenLayout`, so it cannot say anything else than the code.
"""

from html import escape
from pathlib import Path

import smalti
from smalti.hub.families import FAMILIES, build_empty
from smalti.hub.registry import Entry, Folder, entries
from smalti.tokens import Segment, TokenLayout

OUT = Path(__file__).parent / "images"
WIDTH, MARGIN, TOP = 760, 24, 64
CELL, GAP = 12, 2
INK, PALE, CUT = "#1f2933", "#8a94a0", "#c2410c"
RAMP = ("#0f4c5c", "#1d7874", "#5fa8a3", "#a7d3cf", "#d9ecea")
"""Coarse to fine, or first to last."""


def shade(share: float) -> str:
    """Color of a token at this share of the sequence."""
    return RAMP[min(int(share * len(RAMP)), len(RAMP) - 1)]


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="1.5" fill="{fill}"/>'


def text(x: float, y: float, words: str, size: int = 13, fill: str = INK, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def label(segment: Segment) -> str:
    """Name, shape and what a token holds."""
    shape = " x ".join(map(str, segment.shape))
    holds = f"{segment.vocab:,} codes" if segment.vocab else "continuous"
    name = f"{segment.name}: " if segment.name and "x" not in segment.name else ""
    return f"{name}{shape}, {holds}"


def grid(segment: Segment, x: float, y: float, start: int, total: int, side: float) -> list[str]:
    """A map of tokens in reading order; of a video the frames behind each other."""
    *depth, rows, columns = segment.shape
    frames = depth[0] if depth else 1
    step = side / max(rows, columns)
    parts = []
    for frame in reversed(range(frames)):
        shift = frame * 9
        for i in range(rows * columns):
            share = (start + frame * rows * columns + i) / total
            row, column = divmod(i, columns)
            parts.append(box(x + shift + column * step, y + shift + row * step, step * 0.9, step * 0.9, shade(share)))
    return parts


def sequence(segment: Segment, y: float, start: int, total: int, cuts: set[int]) -> tuple[list[str], float]:
    """A row (or several) of tokens with a mark behind every legal cut; returns the parts and the bottom."""
    per_row = int((WIDTH - 2 * MARGIN) // CELL)
    parts = []
    for i in range(segment.count):
        row, column = divmod(i, per_row)
        x, top = MARGIN + column * CELL, y + row * (CELL + 8)
        parts.append(box(x, top, CELL - GAP, CELL, shade((start + i) / total)))
        if start + i + 1 in cuts:
            parts.append(box(x + CELL - GAP, top - 2, 1.4, CELL + 4, CUT))
    return parts, y + ((segment.count - 1) // per_row + 1) * (CELL + 8)


def drawing(entry: Entry, layout: TokenLayout) -> str:
    """The whole SVG."""
    parts, y, x = [], float(TOP), float(MARGIN)
    cuts = set(layout.prefixes) if len(layout.prefixes) > 1 else set()
    maps = [s for s in layout.segments if len(s.shape) > 1]
    largest = max((max(s.shape[-2:]) for s in maps), default=1)
    room = (WIDTH - 2 * MARGIN - 16 * len(maps)) / max(sum(max(s.shape[-2:]) for s in maps), 1)
    step = min(9.0, room, 200 / largest)
    for segment, start in zip(layout.segments, layout.starts, strict=False):
        if len(segment.shape) == 1:
            parts.append(text(MARGIN, y - 6, label(segment), 12))
            drawn, y = sequence(segment, y, start, layout.length, cuts)
            parts += drawn
            y += 26
    if maps:
        few = len(maps) <= 2
        for segment in maps:
            start = layout.starts[layout.segments.index(segment)]
            side = step * max(segment.shape[-2:])
            parts += grid(segment, x, y + (0 if few else step * largest - side), start, layout.length, side)
            if few:
                parts.append(text(x, y - 6, label(segment), 12))
            x += side + 16
        depth = 9 * max(s.shape[0] - 1 if len(s.shape) == 3 else 0 for s in maps)
        y += step * largest + depth + 22
        if not few:
            sides = ", ".join("x".join(map(str, s.shape)) for s in maps)
            parts.append(text(MARGIN, y - 4, f"{sides}; {maps[0].vocab:,} codes", 12))
            y += 16
    parts.append(text(MARGIN, y, rule(layout), 12, PALE))
    title = f"{entry.family}: {layout.length} tokens" + (
        f" of a {entry.image_size} px image" if entry.image_size else ""
    )
    head = [text(MARGIN, 26, title, 16), text(WIDTH - MARGIN, 26, entry.name, 12, PALE, "end")]
    height = y + 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>\n' + "\n".join([*head, *parts]) + "\n</svg>\n"
    )


def rule(layout: TokenLayout) -> str:
    """Where the sequence may be cut, in words."""
    if layout.ragged:
        return f"every image has its own number of tokens, up to {layout.length}"
    if len(layout.prefixes) == 1:
        return "whole only: a part of the sequence does not decode"
    shown = ", ".join(map(str, layout.prefixes[:12])) + (", ..." if len(layout.prefixes) > 12 else "")
    return f"may be cut after {shown} tokens" + (f" up to {layout.length}" if len(layout.prefixes) > 12 else "")


def main() -> None:
    """One drawing a family, of its first published tokenizer."""
    OUT.mkdir(exist_ok=True)
    published = [e for e in entries() if e.role == "tokenizer" and not isinstance(e.source, Folder)]
    for family in (f.name for f in FAMILIES if f.role == "tokenizer"):
        entry = next(e for e in published if e.family == family)
        layout = build_empty(entry.role, entry.family, entry.config).layout(entry.image_size)
        (OUT / f"layout-{family}.svg").write_text(drawing(smalti.model_info(entry.name), layout))
        print(f"layout-{family}.svg: {entry.name}")


if __name__ == "__main__":
    main()
