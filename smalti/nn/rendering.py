"""Pixels from a diffusion model of diffusers, for tokenizers whose codes decode to its condition instead of an image.

The arithmetic is that of the stock pipelines; every image has its own source of noise, so that it comes out the same
alone and in a batch. Shape suffixes: B batch, R rows (B, or with guidance 2 B, those without condition first),
C latent channels, h w latents, H W pixels.
"""

from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor

Loadable = TypeVar("Loadable")

Predict = Callable[[Tensor, Tensor], Tensor]
"""(latents [R, C, h, w], timestep) -> prediction [R, C, h, w]: the UNet with its condition."""


def load_pretrained(kind: type[Loadable], source: str | Path, **options: Any) -> Loadable:
    """A pipeline or model of diffusers or transformers, in float32, from a folder or the hub.

    Only safetensors are read unless `options` say otherwise. Errors: OSError that names the source and what to do.
    """
    pretrained: Any = kind
    try:
        return pretrained.from_pretrained(str(source), **{"use_safetensors": True, **options})
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise OSError(
            f"{kind.__name__} could not be loaded from {source}: {reason}. With a copy of it, name its folder instead "
            "(`pixels` in the tokenizer's config), or assign it: tokenizer.pipeline = ..."
        ) from error


def noise_sources(count: int, rng: Generator | None) -> list[Generator]:
    """One generator per image, on the CPU; seeded by `rng`, or all alike if there is none."""
    if rng is None:
        return [Generator().manual_seed(0) for _ in range(count)]
    seeds = torch.randint(2**62, (count,), generator=rng, device=rng.device)
    return [Generator().manual_seed(seed) for seed in seeds.tolist()]


def draw_noise(sources: Sequence[Generator], shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal noise [B, *shape], a row from each source, with the device and dtype of `like`."""
    return torch.stack([torch.randn(*shape, generator=source) for source in sources]).to(like)


def denoise(
    predict: Predict,
    scheduler: Any,
    noise_BChw: Tensor,
    *,
    steps: int,
    guidance_scale: float,
    sources: Sequence[Generator],
) -> Tensor:
    """Latents [B, C, h, w] from noise, by a scheduler of diffusers.

    With guidance scale s the prediction is u + s (c - u), u without and c with condition, in one pass of 2 B rows;
    s = 1 is no guidance and takes B rows. `sources` serve schedulers that add noise on the way.
    """
    scheduler.set_timesteps(steps, device=noise_BChw.device)
    extra = {"generator": list(sources)} if "generator" in signature(scheduler.step).parameters else {}
    copies = 1 if guidance_scale == 1 else 2
    x_BChw = noise_BChw * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        x_RChw = scheduler.scale_model_input(torch.cat([x_BChw] * copies), timestep)
        prediction = predict(x_RChw, timestep)
        if copies == 2:
            u, c = prediction.chunk(2)
            prediction = u + guidance_scale * (c - u)
        x_BChw = scheduler.step(prediction, timestep, x_BChw, **extra, return_dict=False)[0]
    return x_BChw


def latents_to_images(vae: Any, latents_BChw: Tensor) -> Tensor:
    """Images [B, 3, H, W], float32 in about [0, 1], by an AutoencoderKL of diffusers."""
    decoded = vae.decode((latents_BChw / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
    return decoded.float() / 2 + 0.5
