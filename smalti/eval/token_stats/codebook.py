"""Streaming statistics of the codes of one codebook.

Shape suffixes: B images, R rows, n codes in a run.
"""

import math
from collections.abc import Sequence

import numpy as np

from smalti.eval.token_stats.compression import Compressors, huffman
from smalti.eval.token_stats.counts import SparseCounts, entropy_bits, gini, miller_madow_bits
from smalti.eval.token_stats.laws import heaps_line, zipf_likelihood, zipf_line
from smalti.eval.token_stats.neighbors import NeighborStatistics, neighbor_statistics
from smalti.eval.token_stats.summary import CodebookStatistics, NgramStatistics

MOST_TOKENS = 1 << 21
"""Tokens, those of the first images, whose runs and neighbors are counted: nearly all of these are distinct, so that
counting them all would take memory with every image."""
AXES = {1: ("sequence",), 2: ("vertical", "horizontal"), 3: ("time", "vertical", "horizontal")}
"""Names of the axes of a segment of 1, 2 or 3 dimensions."""


class CodebookCollector:
    """Counts codes, and of the first MOST_TOKENS tokens runs and neighbors, image by image.

    Memory grows with the codes that occur, not with the images, but for a few numbers per image.
    """

    def __init__(
        self,
        vocab: int,
        names: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        orders: int,
    ) -> None:
        self.vocab, self.names, self.shapes = vocab, list(names), list(shapes)
        self.runs = {n: SparseCounts(n, vocab) for n in range(1, orders + 1)}
        axes = {axis for shape in shapes for axis in AXES[len(shape)]}
        self.pairs = {axis: SparseCounts(2, vocab) for axis in sorted(axes)}
        self.compressors = Compressors(vocab)
        self.innovation: list[int] = []
        self.tokens_seen: list[int] = []
        self.image_entropy = self.image_distinct = 0.0
        self._seen = np.empty(0, np.int64)

    def add(self, segments: Sequence[np.ndarray]) -> None:
        """Codes of every segment of a batch, int64 [B, *shape], -1 where an image has no token."""
        flat_BL = np.concatenate([s.reshape(len(s), -1) for s in segments], axis=1)
        self._count_groups(segments, flat_BL)
        self._innovate(flat_BL)
        for row in flat_BL:
            codes = row[row >= 0]
            _, counts = np.unique(codes, return_counts=True)
            self.image_entropy += entropy_bits(counts)
            self.image_distinct += len(counts)
            self.compressors.add(codes)
        self.runs[1].add(flat_BL[flat_BL >= 0])

    def _count_groups(self, segments: Sequence[np.ndarray], flat_BL: np.ndarray) -> None:
        """Runs and neighbors of those images of a batch that begin within the first MOST_TOKENS tokens."""
        before, lengths = self.tokens_seen[-1] if self.tokens_seen else 0, (flat_BL >= 0).sum(axis=1)
        images = int((before + np.cumsum(lengths) - lengths < MOST_TOKENS).sum())
        for segment in (s[:images] for s in segments if images):
            for n, counter in self.runs.items():
                if n > 1:
                    counter.add(_present(_runs(segment, n)))
            for offset, axis in enumerate(AXES[segment.ndim - 1]):
                moved = np.moveaxis(segment, 1 + offset, -1)
                self.pairs[axis].add(_present(_runs(moved, 2)))

    def _innovate(self, flat_BL: np.ndarray) -> None:
        """Extends the curve of distinct codes by the images of one batch."""
        codes, first = np.unique(flat_BL, return_index=True)
        fresh = (codes >= 0) & ~np.isin(codes, self._seen)
        images = first[fresh] // flat_BL.shape[1]
        start = self.innovation[-1] if self.innovation else 0
        self.innovation += (start + np.cumsum(np.bincount(images, minlength=len(flat_BL)))).tolist()
        begun = self.tokens_seen[-1] if self.tokens_seen else 0
        self.tokens_seen += (begun + np.cumsum((flat_BL >= 0).sum(axis=1))).tolist()
        self._seen = np.union1d(self._seen, codes[fresh])

    @property
    def entropy_bits(self) -> float:
        """Plug-in entropy of the pooled codes."""
        return entropy_bits(self.runs[1].counts())

    def statistics(self) -> CodebookStatistics:
        """Everything counted so far; nothing can be added afterwards (the compressors have ended)."""
        counts, codes = self.runs[1].counts(), self.runs[1].rows()[:, 0]
        tokens, used, images = int(counts.sum()), len(counts), len(self.innovation)
        zlib_bytes, xz_bytes = self.compressors.sizes()
        entropy = entropy_bits(counts)
        return CodebookStatistics(
            vocab=self.vocab,
            segments=self.names,
            tokens=tokens,
            used=used,
            usage=used / self.vocab,
            dead=self.vocab - used,
            entropy_bits=entropy,
            entropy_bits_miller_madow=miller_madow_bits(counts),
            perplexity=2**entropy,
            normalized_entropy=entropy / math.log2(self.vocab),
            gini=gini(counts, self.vocab),
            mean_image_entropy_bits=self.image_entropy / images,
            mean_image_distinct=self.image_distinct / images,
            zipf=zipf_line(counts),
            zipf_likelihood=zipf_likelihood(counts),
            innovation=self.innovation,
            images_to_90_percent=1 + int(np.searchsorted(self.innovation, 0.9 * used)),
            heaps=heaps_line(np.asarray(self.tokens_seen), np.asarray(self.innovation)),
            ngrams=[_ngram(n, counter) for n, counter in self.runs.items() if n > 1],
            neighbors={axis: _neighbors(p, counts, codes) for axis, p in self.pairs.items()},
            huffman=huffman(counts, self.vocab),
            zlib_bits_per_token=8 * zlib_bytes / tokens,
            xz_bits_per_token=8 * xz_bytes / tokens,
        )


def _runs(segment: np.ndarray, n: int) -> np.ndarray:
    """All runs of n codes along the last axis: int64 [rows, n]."""
    if segment.shape[-1] < n:
        return np.empty((0, n), np.int64)
    return np.lib.stride_tricks.sliding_window_view(segment, n, axis=-1).reshape(-1, n)


def _present(rows: np.ndarray) -> np.ndarray:
    """Rows without a missing token."""
    return rows[(rows >= 0).all(axis=1)]


def _ngram(n: int, counter: SparseCounts) -> NgramStatistics:
    counts = counter.counts()
    return NgramStatistics(
        n=n,
        total=int(counts.sum()),
        distinct=len(counts),
        entropy_bits=entropy_bits(counts),
        zipf=zipf_line(counts),
    )


def _neighbors(pairs: SparseCounts, counts: np.ndarray, codes: np.ndarray) -> NeighborStatistics:
    return neighbor_statistics(pairs.rows(), pairs.counts(), codes, counts)
