"""Sizes of FlexTok (arXiv 2502.13967) and how its tokens are decoded."""

from dataclasses import dataclass
from typing import Literal

from smalti.nn.kl_autoencoder import KLAutoencoderConfig

_LARGEST = 2**28  # values of a computed table

_UNKNOWN_SCALE = KLAutoencoderConfig(scaling_factor=None)

Positions = Literal["sincos", "sum", "product"]


@dataclass(frozen=True, kw_only=True)
class FlexTokDecode:
    """How latents are sampled from tokens: Euler steps of the rectified flow, with guidance."""

    steps: int = 20
    """Euler steps from t = 1 (noise) to t = 0."""
    guidance_scale: float | tuple[float, ...] = 7.5
    """s of v_null + s (v - v_null); 1 = no guidance. A tuple gives one per step."""
    adaptive: bool = True
    """Adaptive projected guidance (arXiv 2410.02416) instead of plain classifier-free guidance."""
    momentum: float = -0.5
    """Of the running guidance direction (adaptive only)."""
    threshold: float = 2.5
    """Largest L2 norm of the guidance direction of an image; 0 = no limit (adaptive only)."""
    parallel: float = 0.0
    """Weight eta of the direction's part along the conditional velocity (adaptive only)."""
    seed: int | tuple[int, ...] = 0
    """Seed of the start noise where no `rng` is given; one number for all images, or one per image."""
    noise: float = 1.0
    """Scale of the start noise; 0 with steps = 1 gives the model's mean prediction (regression)."""

    def __post_init__(self) -> None:
        for name in ("guidance_scale", "seed"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.steps < 1:
            raise ValueError(f"FlexTokDecode.steps must be at least 1, got {self.steps}")
        if isinstance(self.guidance_scale, tuple) and len(self.guidance_scale) != self.steps:
            raise ValueError(
                f"FlexTokDecode.guidance_scale has {len(self.guidance_scale)} values for {self.steps} steps: "
                "give one number, or one per step"
            )


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """A transformer over latent patches and register tokens."""

    width: int
    """Width of a token."""
    depth: int
    """Blocks."""
    head_width: int = 64
    """Width of an attention head."""
    patch: int = 2
    """Side of a patch, latent cells."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP as a multiple of `width`; a gated MLP has two thirds of it."""
    gated_mlp: bool = True
    """SwiGLU instead of a plain SiLU MLP."""
    normalize_qk: bool = True
    """Normalize queries and keys per head."""
    qkv_bias: bool = False
    """Biases of the query, key and value projections."""
    proj_bias: bool = False
    """Bias of the attention's output projection."""
    mlp_bias: bool = False
    """Biases of the MLP."""
    positions: Positions = "sincos"
    """Table of patch positions: fixed sine-cosine, or a learned row and column vector, summed or multiplied."""
    position_side: int = 16
    """Side of that table, patches."""
    resize_positions: bool = False
    """Smaller grids use the whole table, resized, instead of its top left corner."""

    def __post_init__(self) -> None:
        if self.width % self.head_width:
            raise ValueError(f"width must divide into heads of {self.head_width}, got {self.width}")
        if self.positions not in ("sincos", "sum", "product"):
            raise ValueError(f"positions are sincos, sum or product, got {self.positions!r}")
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, got {self.width}")
        if self.width * self.position_side**2 > _LARGEST:
            raise ValueError(
                f"a position table of {self.position_side} patches a side and width {self.width} is absurd"
            )

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP."""
        hidden = int(self.mlp_ratio * self.width)
        return int(2 * hidden / 3) if self.gated_mlp else hidden


@dataclass(frozen=True, kw_only=True)
class FlexTokConfig:
    """Tokenizer with 1 to `registers` ordered tokens per image."""

    encoder: StackConfig
    """Latent patches and learned registers to tokens."""
    decoder: StackConfig
    """Tokens and noisy latent patches to a velocity."""
    image_size: int = 256
    """Side of the image, pixels."""
    vae: KLAutoencoderConfig = _UNKNOWN_SCALE
    """The autoencoder between pixels and latents."""
    registers: int = 256
    """Tokens of an image."""
    spatial_registers: bool = False
    """Registers start as the position vectors of places spread over the image, in raster order."""
    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    """Levels of every FSQ dimension."""
    frequencies: int = 256
    """Width of the sine-cosine embedding of the time."""
    time_scale: float = 1.0
    """Factor of the time before it is embedded (1000 / the authors' max_timestep)."""
    modulated_parts: Literal[1, 2] = 2
    """2 = patches and registers have modulations of their own, 1 = they share one."""
    shared_modulation: bool = False
    """One modulation layer for all decoder blocks, plus a learned offset per block (saves most of a small decoder)."""
    initial_gate: float = 0.0
    """What the gates of the decoder's residuals start at; 0 is adaLN-zero."""
    decode: FlexTokDecode = FlexTokDecode()
    """How tokens are decoded where nothing else is asked for."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if self.registers < 1 or (self.grid(self.encoder) ** 2 + self.registers) ** 2 > _LARGEST:
            raise ValueError(f"registers must be at least 1 and no more than an attention mask holds: {self.registers}")
        for name in ("encoder", "decoder"):
            stack: StackConfig = getattr(self, name)
            if self.image_size % (self.vae.stride * stack.patch):
                raise ValueError(
                    f"image_size must be a multiple of the {name}'s patches of {self.vae.stride} x {stack.patch} "
                    f"pixels, got {self.image_size}"
                )
            if self.grid(stack) > stack.position_side:
                raise ValueError(
                    f"{self.image_size} pixels are {self.grid(stack)} patches a side, but the {name}'s position table "
                    f"has {stack.position_side}"
                )

    @property
    def latent_side(self) -> int:
        """Side of the latent grid."""
        return self.image_size // self.vae.stride

    def grid(self, stack: StackConfig) -> int:
        """Side of the patch grid of the encoder or decoder."""
        return self.latent_side // stack.patch


def _published(encoder_depth: int, decoder_depth: int) -> FlexTokConfig:
    """Width 64 per block, as all published sizes have."""
    return FlexTokConfig(
        encoder=StackConfig(width=64 * encoder_depth, depth=encoder_depth),
        decoder=StackConfig(width=64 * decoder_depth, depth=decoder_depth),
    )


PUBLISHED = {
    "d12-d12-in1k": _published(12, 12),
    "d18-d18-in1k": _published(18, 18),
    "d18-d28-in1k": _published(18, 28),
    "d18-d28-dfn": _published(18, 28),
}
