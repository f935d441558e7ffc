"""The key-value cache of a transformer: allocated once, filled step by step."""

import torch
from torch import Tensor


def cache_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """What keys and values are kept in: the model's dtype, but float32 on the CPU.

    There the attention of one bfloat16 query took 5 to 7 times as long as that of a float32 one (64 to 569 keys).
    """
    return torch.float32 if device.type == "cpu" else dtype


class KVCache:
    """Keys and values of all layers for `rows` sequences of at most `length` tokens.

    Shape suffixes: R rows, H heads, L tokens, d head width.
    """

    def __init__(
        self,
        *,
        layers: int,
        rows: int,
        heads: int,
        length: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        # One place too many: a full cache then looks like a part of one, and compiled blocks need no version for it.
        shape = (layers, 2, rows, heads, length + 1, head_dim)
        self.values = torch.empty(shape, dtype=dtype, device=device)[..., :length, :]
        self.used = 0

    def extend(self, layer: int, k_RHnd: Tensor, v_RHnd: Tensor) -> tuple[Tensor, Tensor]:
        """Stores keys and values of n new tokens; returns those of all tokens so far, [R, H, used + n, d].

        They come in the cache's dtype, which the queries must have as well. Call `advance(n)` after the last layer.
        """
        end = self.used + k_RHnd.shape[2]
        self.values[layer, 0, :, :, self.used : end] = k_RHnd
        self.values[layer, 1, :, :, self.used : end] = v_RHnd
        return self.values[layer, 0, :, :, :end], self.values[layer, 1, :, :, :end]

    def advance(self, count: int) -> None:
        """Counts the tokens that every layer has stored."""
        self.used += count

    def keep_rows(self, rows: int) -> None:
        """Forgets all but the first `rows` sequences: the null rows, once nothing is guided any more."""
        self.values = self.values[:, :, :rows]
