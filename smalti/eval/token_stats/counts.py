"""Counting codes and groups of codes in memory that grows with what is distinct, and what counts say.

All logarithms are base 2 and all entropies are plug-in estimates unless a name says otherwise.
"""

import math

import numpy as np

Counts = np.ndarray
"""int64 [n], all positive: how often each distinct thing occurred."""
_KEY_BITS = 62


class SparseCounts:
    """How often every distinct row of `width` codes occurred.

    Rows are packed into one int64 where the vocabulary allows, and counts are merged only when as much is pending as is
    known, so that a long run costs no more than a sort of all its tokens.
    """

    def __init__(self, width: int, vocab: int) -> None:
        self.width, self.vocab = width, vocab
        self._packed = width * math.log2(vocab) <= _KEY_BITS
        self._keys = np.empty((0,) if self._packed else (0, width), np.int64)
        self._counts = np.empty(0, np.int64)
        self._pending: list[np.ndarray] = []
        self._waiting = 0

    def add(self, rows: np.ndarray) -> None:
        """Counts rows int64 [n, width] of codes in 0..vocab-1."""
        keys = self._pack(rows.reshape(-1, self.width))
        self._pending.append(keys)
        self._waiting += len(keys)
        if self._waiting > max(len(self._counts), 1 << 16):
            self._merge()

    def counts(self) -> Counts:
        """Counts of all distinct rows, in the order of `rows`."""
        self._merge()
        return self._counts

    def rows(self) -> np.ndarray:
        """Distinct rows int64 [n, width], ascending."""
        self._merge()
        if not self._packed:
            return self._keys
        powers = self.vocab ** np.arange(self.width - 1, -1, -1, dtype=np.int64)
        return self._keys[:, None] // powers % self.vocab

    def _pack(self, rows: np.ndarray) -> np.ndarray:
        if not self._packed:
            return rows.astype(np.int64)
        key = np.zeros(len(rows), np.int64)
        for column in rows.T:
            key = key * self.vocab + column
        return key

    def _merge(self) -> None:
        if not self._pending:
            return
        keys = np.concatenate([self._keys, *self._pending])
        weights = np.concatenate([self._counts, np.ones(self._waiting, np.int64)])
        self._keys, inverse = np.unique(keys, axis=None if self._packed else 0, return_inverse=True)
        self._counts = np.bincount(inverse.ravel(), weights, len(self._keys)).astype(np.int64)
        self._pending, self._waiting = [], 0


def entropy_bits(counts: Counts) -> float:
    """H = -sum p log2 p; 0 of nothing."""
    total = counts.sum()
    return max(0.0, float(np.log2(total) - (counts * np.log2(counts)).sum() / total)) if total else 0.0


def miller_madow_bits(counts: Counts) -> float:
    """H + (used - 1) / (2 N ln 2): corrects most of what the plug-in estimate loses when tokens are few."""
    total = counts.sum()
    return entropy_bits(counts) + (len(counts) - 1) / (2 * float(total) * math.log(2)) if total else 0.0


def gini(counts: Counts, vocab: int) -> float:
    """Inequality of use over all `vocab` codes, unused ones included: 0 = all equal, toward 1 = one code only."""
    ordered = np.sort(counts).astype(np.float64)
    ranks = np.arange(vocab - len(ordered) + 1, vocab + 1)
    return float(2 * (ranks * ordered).sum() / (vocab * ordered.sum()) - (vocab + 1) / vocab) if len(ordered) else 0.0
