"""Sizes of continuous autoencoders of latent diffusion: Stable Diffusion 1.5, XL and 3, FLUX, FlexTok's and DC-AE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smalti.nn import dc_autoencoder, kl_autoencoder
from smalti.nn.dc_autoencoder import DCAutoencoderConfig
from smalti.nn.kl_autoencoder import KLAutoencoderConfig


@dataclass(frozen=True, kw_only=True)
class KLTokenizerConfig:
    """A convolutional autoencoder whose latents are the tokens."""

    autoencoder: KLAutoencoderConfig | DCAutoencoderConfig
    """With a posterior over latents (AutoencoderKL), or without (AutoencoderDC); holds their scale and shift."""
    image_size: int = 512
    """Side of the images it is meant for, pixels; it takes any multiple of `stride`."""

    def __post_init__(self) -> None:
        if self.image_size % self.stride:
            raise ValueError(f"image_size must be a multiple of {self.stride} pixels, got {self.image_size}")

    @property
    def stride(self) -> int:
        """Pixels per token, each way."""
        return self.autoencoder.stride


READERS = {"AutoencoderKL": kl_autoencoder.from_diffusers, "AutoencoderDC": dc_autoencoder.from_diffusers}
"""Class named in a config.json of diffusers -> what reads it."""


def from_diffusers(data: Mapping[str, Any], image_size: int | None = None) -> KLTokenizerConfig:
    """Our config from a config.json of diffusers; `image_size` by default that of the file, or 512.

    Errors: ValueError for another class, or an architecture that is not supported.
    """
    name = data.get("_class_name")
    if name not in READERS:
        raise ValueError(f"a config of class {name!r} describes no autoencoder known here; known: {', '.join(READERS)}")
    autoencoder = READERS[name](data)
    stated = data.get("sample_size")
    size = image_size or (stated if isinstance(stated, int) and stated % autoencoder.stride == 0 else 512)
    return KLTokenizerConfig(autoencoder=autoencoder, image_size=size)


def _kl(image_size: int, channels: int, scaling_factor: float | None, **more: Any) -> KLTokenizerConfig:
    autoencoder = KLAutoencoderConfig(latent_channels=channels, scaling_factor=scaling_factor, **more)
    return KLTokenizerConfig(autoencoder=autoencoder, image_size=image_size)


def _dc(levels: int, channels: int, scaling_factor: float | None) -> KLTokenizerConfig:
    """The ImageNet and mixed-data models; `levels` halvings plus one."""
    deeper = levels - 6
    autoencoder = DCAutoencoderConfig(
        latent_channels=channels,
        channels=(128, 256, 512, 512, 1024, 1024) + (2048,) * deeper,
        encoder_blocks=(0, 4, 8, 2, 2, 2) + (2,) * deeper,
        decoder_blocks=(0, 5, 10, 2, 2, 2) + (2,) * deeper,
        attention_levels=3 + deeper,
        scaling_factor=scaling_factor,
    )
    return KLTokenizerConfig(autoencoder=autoencoder)


_SANA = DCAutoencoderConfig(
    encoder_blocks=(2, 2, 2, 3, 3, 3),
    decoder_blocks=(3, 3, 3, 3, 3, 3),
    attention_kernel=5,
    batch_norm_levels=0,
    shuffle=False,
    scaling_factor=0.41407,
)

PUBLISHED = {
    "sd15": _kl(512, 4, 0.18215),
    "sd-ft-mse": _kl(256, 4, 0.18215),
    "sdxl": _kl(1024, 4, 0.13025),
    "sd3": _kl(1024, 16, 1.5305, shift_factor=0.0609, quant_conv=False),
    "flux": _kl(1024, 16, 0.3611, shift_factor=0.1159, quant_conv=False),
    "flextok-vae-c4": _kl(256, 4, None),
    "flextok-vae-c8": _kl(256, 8, None),
    "flextok-vae-c16": _kl(256, 16, None),
    "dc-ae-f32c32-in": _dc(6, 32, 0.3189),
    "dc-ae-f64c128-in": _dc(7, 128, None),
    "dc-ae-f128c512-in": _dc(8, 512, None),
    "dc-ae-f32c32-mix": _dc(6, 32, None),
    "dc-ae-f64c128-mix": _dc(7, 128, 0.4538),
    "dc-ae-f128c512-mix": _dc(8, 512, None),
    "dc-ae-f32c32-sana": KLTokenizerConfig(autoencoder=_SANA, image_size=1024),
}
