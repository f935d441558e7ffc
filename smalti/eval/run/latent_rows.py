"""Continuous tokenizers on the rate axis: rows with their latents rounded to some bits per value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from smalti.eval.latent_codes import fit_quantizers, present
from smalti.eval.run.sources import Source
from smalti.eval.run.subjects import TokenizerSubject
from smalti.eval.scalar_quantizer import ScalarQuantizer

CALIBRATION = 32
"""Images, the first ones that can be read, that the limits of the quantizers are fitted to."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """Quantizers of a tokenizer, and what its latents cost."""

    quantizers: dict[int, ScalarQuantizer]
    """By bits per value; empty if no image could be read."""
    bpp: dict[int, float]
    """Nominal bits per pixel of each, the mean over the images of the calibration."""


def calibrated(subject: TokenizerSubject, source: Source, depths: Sequence[int]) -> Calibrated:
    """Fits one quantizer per depth to the first images of the source."""
    latents, rates = [], []
    for image in _images(subject, source):
        values_NC = present(subject.tokenizer.encode(image))
        latents.append(values_NC)
        rates.append(values_NC.numel() / (image.shape[-2] * image.shape[-1]))
    if not latents:
        return Calibrated(quantizers={}, bpp={})
    return Calibrated(
        quantizers=fit_quantizers(latents, depths),
        bpp={depth: depth * sum(rates) / len(rates) for depth in depths},
    )


def _images(subject: TokenizerSubject, source: Source) -> Iterator[Tensor]:
    count = 0
    for i in range(len(source)):
        try:
            yield subject.source_image(source, i)
        except (ValueError, OSError):
            continue  # counted when the chunks are computed
        count += 1
        if count == CALIBRATION:
            return


def describe_rounding(subject: TokenizerSubject, depth: int, protocol: dict[str, Any]) -> dict[str, Any]:
    """The fields `protocol` and `facts` of a row: how its latents were rounded and counted."""
    quantizer = subject.quantizers[depth]
    how = (
        f"uniform steps, {depth} bits per value, per channel between fixed limits (mean +- k standard deviations, k of "
        f"least square error over the first {CALIBRATION} images), values at the middle of their step; bpp: tokens x "
        "channels x bits; entropy bpp: order-0 entropy of every channel's codes over all images, its table free"
    )
    facts = {
        "latents_of": subject.name,
        "bits_per_value": depth,
        "channels": len(quantizer.low),
        "low": quantizer.low.tolist(),
        "high": quantizer.high.tolist(),
    }
    return {"protocol": protocol | {"latents": how}, "facts": facts}
