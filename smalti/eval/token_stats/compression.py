"""How far codes can be compressed: Huffman on single codes, and two general compressors that also see repetition."""

import heapq
import lzma
import math
import zlib
from dataclasses import dataclass

import numpy as np

from smalti.eval.token_stats.counts import Counts


@dataclass(frozen=True, kw_only=True)
class HuffmanCode:
    """An optimal prefix code of single codes; its table is not counted."""

    total_bits: int
    bits_per_token: float
    reduction: float
    """1 - Huffman / ceil(log2 vocabulary): what is saved against a fixed-length code."""


def huffman(counts: Counts, vocab: int) -> HuffmanCode:
    """The total length is unique, although codes of equal counts may swap."""
    heap = sorted(int(c) for c in counts)
    total = sum(heap)
    bits = total if len(heap) == 1 else 0  # a single code still needs a bit to be sent
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        bits += merged
        heapq.heappush(heap, merged)
    fixed = total * math.ceil(math.log2(vocab))
    return HuffmanCode(
        total_bits=bits, bits_per_token=bits / total if total else 0.0, reduction=1 - bits / fixed if fixed else 0.0
    )


class Compressors:
    """zlib (level 9) and xz (preset 6) over all codes in raster order, in the narrowest of 2, 4, 8 bytes.

    Little-endian; both see the whole stream, image after image, in constant memory. Sizes depend slightly on the
    build of zlib.
    """

    def __init__(self, vocab: int) -> None:
        self.dtype = np.dtype("<u2" if vocab <= 1 << 16 else "<u4" if vocab <= 1 << 32 else "<u8")
        self._zlib, self._xz = zlib.compressobj(9), lzma.LZMACompressor(preset=6)
        self._sizes = [0, 0]
        self._ended = False

    def add(self, codes: np.ndarray) -> None:
        """Appends codes int64 [n]."""
        assert not self._ended, "the streams have been ended by sizes()"
        data = codes.astype(self.dtype).tobytes()
        self._sizes[0] += len(self._zlib.compress(data))
        self._sizes[1] += len(self._xz.compress(data))

    def sizes(self) -> tuple[int, int]:
        """Bytes of (zlib, xz); nothing can be added afterwards."""
        if not self._ended:
            self._sizes[0] += len(self._zlib.flush())
            self._sizes[1] += len(self._xz.flush())
            self._ended = True
        return self._sizes[0], self._sizes[1]
