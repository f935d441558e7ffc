"""Convolutional autoencoder with a KL-regularized continuous latent (arXiv 2112.10752): diffusers' AutoencoderKL.

Shape suffixes: B batch, C latent channels, H W pixels, h w latent grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Generator, Tensor, channels_last, nn

_LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True, kw_only=True)
class KLAutoencoderConfig:
    """Sizes of an AutoencoderKL, and the scale of its latents."""

    latent_channels: int = 16
    """Channels of a latent."""
    channels: tuple[int, ...] = (128, 256, 512, 512)
    """Width of every resolution level; each level but the last halves the image."""
    res_blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    norm_groups: int = 32
    """Groups of every GroupNorm."""
    attention: bool = True
    """Self-attention at the lowest resolution."""
    quant_conv: bool = True
    """1x1 convolutions around the latent."""
    scaling_factor: float | None = 1.0
    """Factor of the latents; None = unknown, to be read from the published file."""
    shift_factor: float = 0.0
    """Subtracted from the latents before scaling."""
    running_scale: bool = False
    """Normalize every latent channel by its running mean and deviation, which training keeps in buffers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if wrong := [n for n in self.channels if n % self.norm_groups]:
            raise ValueError(f"channels must divide into norm_groups={self.norm_groups} groups, got {wrong}")

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.channels) - 1)


def from_diffusers(data: Mapping[str, Any]) -> KLAutoencoderConfig:
    """Our config from the config.json of a diffusers AutoencoderKL; absent fields are those of Stable Diffusion's.

    Errors: ValueError for blocks of another kind.
    """
    channels = tuple(data.get("block_out_channels", (128, 256, 512, 512)))
    expected = {
        "in_channels": 3,
        "out_channels": 3,
        "act_fn": "silu",
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "use_post_quant_conv": data.get("use_quant_conv", True),
        "latents_mean": None,
        "latents_std": None,
    }
    for name, value in expected.items():
        found = data.get(name, value)
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise ValueError(f"an autoencoder with {name} = {found!r} is not supported, only {value!r}")
    return KLAutoencoderConfig(
        latent_channels=data.get("latent_channels", 4),
        channels=channels,
        res_blocks=data.get("layers_per_block", 2),
        norm_groups=data.get("norm_num_groups", 32),
        attention=data.get("mid_block_add_attention", True),
        quant_conv=data.get("use_quant_conv", True),
        scaling_factor=data.get("scaling_factor", 0.18215),
        shift_factor=data.get("shift_factor") or 0.0,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Normal distribution over latents, before they are scaled."""

    mean: Tensor
    """[B, C, h, w]; also the mode."""
    logvar: Tensor
    """[B, C, h, w], clamped to [-30, 20]."""

    def sample(self, noise_BChw: Tensor) -> Tensor:
        """mean + standard deviation * noise."""
        return self.mean + (self.logvar / 2).exp() * noise_BChw

    def kl(self) -> Tensor:
        """[B, C, h, w]: divergence from the standard normal, (mean^2 + var - 1 - log var) / 2 per value."""
        return (self.mean.square() + self.logvar.exp() - 1 - self.logvar) / 2


class KLAutoencoder(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to scaled latents [B, C, h, w] and back."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: KLAutoencoderConfig) -> None:
        super().__init__()
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        levels = len(config.channels)
        self.config = config
        self.net = AutoencoderKL(
            block_out_channels=config.channels,  # type: ignore[arg-type]
            down_block_types=("DownEncoderBlock2D",) * levels,  # type: ignore[arg-type]
            up_block_types=("UpDecoderBlock2D",) * levels,  # type: ignore[arg-type]
            layers_per_block=config.res_blocks,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
            mid_block_add_attention=config.attention,
            use_quant_conv=config.quant_conv,
            use_post_quant_conv=config.quant_conv,
        )
        if config.running_scale:
            self.register_buffer("mean", torch.zeros(config.latent_channels))
            self.register_buffer("deviation", torch.ones(config.latent_channels))

    @property
    def scaling_factor(self) -> float:
        """Factor of the latents. Errors: ValueError if it is not known."""
        if self.config.scaling_factor is None:
            raise ValueError(
                "the scaling factor of the latents is not published apart from the weights, and this model was built "
                "without it: load the authors' file, whose header (or config.json beside it) holds it, or build the "
                "model from a config with scaling_factor set"
            )
        return self.config.scaling_factor

    def moments(self, x_B3HW: Tensor) -> Tensor:
        """Mean and log-variance [B, 2 C, h, w], as the network gives them."""
        h = self.net.encoder(x_B3HW.contiguous(memory_format=channels_last))
        return self.net.quant_conv(h) if self.net.quant_conv is not None else h

    def posterior(self, x_B3HW: Tensor) -> Posterior:
        """Distribution of the unscaled latents."""
        mean, logvar = self.moments(x_B3HW).chunk(2, dim=1)
        return Posterior(mean=mean, logvar=logvar.clamp(*_LOGVAR_RANGE))

    def scale(self, z_BChw: Tensor) -> Tensor:
        """What a model of the latents sees."""
        if self.config.running_scale:
            z_BChw = (z_BChw - self.mean[:, None, None]) / self.deviation[:, None, None]
        return (z_BChw - self.config.shift_factor) * self.scaling_factor

    def unscale(self, z_BChw: Tensor) -> Tensor:
        """Inverse of `scale`."""
        z_BChw = z_BChw / self.scaling_factor + self.config.shift_factor
        if self.config.running_scale:
            z_BChw = z_BChw * self.deviation[:, None, None] + self.mean[:, None, None]
        return z_BChw

    @torch.no_grad()
    def observe(self, z_BChw: Tensor, momentum: float = 0.02) -> None:
        """Takes unscaled latents into the running mean and deviation."""
        deviation, mean = torch.std_mean(z_BChw.detach().float(), dim=(0, 2, 3))
        self.mean.lerp_(mean, momentum)
        self.deviation.lerp_(deviation, momentum)

    def encode(self, x_B3HW: Tensor, *, rng: Generator | None = None) -> Tensor:
        """Scaled latents: the mode of the posterior, or a sample with one draw per image from `rng`, in order."""
        posterior = self.posterior(x_B3HW)
        if rng is None:
            return self.scale(posterior.mean)
        shape = posterior.mean.shape
        noise = torch.cat([torch.randn(1, *shape[1:], generator=rng, device=rng.device) for _ in range(shape[0])])
        return self.scale(posterior.sample(noise.to(posterior.mean)))

    def decode(self, z_BChw: Tensor) -> Tensor:
        """Images, about [-1, 1], not clamped, from scaled latents."""
        h = self.unscale(z_BChw).contiguous(memory_format=channels_last)
        return self.net.decoder(self.net.post_quant_conv(h) if self.net.post_quant_conv is not None else h)


def _both(*names: str) -> list[str]:
    return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


_RESNET = ("norm{}", "conv{}", "conv_shortcut")
_ATTENTION = ("group_norm", "to_q", "to_k", "to_v", "to_out.{}")
KEYS: tuple[str, ...] = tuple(
    chain(
        *(
            _both(
                f"{side}.conv_in",
                *(f"{side}.{blocks}.{{}}.resnets.{{}}.{part}" for part in _RESNET),
                f"{side}.{blocks}.{{}}.{resize}.{{}}.conv",
                *(f"{side}.mid_block.resnets.{{}}.{part}" for part in _RESNET[:2]),
                *(f"{side}.mid_block.attentions.{{}}.{part}" for part in _ATTENTION),
                f"{side}.conv_norm_out",
                f"{side}.conv_out",
            )
            for side, blocks, resize in (
                ("encoder", "down_blocks", "downsamplers"),
                ("decoder", "up_blocks", "upsamplers"),
            )
        ),
        _both("quant_conv", "post_quant_conv"),
    )
)
"""Every key of diffusers' AutoencoderKL, `{}` for a number: for the key maps of the families that hold one."""

OLD_KEYS: dict[str, str] = {
    f"{side}.mid_block.attentions.{{}}.{old}.{kind}": f"{side}.mid_block.attentions.{{}}.{new}.{kind}"
    for side in ("encoder", "decoder")
    for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items()
    for kind in ("weight", "bias")
}
"""Names of the attention in files of older versions of diffusers -> those of today."""
