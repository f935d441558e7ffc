"""Rectified flow (arXiv 2209.03003): x_t = t noise + (1 - t) x_0, velocity v = noise - x_0; sampling with guidance.

Shape suffixes: B batch, R rows (conditional, then null), K tokens, d FSQ dimensions, C latent channels, h w latents.
"""

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from smalti.tokenizers.flextok.config import FlexTokDecode

if TYPE_CHECKING:
    from smalti.tokenizers.flextok.model import FlowDecoder

_IMAGE = (-3, -2, -1)
_STEPS_AT_ONCE = 32


def start_noise(options: FlexTokDecode, shape: tuple[int, ...], rng: Generator | None) -> Tensor:
    """Start noise [B, C, h, w] in float32: successive draws per image from `rng`, else from `options.seed`.

    A seed gives the same noise on every device, whatever else is in the batch.
    """
    if rng is not None:
        rows = [torch.randn(shape[1:], generator=rng, device=rng.device) for _ in range(shape[0])]
        return torch.stack(rows) * options.noise
    seeds = options.seed if isinstance(options.seed, tuple) else (options.seed,) * shape[0]
    if len(seeds) != shape[0]:
        raise ValueError(f"decode options have {len(seeds)} seeds for {shape[0]} images: give one, or one per image")
    drawn = {seed: torch.randn(shape[1:], generator=Generator().manual_seed(seed)) for seed in set(seeds)}
    return torch.stack([drawn[seed] for seed in seeds]) * options.noise


class Guide:
    """Combines the velocity given the tokens, v, with that given none, v_null.

    Plain: v_null + s (v - v_null). Adaptive (arXiv 2410.02416, Algorithm 1, on velocities):
    d = (v - v_null) + momentum * d_before;  d' = d * min(1, threshold / |d|), split along and across v;
    v + (s - 1) (across + parallel * along). Norms and products are over a whole image.
    """

    def __init__(self, options: FlexTokDecode) -> None:
        self.options = options
        self.direction: Tensor | float = 0.0

    def __call__(self, v_BChw: Tensor, null_BChw: Tensor, scale: float) -> Tensor:
        """The guided velocity of the next step."""
        options, difference = self.options, v_BChw - null_BChw
        if not options.adaptive:
            return null_BChw + scale * difference
        self.direction = difference + options.momentum * self.direction
        d = self.direction
        if options.threshold > 0:
            norm = torch.linalg.vector_norm(d, dim=_IMAGE, keepdim=True)
            d = d * (options.threshold / norm).clamp_max(1)
        v = v_BChw.double()
        unit = v / torch.linalg.vector_norm(v, dim=_IMAGE, keepdim=True).clamp_min(1e-12)
        along = (d.double() * unit).sum(_IMAGE, keepdim=True) * unit
        update = d - (1 - options.parallel) * along
        return v_BChw + (scale - 1) * update.to(v_BChw.dtype)


def sample(
    decoder: "FlowDecoder", codes_BKd: Tensor, kept_B: Tensor, noise_BChw: Tensor, options: FlexTokDecode
) -> Tensor:
    """Latents [B, C, h, w] from the first `kept_B` tokens of every image, by Euler steps from `noise_BChw`.

    Rows with and without tokens go through the decoder together; without guidance only those with tokens do.
    """
    steps, scale = options.steps, options.guidance_scale
    scales = scale if isinstance(scale, tuple) else (scale,) * steps
    guided = [s != 1 for s in scales]
    if options.adaptive and any(guided):
        guided = [True] * steps  # kept: the running direction follows every step
    images = len(codes_BKd)
    alone = decoder.condition(codes_BKd, kept_B) if not all(guided) else None
    both = None
    if any(guided):
        null_R = torch.arange(2 * images, device=codes_BKd.device) >= images
        both = decoder.condition(codes_BKd.repeat(2, 1, 1), kept_B.repeat(2), null_R)
    guide, x_BChw = Guide(options), noise_BChw
    for i in range(steps):
        if i % _STEPS_AT_ONCE == 0:  # modulations depend on the time alone: their weights are read once for many steps
            times = torch.arange(steps - i, max(steps - i - _STEPS_AT_ONCE, 0), -1, device=x_BChw.device) / steps
            modulations = decoder.modulate(times)
        modulation = modulations.row(i % _STEPS_AT_ONCE)
        if guided[i]:
            assert both is not None
            v_RChw = decoder.velocity(x_BChw.repeat(2, 1, 1, 1), both, modulation).float()
            v_BChw = guide(*v_RChw.chunk(2), scales[i])
        else:
            assert alone is not None
            v_BChw = decoder.velocity(x_BChw, alone, modulation).float()
        x_BChw = x_BChw - v_BChw / steps
    return x_BChw
