"""Pixels from a context: the denoising UNet and VAE (Stable Diffusion 1.5 or XL) that LaVIT's authors fine-tuned.

The models are diffusers'; what is done with them is what StableDiffusionPipeline and StableDiffusionXLPipeline do with
given embeddings, plus the mask that LaVIT lays over the padding of its empty prompt. Shape suffixes: B batch, R rows
(B, or with guidance 2 B, those without condition first), N context tokens, E width, C latent channels, h w latents,
H W pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Generator as RandomGenerator
from torch import Tensor

from smalti.nn.rendering import denoise, draw_noise, latents_to_images, load_pretrained, noise_sources
from smalti.tokenizers.lavit.decoder import Context


@dataclass(frozen=True, kw_only=True)
class LaVITOptions:
    """How pixels are made; defaults: the authors' for reconstructions (for generated tokens: 25 steps, scale 7)."""

    steps: int = 50
    """Denoising steps (DDIM)."""
    guidance_scale: float = 5.0
    """s in u + s (c - u); 1 = no guidance, and the UNet runs half as many rows."""
    size: tuple[int, int] | None = None
    """Height and width of the image, pixels; None = the tokenizer's square. The SDXL decoder was trained at 1024x1024,
    896x1152, 832x1216, 768x1344, 1216x832 and 1152x896."""
    original_size: tuple[int, int] | None = None
    """SDXL only: height and width that the picture pretends to have been taken at; None = that of the image."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.guidance_scale < 0:
            raise ValueError(
                f"steps must be at least 1 and guidance_scale at least 0, got {self.steps} and {self.guidance_scale}"
            )


class PixelDecoder:
    """A diffusion model that draws the image of a context."""

    def __init__(self, *, unet: Any, vae: Any, scheduler: Any, empty: Tensor | None = None) -> None:
        """diffusers' UNet2DConditionModel, AutoencoderKL and DDIMScheduler.

        `empty` float [n, E]: SD-1.5's context of no prompt; SDXL needs none, its guidance is against zeros.
        """
        self.unet, self.vae, self.scheduler, self.empty = unet.eval(), vae.eval(), scheduler, empty

    @classmethod
    def load(cls, place: str | Path) -> Self:
        """From a folder, or "owner/name/folder" of the hub: unet, vae, scheduler, for SD-1.5 uncond_embeddings.bin.

        Errors: OSError if it is not there and cannot be downloaded.
        """
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        repo, inside = (str(place), "") if Path(place).is_dir() else _on_hub(str(place))
        anything = {"use_safetensors": None}  # the authors' are pickles, which diffusers reads as data only
        unet = load_pretrained(UNet2DConditionModel, repo, subfolder=f"{inside}unet", **anything)
        vae = load_pretrained(AutoencoderKL, repo, subfolder=f"{inside}vae", **anything)
        scheduler = load_pretrained(DDIMScheduler, repo, subfolder=f"{inside}scheduler", **anything)
        xl = unet.config["addition_embed_type"] == "text_time"
        return cls(unet=unet, vae=vae, scheduler=scheduler, empty=None if xl else _empty_prompt(repo, inside))

    def to(self, device: torch.device | str) -> Self:
        """Moves the models."""
        self.unet.to(device)
        self.vae.to(device)
        return self

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, height and width of the latents of an image. Errors: ValueError for sides that have none."""
        if min(size) < 1 or any(side % self.stride for side in size):
            raise ValueError(f"the sides of the image must be multiples of {self.stride} pixels, got {size}")
        height, width = (side // self.stride for side in size)
        return self.unet.config.in_channels, height, width

    def conditions(
        self, context: Context, size: tuple[int, int], original_size: tuple[int, int] | None, *, null: bool
    ) -> dict[str, Any]:
        """What the UNet takes besides latents and time; with `null` also, first, the rows without condition."""
        tokens_BNE, pooled = context.tokens, context.pooled
        null_BNE = torch.zeros_like(tokens_BNE)
        tokens_RNE = torch.cat([null_BNE, tokens_BNE]) if null else tokens_BNE
        if pooled is not None:
            pooled = torch.cat([torch.zeros_like(pooled), pooled]) if null else pooled
            time_ids = pooled.new_tensor([*(original_size or size), 0, 0, *size])  # 0, 0: not cropped
            added = {"text_embeds": pooled, "time_ids": time_ids.expand(len(pooled), -1)}
            return {"encoder_hidden_states": tokens_RNE, "added_cond_kwargs": added}
        if not null:
            return {"encoder_hidden_states": tokens_BNE}
        if self.empty is None:
            raise ValueError("guidance of an SD-1.5 decoder needs the context of no prompt: PixelDecoder(empty=...)")
        batch, count = len(tokens_BNE), len(self.empty)
        tokens_RNE[:batch, :count] = self.empty.to(tokens_RNE)
        mask = torch.ones(tokens_RNE.shape[:2], dtype=torch.bool, device=tokens_RNE.device)
        mask[:batch, count:] = False  # padding of the empty prompt
        return {"encoder_hidden_states": tokens_RNE, "encoder_attention_mask": mask}

    def render(
        self, context: Context, size: tuple[int, int], options: LaVITOptions, rng: RandomGenerator | None
    ) -> Tensor:
        """Images float32 [B, 3, H, W] in about [0, 1], computed where the models are."""
        device, dtype = self.unet.device, self.unet.dtype
        pooled = context.pooled.to(device, dtype) if context.pooled is not None else None
        context = Context(tokens=context.tokens.to(device, dtype), pooled=pooled)
        conditions = self.conditions(context, size, options.original_size, null=options.guidance_scale != 1)

        def predict(x_RChw: Tensor, timestep: Tensor) -> Tensor:
            return self.unet(x_RChw, timestep, return_dict=False, **conditions)[0]

        sources = noise_sources(len(context.tokens), rng)
        start = draw_noise(sources, self.latent_shape(size), context.tokens)
        settings = {"steps": options.steps, "guidance_scale": options.guidance_scale}
        latents = denoise(predict, self.scheduler, start, sources=sources, **settings)
        with torch.autocast(device.type, enabled=False):
            return latents_to_images(self.vae, latents)


def _on_hub(place: str) -> tuple[str, str]:
    """Repository and folder in it, with a slash behind."""
    parts = place.split("/")
    if len(parts) < 2 or parts[0] in ("", ".", "..", "~"):
        raise OSError(f"there is no folder {place}, and it is no place on the hub: give a folder, or owner/name/folder")
    return "/".join(parts[:2]), "".join(f"{part}/" for part in parts[2:])


def _empty_prompt(repo: str, inside: str) -> Tensor:
    """SD-1.5's context of an empty prompt, float [n, E]."""
    from huggingface_hub import hf_hub_download

    name = f"{inside}uncond_embeddings.bin"
    path = Path(repo) / name
    file = path if Path(repo).is_dir() else hf_hub_download(repo, name)
    return torch.load(file, map_location="cpu", weights_only=True)[0].float()
