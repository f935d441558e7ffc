"""Large images in overlapping windows: memory that does not grow with the image.

What is local is exact: a tokenizer made of convolutions alone gives the same tokens and pixels as for the whole image
if no token and no pixel looks farther than a quarter of the overlap. What is global is not: GroupNorm takes its
statistics, and attention its keys, from all it is given, and a window is less than the image. The statistics are
therefore pooled over all windows in a first pass; attention stays within its window. What was measured stands in
`docs/families/llamagen.md`.

Shape suffixes: B batch, H W pixels, h w token grid, N windows, n positions of a window.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from smalti.nn.pooled_norms import group_norms, measured, normalized
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import Origin, TokenLayout, Tokens

Result = TypeVar("Result")


class WindowedTokenizer(Tokenizer):
    """A tokenizer around another one, which sees at most `window` x `window` pixels at a time.

    For any tokenizer of one token grid that takes images of many sizes. An image no larger than a window is encoded and
    decoded as a whole. Encoding keeps every token from the window in whose center it lies; decoding fades from window
    to window in the middle half of their overlap, and leaves out the quarter next to a window's edge.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, window: int = 512, overlap: int | None = None, pooled: bool = True
    ) -> None:
        """`window` and `overlap` in pixels; neighbors overlap by at least `overlap`, by default a quarter of a window.

        `pooled` gives all windows of an image the same GroupNorm statistics, which takes a second pass over them.

        Errors: ValueError for a tokenizer of one size or another layout, or numbers that do not fit its grid.
        """
        super().__init__()
        self.tokenizer, self.window = tokenizer, window
        self.name, self.fingerprint, self.resize = tokenizer.name, tokenizer.fingerprint, tokenizer.resize
        self.sizes, self.frames, self.decode_options = tokenizer.sizes, tokenizer.frames, tokenizer.decode_options
        self.pooled = pooled and bool(group_norms(tokenizer))
        self.cell = _cell(tokenizer, window)
        self.overlap = max(window // 4 // self.cell, 1) * self.cell if overlap is None else overlap
        if self.overlap % self.cell or not self.cell <= self.overlap <= window // 2:
            raise ValueError(
                f"windows of {window} pixels may overlap by {self.cell} to {window // 2} pixels in steps of "
                f"{self.cell}, got overlap={overlap}"
            )

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        """That of the whole image."""
        return self.tokenizer.layout(size)

    def origin(self, image_size: tuple[int, int]) -> Origin | None:
        """As the tokenizer's own, with the windows named where there are several."""
        origin = self.tokenizer.origin(image_size)
        if origin is None or max(image_size) <= self.window:
            return origin
        windows = f"windows of {self.window} pixels overlapping by {self.overlap}"
        windows += ", pooled statistics" if self.pooled else ""
        return replace(origin, preprocessing=f"{origin.preprocessing}, {windows}")

    def _spans(self, length: int) -> list[tuple[int, int]]:
        """First token and the one behind the last of every window along an axis of `length` tokens."""
        return spans(length, self.window // self.cell, self.overlap // self.cell)

    def _encode(self, images: Tensor, rng: torch.Generator | None) -> Tokens:
        layout = self.layout((images.shape[-2], images.shape[-1]))
        rows, columns = (self._spans(n) for n in layout.segments[0].shape)

        def work() -> Tensor:
            strips = []
            for (top, bottom), (first, end) in zip(rows, owned(rows), strict=True):
                strip = []
                for (left, right), (start, stop) in zip(columns, owned(columns), strict=True):
                    area = images[..., top * self.cell : bottom * self.cell, left * self.cell : right * self.cell]
                    grid = self.tokenizer.encode(area, rng=rng).segment(0)
                    strip.append(grid[:, first - top : end - top, start - left : stop - left])
                strips.append(torch.cat(strip, dim=2))
            return torch.cat(strips, dim=1)

        return _tokens(layout, self._run(work, len(rows) * len(columns)), None)

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: torch.Generator | None) -> Tensor:
        grid = tokens.segment(0)
        height, width = (n * self.cell for n in grid.shape[1:3])
        if size is not None and (height, width) != (size, size):
            raise ValueError(f"these tokens decode to {height}x{width} pixels only, got size={size}: resize the image")
        rows, columns = self._spans(grid.shape[1]), self._spans(grid.shape[2])
        down, across = (fades(s, self.cell, self.overlap).to(self.device) for s in (rows, columns))

        def work() -> Tensor:
            images = torch.zeros(len(tokens), 3, height, width, device=self.device)
            for (top, bottom), weight_H in zip(rows, down, strict=True):
                for (left, right), weight_W in zip(columns, across, strict=True):
                    here = ((bottom - top) * self.cell, (right - left) * self.cell)
                    layout, origin = self.tokenizer.layout(here), self.tokenizer.origin(here)
                    part = self.tokenizer.decode(
                        _tokens(layout, grid[:, top:bottom, left:right], origin), options=options, rng=rng
                    )
                    area = images[..., top * self.cell : bottom * self.cell, left * self.cell : right * self.cell]
                    area += part * weight_H[:, None] * weight_W
            return images

        return self._run(work, len(rows) * len(columns))

    def _run(self, work: Callable[[], Result], windows: int) -> Result:
        """`work` over all windows; first once more, where their statistics are to be pooled."""
        if not self.pooled or windows == 1:
            return work()
        with measured(self.tokenizer) as moments:
            work()
        with normalized(self.tokenizer, moments):
            return work()


def _cell(tokenizer: Tokenizer, window: int) -> int:
    """Pixels per token, each way; ValueError if the tokenizer or the window is not fit for windows."""
    name = tokenizer.name or type(tokenizer).__name__
    if tokenizer.sizes.kind == "fixed" or tokenizer.frames:
        takes = "videos" if tokenizer.frames else f"images of {tokenizer.sizes} only"
        raise ValueError(f"windows need a tokenizer of images of many sizes; {name} takes {takes}")
    if not tokenizer.sizes.allows(window, window):
        raise ValueError(f"a window must be of a size that {name} takes ({tokenizer.sizes}), got {window} pixels")
    segments = tokenizer.layout(window).segments
    if len(segments) != 1 or len(segments[0].shape) != 2 or window % segments[0].shape[0]:
        raise ValueError(f"windows need a tokenizer of one token grid; {name} has {[s.shape for s in segments]}")
    return window // segments[0].shape[0]


def _tokens(layout: TokenLayout, grid: Tensor, origin: Origin | None) -> Tokens:
    """Tokens of a grid of ids [B, h, w] or latents [B, h, w, C]."""
    values = {"latents" if layout.continuous else "ids": grid.flatten(1, 2)}
    return Tokens(layout=layout, origin=origin, **values)


def spans(length: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Windows [start, end) that cover `length` positions evenly, neighbors overlapping by at least `overlap`.

    >>> spans(10, 4, 1), spans(3, 4, 1)
    ([(0, 4), (3, 7), (6, 10)], [(0, 3)])
    """
    if length <= window:
        return [(0, length)]
    gaps = -(-(length - window) // (window - overlap))
    starts = [i * (length - window) // gaps for i in range(gaps + 1)]
    return [(start, start + window) for start in starts]


def owned(windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The part [start, end) of each window that is nearer to its center than to any other's.

    >>> owned([(0, 4), (3, 7), (6, 10)])
    [(0, 3), (3, 6), (6, 10)]
    """
    borders = [(a[1] + b[0]) // 2 for a, b in pairwise(windows)]
    return list(pairwise([windows[0][0], *borders, windows[-1][1]]))


def fades(windows: list[tuple[int, int]], cell: int, overlap: int) -> Tensor:
    """float [N, n]: weight of every pixel along one axis, `windows` in tokens of `cell` pixels; they sum to 1.

    0 within overlap / 4 pixels of a window's edge, 1 beyond 3 / 4 of the overlap, linear in between; the border of the
    image is no edge.
    """
    first, last = windows[0][0], windows[-1][1]
    position_n = torch.arange((windows[0][1] - first) * cell) + 0.5
    ramps, sums = [], torch.zeros((last - first) * cell)
    for start, end in windows:
        nearest_n = torch.full_like(position_n, overlap)
        if start > first:
            nearest_n = nearest_n.minimum(position_n)
        if end < last:
            nearest_n = nearest_n.minimum(position_n.flip(0))
        ramps.append((nearest_n - overlap / 4).clamp(0, overlap / 2))
        sums[start * cell : end * cell] += ramps[-1]
    return torch.stack([r / sums[a * cell : b * cell] for r, (a, b) in zip(ramps, windows, strict=True)])
