"""What continuous latents cost: they have no codebook, so floats, and bits after uniform scalar quantization.

Shape suffixes: N tokens of all images, C channels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from smalti.eval.scalar_quantizer import DEPTHS, ScalarQuantizer
from smalti.eval.token_stats.counts import entropy_bits
from smalti.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class QuantizedCost:
    """Latents at one number of bits per value."""

    depth: int
    """Bits per value."""
    bpp: float
    """tokens x channels x depth over pixels."""
    entropy_bpp: float
    """With the entropy of every channel's codes in place of depth."""
    snr_db: float
    """Variance of the latents over square error, both over all channels, dB."""


@dataclass(frozen=True, kw_only=True)
class LatentSummary:
    """Continuous latents of a set of images."""

    images: int
    tokens_per_image: float
    channels: int
    floats_per_image: float
    float_bits: int
    """Bits of the dtype the latents are kept in."""
    float_bpp: float
    """What the floats cost as they are."""
    quantized: list[QuantizedCost]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def latent_summary(tokens: Tokens, *, size: tuple[int, int], depths: Sequence[int] = tuple(DEPTHS)) -> LatentSummary:
    """Costs of latents [B, L, C] of images of `size` (height, width) pixels.

    Each quantizer is fitted to these latents, which favors it slightly. Errors: ValueError for discrete tokens.
    """
    if tokens.latents is None:
        raise ValueError("these tokens are codes, whose bits are known: use TokenStatistics")
    latents = tokens.latents.detach().cpu()
    there = torch.arange(latents.shape[1]) < tokens.lengths.cpu()[:, None]
    values_NC = latents[there].float()
    images, channels = len(tokens), latents.shape[2]
    pixels = images * size[0] * size[1]
    variance = values_NC.var(dim=0, correction=0).sum()
    costs = []
    for depth in depths:
        quantizer = ScalarQuantizer.fit(values_NC, depth)
        codes_NC = quantizer.codes(values_NC)
        entropies = [entropy_bits(c.unique(return_counts=True)[1].numpy()) for c in codes_NC.T]
        error = (quantizer.values(codes_NC) - values_NC).square().mean(dim=0).sum()
        costs.append(
            QuantizedCost(
                depth=depth,
                bpp=values_NC.numel() * depth / pixels,
                entropy_bpp=len(values_NC) * sum(entropies) / pixels,
                snr_db=float(10 * (variance / error).log10()),
            )
        )
    float_bits = latents.element_size() * 8
    return LatentSummary(
        images=images,
        tokens_per_image=len(values_NC) / images,
        channels=channels,
        floats_per_image=values_NC.numel() / images,
        float_bits=float_bits,
        float_bpp=values_NC.numel() * float_bits / pixels,
        quantized=costs,
    )
