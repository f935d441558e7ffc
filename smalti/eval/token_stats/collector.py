"""Streaming token statistics of any discrete tokenizer, for any layout.

After "Analyzing the Language of Visual Tokens" (arXiv 2411.05001): its claims on frequency, innovation, entropy and
compression. Its grammars (C-PCFG), parts and topological alignment need training or labels and are not built.
"""

import math
from itertools import pairwise

import numpy as np

from smalti.eval.token_stats.codebook import CodebookCollector
from smalti.eval.token_stats.counts import SparseCounts, entropy_bits
from smalti.eval.token_stats.summary import SegmentStatistics, TokenSummary
from smalti.tokens import PAD, TokenLayout, Tokens

ORDERS = 4
"""Longest run of codes that is counted."""


class TokenStatistics:
    """Collects the tokens of a set of images, batch by batch, in a fixed order of images.

    Segments of one vocabulary are pooled as one codebook, and every segment is reported apart as well.

    >>> layout = TokenLayout.scales((1, 2), vocab=4)
    >>> statistics = TokenStatistics(layout)
    >>> import torch
    >>> statistics.add(Tokens(layout=layout, ids=torch.tensor([[0, 1, 1, 2, 3]])), size=(8, 8))
    >>> statistics.summary().nominal_bpp, statistics.summary().codebooks[0].usage
    (0.15625, 1.0)
    """

    def __init__(self, layout: TokenLayout, *, orders: int = ORDERS) -> None:
        """Errors: ValueError for continuous latents, which have no codes (see `latents`)."""
        if any(s.vocab is None for s in layout.segments):
            raise ValueError("continuous latents have no codes to count: use smalti.eval.token_stats.latents")
        self.layout = layout
        self.images = 0
        self._pixels = self._bits = 0.0
        self._lengths: dict[int, int] = {}
        self._names = [s.name or "x".join(map(str, s.shape)) for s in layout.segments]
        self._segments = [SparseCounts(1, s.vocab or 2) for s in layout.segments]
        self._positions = SparseCounts(2, max(layout.length, *(s.vocab or 2 for s in layout.segments)))
        self._codebooks: dict[int, CodebookCollector] = {}
        self._members: dict[int, list[int]] = {}
        for vocab in dict.fromkeys(s.vocab or 2 for s in layout.segments):
            members = [i for i, s in enumerate(layout.segments) if s.vocab == vocab]
            names, shapes = [self._names[i] for i in members], [layout.segments[i].shape for i in members]
            self._members[vocab] = members
            self._codebooks[vocab] = CodebookCollector(vocab, names, shapes, orders)

    def add(self, tokens: Tokens, *, size: tuple[int, int]) -> None:
        """Adds tokens of images of `size` (height, width) in pixels. Errors: ValueError for another layout or ids."""
        if tokens.layout != self.layout or tokens.ids is None:
            raise ValueError("these tokens have another layout than the ones counted before")
        tokens.check_ids()
        if not len(tokens):
            return
        ids = np.full((len(tokens), self.layout.length), PAD, np.int64)
        ids[:, : tokens.ids.shape[1]] = tokens.ids.cpu().numpy()
        self.images += len(tokens)
        self._pixels += len(tokens) * size[0] * size[1]
        self._bits += float(tokens.bits().sum())
        for length in tokens.lengths.tolist():
            self._lengths[length] = self._lengths.get(length, 0) + 1
        image, position = np.nonzero(ids >= 0)
        self._positions.add(np.stack([position, ids[image, position]], axis=1))
        starts = self.layout.starts
        parts = [ids[:, a:b] for a, b in pairwise(starts)]
        for counter, part in zip(self._segments, parts, strict=True):
            counter.add(part[part >= 0])
        for vocab, members in self._members.items():
            shaped = [parts[i].reshape(len(ids), *self.layout.segments[i].shape) for i in members]
            self._codebooks[vocab].add(shaped)

    def summary(self) -> TokenSummary:
        """Everything counted. Errors: ValueError without images."""
        if not self.images:
            raise ValueError("no tokens were counted")
        codebooks = [c for c in self._codebooks.values() if c.tokens_seen and c.tokens_seen[-1]]
        code = self._length_code_bits()
        tokens = {c.vocab: c.tokens_seen[-1] for c in codebooks}
        order0 = sum(tokens[c.vocab] * c.entropy_bits for c in codebooks)
        nominal = self._bits / self.images + code
        bpp = nominal * self.images / self._pixels
        entropies, distinct = self._per_position()
        return TokenSummary(
            images=self.images,
            tokens_per_image=sum(k * n for k, n in self._lengths.items()) / self.images,
            length_code_bits=code,
            nominal_bits=nominal,
            nominal_bpp=bpp,
            entropy_bpp=(order0 + code * self.images) / self._pixels,
            compression_ratio=24 / bpp,
            position_entropy_bits=entropies,
            position_distinct=distinct,
            segments=[self._segment(i) for i in range(len(self._segments)) if self._segments[i].counts().size],
            codebooks=[c.statistics() for c in codebooks],
        )

    def _length_code_bits(self) -> float:
        """log2 of the legal lengths, if images differ in length."""
        if len(self._lengths) < 2:
            return 0.0
        return math.log2(self.layout.length if self.layout.ragged else len(self.layout.prefixes))

    def _per_position(self) -> tuple[list[float], list[int]]:
        rows, counts = self._positions.rows(), self._positions.counts()
        edges = np.searchsorted(rows[:, 0], np.arange(max(self._lengths) + 1))
        parts = [counts[a:b] for a, b in pairwise(edges)]
        return [entropy_bits(part) for part in parts], [len(part) for part in parts]

    def _segment(self, i: int) -> SegmentStatistics:
        counts, vocab = self._segments[i].counts(), self.layout.segments[i].vocab or 2
        entropy = entropy_bits(counts)
        return SegmentStatistics(
            name=self._names[i],
            vocab=vocab,
            tokens=int(counts.sum()),
            used=len(counts),
            usage=len(counts) / vocab,
            entropy_bits=entropy,
            perplexity=2**entropy,
        )
