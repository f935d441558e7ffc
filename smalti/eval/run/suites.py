"""What a suite runs."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Tasks of an evaluation."""

    reconstruction: bool = True
    detail: bool = False
    text: bool = False
    tokens: bool = False
    """Token statistics and stability."""
    quick: bool = False
    """Fewer placements, sizes and texts."""
    needs_data: bool = True
    """Images of the user are needed; otherwise the packaged samples are taken."""
    protocol: str = "native"
    baselines: bool = True
    latent_bits: tuple[int, ...] = ()
    """Bits per value that continuous latents are rounded to, one row each."""


LATENT_BITS = (2, 4, 8)
"""8: hardly to be told from the latents as they are; 4: often enough; 2: where it breaks."""
SUITES: dict[str, Suite] = {
    "quick": Suite(detail=True, text=True, tokens=True, quick=True, needs_data=False, latent_bits=LATENT_BITS),
    "standard": Suite(detail=True, text=True, tokens=True, latent_bits=LATENT_BITS),
    "tokens": Suite(reconstruction=False, tokens=True, baselines=False),
    "imagenet": Suite(tokens=True, baselines=False, protocol="llamagen"),
}
"""Suites over tokenizers. `vtbench` and `gen` have modules of their own."""
