"""Deep compression autoencoder (DC-AE, arXiv 2410.10733): diffusers' AutoencoderDC, with the scale of its latents.

Every resize has a shortcut without parameters (pixels folded into channels and averaged, or the reverse), and the
lowest levels mix places by linear attention. There is no posterior: an image has one latent.
Shape suffixes: B batch, C latent channels, H W pixels, h w latent grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor, channels_last, nn

RESIDUAL, ATTENTION = "ResBlock", "EfficientViTBlock"


@dataclass(frozen=True, kw_only=True)
class DCAutoencoderConfig:
    """Sizes of an AutoencoderDC, and the scale of its latents."""

    latent_channels: int = 32
    """Channels of a latent."""
    channels: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    """Width of every resolution level, full resolution first; each level but the last halves the image."""
    encoder_blocks: tuple[int, ...] = (0, 4, 8, 2, 2, 2)
    """Blocks of every level of the encoder; 0 at full resolution = the first convolution halves the image."""
    decoder_blocks: tuple[int, ...] = (0, 5, 10, 2, 2, 2)
    """The same of the decoder."""
    attention_levels: int = 3
    """How many of the lowest levels have blocks with linear attention; the others have residual blocks."""
    attention_kernel: int = 0
    """Side of the convolution that gives the attention a second, coarser scale; 0 = one scale only."""
    head_width: int = 32
    """Channels of an attention head."""
    batch_norm_levels: int = 3
    """How many of the decoder's highest levels have BatchNorm and ReLU; the others have RMSNorm and SiLU."""
    shuffle: bool = True
    """Resize by folding pixels into channels; False = by strided convolutions and nearest-neighbor interpolation."""
    scaling_factor: float | None = 1.0
    """Factor of the latents; None = unknown, to be read from the published config.json."""

    def __post_init__(self) -> None:
        for name in ("channels", "encoder_blocks", "decoder_blocks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if {len(self.encoder_blocks), len(self.decoder_blocks)} != {len(self.channels)}:
            raise ValueError(
                "encoder_blocks and decoder_blocks need a number for each of the "
                f"{len(self.channels)} levels, got {self.encoder_blocks} and {self.decoder_blocks}"
            )
        if self.channels[-1] % self.latent_channels:
            raise ValueError(
                f"the lowest width must divide into the latent channels, got {self.channels[-1]} and "
                f"{self.latent_channels}"
            )

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.channels) - 1)


def to_diffusers(config: DCAutoencoderConfig) -> dict[str, Any]:
    """The arguments of diffusers' AutoencoderDC."""
    levels, lowest, highest = len(config.channels), config.attention_levels, config.batch_norm_levels
    blocks = (RESIDUAL,) * (levels - lowest) + (ATTENTION,) * lowest
    kernels = (config.attention_kernel,) if config.attention_kernel else ()
    scales = ((),) * (levels - lowest) + (kernels,) * lowest
    return {
        "latent_channels": config.latent_channels,
        "attention_head_dim": config.head_width,
        "encoder_block_types": blocks,
        "decoder_block_types": blocks,
        "encoder_block_out_channels": config.channels,
        "decoder_block_out_channels": config.channels,
        "encoder_layers_per_block": config.encoder_blocks,
        "decoder_layers_per_block": config.decoder_blocks,
        "encoder_qkv_multiscales": scales,
        "decoder_qkv_multiscales": scales,
        "downsample_block_type": "pixel_unshuffle" if config.shuffle else "conv",
        "upsample_block_type": "pixel_shuffle" if config.shuffle else "interpolate",
        "decoder_norm_types": ("batch_norm",) * highest + ("rms_norm",) * (levels - highest),
        "decoder_act_fns": ("relu",) * highest + ("silu",) * (levels - highest),
    }


def from_diffusers(data: Mapping[str, Any]) -> DCAutoencoderConfig:
    """Our config from the config.json of a diffusers AutoencoderDC; absent fields have diffusers' defaults.

    Errors: ValueError for an architecture of another kind.
    """
    default = {
        "encoder_block_types": RESIDUAL,
        "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
        "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
        "decoder_layers_per_block": (3,) * 6,
        "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
        "decoder_norm_types": "rms_norm",
    }
    given = {**default, **data}
    channels = tuple(given["encoder_block_out_channels"])
    norms, types = (_spread(given[name], len(channels)) for name in ("decoder_norm_types", "encoder_block_types"))
    lowest = types.count(ATTENTION)
    kernels = [k for level in given["encoder_qkv_multiscales"] for k in level] if lowest else []
    config = DCAutoencoderConfig(
        latent_channels=given.get("latent_channels", 32),
        channels=channels,
        encoder_blocks=given["encoder_layers_per_block"],
        decoder_blocks=given["decoder_layers_per_block"],
        attention_levels=lowest,
        attention_kernel=kernels[0] if kernels else 0,
        head_width=given.get("attention_head_dim", 32),
        batch_norm_levels=norms.count("batch_norm"),
        shuffle=given.get("downsample_block_type", "pixel_unshuffle") == "pixel_unshuffle",
        scaling_factor=given.get("scaling_factor", 1.0),
    )
    _check(data, config)
    return config


def _check(data: Mapping[str, Any], config: DCAutoencoderConfig) -> None:
    """ValueError if the authors' config says anything that ours does not."""
    fixed = {
        "in_channels": 3,
        "encoder_out_shortcut": True,
        "decoder_in_shortcut": True,
        "decoder_conv_act_fn": "relu",
    }
    for name, value in {**fixed, **to_diffusers(config)}.items():
        found = data.get(name, value)
        if isinstance(value, tuple):
            found = _spread(found, len(value))
            if name.endswith("multiscales") and config.attention_levels == 0:
                continue  # without attention they have no effect
        if found != value:
            raise ValueError(f"an autoencoder with {name} = {found!r} is not supported, only {value!r}")


def _spread(value: Any, levels: int) -> tuple[Any, ...]:
    """One value per level, lists as tuples."""
    values = (value,) * levels if isinstance(value, str) else tuple(value)
    return tuple(tuple(v) if isinstance(v, (list, tuple)) else v for v in values)


class DCAutoencoder(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to scaled latents [B, C, h, w] and back."""

    def __init__(self, config: DCAutoencoderConfig) -> None:
        super().__init__()
        from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

        self.config = config
        self.net = AutoencoderDC(**to_diffusers(config))

    @property
    def scaling_factor(self) -> float:
        """Factor of the latents. Errors: ValueError if it is not known."""
        if self.config.scaling_factor is None:
            raise ValueError(
                "the scaling factor of these latents is in the published config.json only: put that file beside the "
                "weights and load them again, or build the model from a config with scaling_factor set"
            )
        return self.config.scaling_factor

    def encode(self, x_B3HW: Tensor, *, rng: Generator | None = None) -> Tensor:
        """Scaled latents; there is nothing to draw, so `rng` is not touched."""
        return self.net.encoder(x_B3HW.contiguous(memory_format=channels_last)) * self.scaling_factor

    def decode(self, z_BChw: Tensor) -> Tensor:
        """Images, about [-1, 1], not clamped, from scaled latents."""
        return self.net.decoder((z_BChw / self.scaling_factor).contiguous(memory_format=channels_last))


_LAYER = ("weight", "bias")
_NORM = (*_LAYER, "running_mean", "running_var", "num_batches_tracked")
_BLOCK = {
    "conv1": _LAYER,
    "conv2": ("weight",),
    "norm": _NORM,
    **{f"attn.{name}": ("weight",) for name in ("to_q", "to_k", "to_v", "to_out")},
    **{f"attn.to_qkv_multiscale.{{}}.{name}": ("weight",) for name in ("proj_in", "proj_out")},
    "attn.norm_out": _NORM,
    "conv_out.conv_inverted": _LAYER,
    "conv_out.conv_depth": _LAYER,
    "conv_out.conv_point": ("weight",),
    "conv_out.norm": _LAYER,
    "conv": _LAYER,
}
KEYS: tuple[str, ...] = tuple(
    f"{part}.{kind}"
    for part, kinds in {
        **{f"encoder.down_blocks.{{}}.{{}}.{layer}": kinds for layer, kinds in _BLOCK.items()},
        **{f"decoder.up_blocks.{{}}.{{}}.{layer}": kinds for layer, kinds in _BLOCK.items()},
        "encoder.conv_in": _LAYER,
        "encoder.conv_in.conv": _LAYER,
        "encoder.conv_out": _LAYER,
        "decoder.conv_in": _LAYER,
        "decoder.norm_out": _LAYER,
        "decoder.conv_out": _LAYER,
        "decoder.conv_out.conv": _LAYER,
    }.items()
    for kind in kinds
)
"""Every key of diffusers' AutoencoderDC, `{}` for a number."""
