"""Pixels from an image embedding: Stable unCLIP (arXiv 2204.06125; diffusers' StableUnCLIPImg2ImgPipeline).

Shape suffixes: B batch, R rows (those with the negative embedding first), E embedding, C latent channels,
h w latents.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from smalti.images import Resize, resize_images
from smalti.nn.eva import clip_range
from smalti.nn.rendering import denoise, draw_noise, latents_to_images, load_pretrained, noise_sources
from smalti.tokens import Tokens

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_unclip_img2img import StableUnCLIPImg2ImgPipeline


@dataclass(frozen=True, kw_only=True)
class UnCLIPOptions:
    """How pixels are made; the defaults are the authors'."""

    steps: int = 20
    """Denoising steps."""
    guidance_scale: float = 10.0
    """s in u + s (c - u), with c from the embedding and u from the negative one; 1 is no guidance."""
    noise_level: int = 0
    """Timestep of the pipeline's schedule whose noise is added to the embedding; even 0 adds a little."""
    negative: Tokens | None = None
    """Tokens of what the image shall be unlike, one image or as many as are decoded; None = nothing in particular."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.guidance_scale < 0:
            raise ValueError(f"guidance_scale must not be negative, got {self.guidance_scale}")


def load_unclip(source: str) -> "StableUnCLIPImg2ImgPipeline":
    """The pipeline of a folder or hub id, without the CLIP encoder: the embedding comes from tokens.

    Errors: OSError that says how to give one instead.
    """
    from diffusers.pipelines.stable_diffusion.pipeline_stable_unclip_img2img import StableUnCLIPImg2ImgPipeline

    return load_pretrained(StableUnCLIPImg2ImgPipeline, source, image_encoder=None, feature_extractor=None)


class CLIPEmbedding(nn.Module):
    """The frozen CLIP of a pipeline: images [B, 3, H, W] in [0, 1] to the embeddings [B, E] that condition it."""

    def __init__(self, source: str) -> None:
        """`source`: folder or hub id of the pipeline."""
        from transformers import CLIPVisionModelWithProjection

        super().__init__()
        self.clip = load_pretrained(CLIPVisionModelWithProjection, source, subfolder="image_encoder")
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images of another size than CLIP's are resized (bicubic)."""
        side: Any = self.clip.config.image_size
        return self.clip(clip_range(resize_images(images, side, Resize(crop="none")))).image_embeds


def side_of(pipeline: "StableUnCLIPImg2ImgPipeline") -> int:
    """Side of the images that a pipeline makes, pixels."""
    return pipeline.unet.config["sample_size"] * pipeline.vae_scale_factor


def check_pipeline(pipeline: "StableUnCLIPImg2ImgPipeline", channels: int, noise_level: int) -> None:
    """A ValueError unless the pipeline takes embeddings of so many channels, and has the noise level."""
    wanted = pipeline.unet.config["projection_class_embeddings_input_dim"] // 2
    if wanted != channels:
        raise ValueError(f"this pipeline takes image embeddings of {wanted} channels, the tokenizer makes {channels}")
    scheduler: Any = pipeline.image_noising_scheduler
    levels = scheduler.config.num_train_timesteps
    if not 0 <= noise_level < levels:
        raise ValueError(f"noise_level must be 0 to {levels - 1}, got {noise_level}")


def render(
    pipeline: "StableUnCLIPImg2ImgPipeline",
    image_BE: Tensor,
    negative_BE: Tensor | None,
    options: UnCLIPOptions,
    rng: Generator | None,
) -> Tensor:
    """Images [B, 3, H, W] in about [0, 1], computed where the pipeline is.

    Without a negative embedding the rows without condition get zeros, as in the stock pipeline. The noise of an image,
    first that of its embedding (and the same for the negative one), then the start latents, comes from its own source.
    """
    unet, device = pipeline.unet, pipeline._execution_device
    sources = noise_sources(len(image_BE), rng)
    image_BE = image_BE.to(device, unet.dtype)
    noise_BE = draw_noise(sources, image_BE.shape[1:], image_BE)
    labels = pipeline.noise_image_embeddings(image_BE, options.noise_level, noise=noise_BE)  # [B, 2 E]: with the level
    if options.guidance_scale != 1:
        null = torch.zeros_like(labels)
        if negative_BE is not None:
            null = pipeline.noise_image_embeddings(negative_BE.to(image_BE), options.noise_level, noise=noise_BE)
        labels = torch.cat([null, labels])
    prompt, _ = pipeline.encode_prompt("", device, 1, False)
    prompt = prompt.expand(len(labels), -1, -1)

    def predict(x_RChw: Tensor, timestep: Tensor) -> Tensor:
        return unet(x_RChw, timestep, encoder_hidden_states=prompt, class_labels=labels, return_dict=False)[0]

    side = unet.config["sample_size"]
    start = draw_noise(sources, (unet.config["in_channels"], side, side), image_BE)
    settings = {"steps": options.steps, "guidance_scale": options.guidance_scale}
    return latents_to_images(pipeline.vae, denoise(predict, pipeline.scheduler, start, sources=sources, **settings))
