"""Continuous latents rounded to a few bits a value: codes, what they cost, and tokens that decode as they come back.

Shape suffixes: B batch, L tokens, C latent channels, N tokens of all images, K codes of a channel.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from smalti.eval.scalar_quantizer import DEPTHS, ScalarQuantizer
from smalti.eval.token_stats.counts import entropy_bits
from smalti.tokens import Tokens


def check_depths(depths: Sequence[int]) -> tuple[int, ...]:
    """Bits per value, ascending and each once. Errors: ValueError for others than 2 to 8."""
    if wrong := [d for d in depths if d not in DEPTHS]:
        raise ValueError(f"latents are rounded to {DEPTHS[0]} to {DEPTHS[-1]} bits per value, got {wrong}")
    return tuple(sorted(set(depths)))


def present(tokens: Tokens) -> Tensor:
    """float32 [N, C] on the CPU: the latents that an image has, padding left out. Errors: ValueError for ids."""
    if tokens.latents is None:
        raise ValueError("these tokens are codes of a codebook: their bits are known already")
    return tokens.latents.float().cpu()[_there(tokens)]


def fit_quantizers(latents: Iterable[Tensor], depths: Sequence[int]) -> dict[int, ScalarQuantizer]:
    """One quantizer per depth, fitted to latents [N, C]; they cost no bits, as codebooks do not."""
    values_NC = torch.cat(list(latents))
    return {depth: ScalarQuantizer.fit(values_NC, depth) for depth in depths}


def rounded_latents(tokens: Tokens, quantizer: ScalarQuantizer) -> tuple[Tokens, Tensor]:
    """Tokens with every latent at the middle of its step, and int64 [C, K] how often each code of a channel occurs."""
    codes_NC = quantizer.codes(present(tokens))
    assert tokens.latents is not None
    latents_BLC = tokens.latents.clone()
    latents_BLC[_there(tokens).to(latents_BLC.device)] = quantizer.values(codes_NC).to(latents_BLC)
    channels, count = codes_NC.shape[1], 2**quantizer.depth
    shifted = codes_NC + count * torch.arange(channels)
    counts_CK = torch.bincount(shifted.flatten(), minlength=channels * count).view(channels, count)
    return replace(tokens, latents=latents_BLC), counts_CK


def entropy_share(counts_CK: Tensor) -> float:
    """Bits of an ideal order-0 code of each channel, over the nominal bits: at most 1."""
    channels, count = counts_CK.shape
    entropies = [entropy_bits(c[c > 0].numpy()) for c in counts_CK]
    return sum(entropies) / (channels * (count.bit_length() - 1))


def _there(tokens: Tokens) -> Tensor:
    """bool [B, L]: True where an image has a token."""
    return torch.arange(tokens.values.shape[1]) < tokens.lengths.cpu()[:, None]
