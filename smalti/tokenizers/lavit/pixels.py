"""Pixels from a context: the denoising UNet and VAE (Stable Diffusion 1.5 or XL) that LaVIT's authors fine-tuned.

The models are diffusers'; the loop is what `StableDiffusionPipeline` and `StableDiffusionXLPipeline` do with given
embeddings, plus the mask that LaVIT lays over the padding of its empty prompt. Shape suffixes: B batch, N context tokens,
E context width, c latent channels, h w latent grid, H W pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Generator as RandomGenerator
from torch import Tensor

from smalti.tokenizers.lavit.decoder import Context


@dataclass(frozen=True, kw_only=True)
class LaVITDecoding:
    """How tokens become pixels. The defaults are the authors' for reconstructions; they generate with 25 steps, scale 7."""

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
        """From a folder with unet, vae, scheduler (and uncond_embeddings.bin), or "owner/name/folder" on the hub.

        Errors: OSError if it is not there and cannot be downloaded.
        """
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        repo, inside = (str(place), "") if Path(place).is_dir() else _on_hub(str(place))
        unet = UNet2DConditionModel.from_pretrained(repo, subfolder=f"{inside}unet")
        vae = AutoencoderKL.from_pretrained(repo, subfolder=f"{inside}vae")
        scheduler = DDIMScheduler.from_pretrained(repo, subfolder=f"{inside}scheduler")
        xl = unet.config.addition_embed_type == "text_time"
        return cls(unet=unet, vae=vae, scheduler=scheduler, empty=None if xl else _empty_prompt(repo, inside))

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def to(self, device: torch.device) -> Self:
        """Moves the models, where they are not there yet."""
        self.unet.to(device)
        self.vae.to(device)
        return self

    def noise(self, batch: int, size: tuple[int, int], rng: RandomGenerator | None = None) -> Tensor:
        """Start latents [B, c, h, w], standard normal; without `rng` every image starts from the same fixed ones."""
        for side in size:
            if side < 1 or side % self.stride:
                raise ValueError(f"the image's sides must be multiples of {self.stride} pixels, got {size}")
        rows = batch if rng is not None else 1
        rng = rng or torch.Generator().manual_seed(0)
        shape = (rows, self.unet.config.in_channels, *(side // self.stride for side in size))
        return torch.randn(shape, generator=rng, device=rng.device).to(self.unet.device).expand(batch, -1, -1, -1)

    def conditions(
        self, context: Context, size: tuple[int, int], original_size: tuple[int, int] | None, *, null: bool
    ) -> dict[str, Any]:
        """What the UNet takes besides latents and time; with `null` first the rows without condition."""
        tokens_BNE, pooled = context.tokens, context.pooled
        rows = [torch.zeros_like(tokens_BNE), tokens_BNE] if null else [tokens_BNE]
        if pooled is not None:
            ids = torch.tensor([*(original_size or size), 0, 0, *size], dtype=tokens_BNE.dtype, device=tokens_BNE.device)
            pooled = torch.cat([torch.zeros_like(pooled), pooled]) if null else pooled
            added = {"text_embeds": pooled, "time_ids": ids.expand(len(pooled), -1)}
            return {"encoder_hidden_states": torch.cat(rows), "added_cond_kwargs": added}
        if not null:
            return {"encoder_hidden_states": tokens_BNE}
        assert self.empty is not None, "an SD-1.5 decoder needs the context of no prompt for guidance"
        count = len(self.empty)
        rows[0][:, :count] = self.empty.to(tokens_BNE)
        mask = torch.ones(2 * len(tokens_BNE), tokens_BNE.shape[1], dtype=torch.bool, device=tokens_BNE.device)
        mask[: len(tokens_BNE), count:] = False  # padding of the empty prompt
        return {"encoder_hidden_states": torch.cat(rows), "encoder_attention_mask": mask}

    @torch.no_grad()
    def __call__(self, context: Context, latents_Bchw: Tensor, options: LaVITDecoding) -> Tensor:
        """Images float32 [B, 3, H, W] in about [0, 1] from standard normal latents [B, c, h, w]."""
        height, width = (side * self.stride for side in latents_Bchw.shape[-2:])
        guided = options.guidance_scale != 1
        conditions = self.conditions(context, (height, width), options.original_size, null=guided)
        self.scheduler.set_timesteps(options.steps, device=latents_Bchw.device)
        latents = latents_Bchw * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            x = self.scheduler.scale_model_input(torch.cat([latents, latents]) if guided else latents, t)
            noise = self.unet(x, t, **conditions).sample
            if guided:
                null, wanted = noise.chunk(2)
                noise = null + options.guidance_scale * (wanted - null)
            latents = self.scheduler.step(noise, t, latents).prev_sample
        with torch.autocast(latents.device.type, enabled=False):
            return self.vae.decode(latents.float() / self.vae.config.scaling_factor).sample / 2 + 0.5


def _on_hub(place: str) -> tuple[str, str]:
    """Repository and folder in it, with a slash behind."""
    parts = place.strip("/").split("/")
    if len(parts) < 2:
        raise OSError(f"there is no folder {place}, and it is no place on the hub: give a folder, or owner/name/folder")
    return "/".join(parts[:2]), "".join(f"{part}/" for part in parts[2:])


def _empty_prompt(repo: str, inside: str) -> Tensor:
    """SD-1.5's context of an empty prompt, float [n, E]."""
    from huggingface_hub import hf_hub_download

    name = f"{inside}uncond_embeddings.bin"
    path = Path(repo) / name
    file = path if Path(repo).is_dir() else hf_hub_download(repo, name)
    return torch.load(file, map_location="cpu", weights_only=True)[0].float()
