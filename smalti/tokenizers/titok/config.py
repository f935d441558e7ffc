"""Sizes of TiTok (arXiv 2406.07550) and TA-TiTok (arXiv 2501.07730)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ViTSize:
    """A vision transformer with a head for every `width / heads` channels, and a feed-forward four times as wide."""

    width: int
    """Channels of every token."""
    depth: int
    """Blocks."""
    heads: int
    """Attention heads."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width must divide into heads, got {self.width} channels and {self.heads} heads")


SMALL = ViTSize(width=512, depth=8, heads=8)
BASE = ViTSize(width=768, depth=12, heads=12)
LARGE = ViTSize(width=1024, depth=24, heads=16)

CLIP = "openai/clip-vit-large-patch14-336"


@dataclass(frozen=True, kw_only=True)
class TiTokConfig:
    """Transformer encoder, codebook or latents, transformer decoder; for two-stage models a convolutional decoder."""

    image_size: int = 256
    """Side of the image, pixels."""
    tokens: int = 32
    """Tokens per image."""
    vocab: int | None = 4096
    """Codes in the codebook; None = continuous latents (the KL variants)."""
    latent_channels: int = 12
    """Width of a code or latent."""
    normalize: bool = True
    """Bring features and codes to length 1 before they are compared."""
    commitment: float = 0.25
    """Weight beta of the loss that pulls the features to the codes."""
    encoder: ViTSize = LARGE
    """Size of the encoder."""
    decoder: ViTSize = LARGE
    """Size of the decoder."""
    encoder_patch: int = 16
    """Side of the encoder's patches, pixels."""
    decoder_patch: int = 16
    """Side of the decoder's patches, pixels."""
    legacy: bool = True
    """The first, two-stage models: the decoder predicts codes of MaskGIT's VQGAN, whose decoder makes the image, and
    the encoder mixes tokens and channels up before its last layer, as the published weights need it. False = the
    decoder predicts pixels."""
    pixel_vocab: int = 1024
    """legacy: codes of the VQGAN."""
    pixel_features: int = 256
    """legacy: width of a code of the VQGAN."""
    pixel_channels: int = 128
    """legacy: width of the VQGAN's decoder at full resolution."""
    pixel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """legacy: width of every level of it, times `pixel_channels`; each but the last doubles the image."""
    pixel_res_blocks: int = 2
    """legacy: residual blocks per level of it."""
    text_tokens: int = 0
    """Rows of text features that the decoder reads (TA-TiTok); 0 = none."""
    text_width: int = 768
    """Width of a text feature."""
    text_encoder: str = ""
    """Hub id of the CLIP whose text features they are; "" = features come from the caller only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixel_multipliers", tuple(self.pixel_multipliers))
        for patch in (self.encoder_patch, self.decoder_patch):
            if self.image_size % patch:
                raise ValueError(f"patches must tile the image, got {patch} and {self.image_size} pixels")
        stride = 2 ** (len(self.pixel_multipliers) - 1)
        if self.legacy and stride != self.decoder_patch:
            raise ValueError(
                f"the VQGAN's cells must be the decoder's patches: {len(self.pixel_multipliers)} levels make cells of "
                f"{stride} pixels, decoder_patch is {self.decoder_patch}"
            )


def _vq(encoder: ViTSize, decoder: ViTSize, tokens: int, **more: object) -> TiTokConfig:
    settings = {"tokens": tokens, "vocab": 8192, "latent_channels": 64, "normalize": False, "legacy": False}
    return TiTokConfig(encoder=encoder, decoder=decoder, **settings, **more)  # type: ignore[arg-type]


def _kl(encoder: ViTSize, decoder: ViTSize, tokens: int, **more: object) -> TiTokConfig:
    settings = {"tokens": tokens, "vocab": None, "latent_channels": 16, "normalize": False, "legacy": False}
    return TiTokConfig(encoder=encoder, decoder=decoder, **settings, **more)  # type: ignore[arg-type]


_TEXT = {"text_tokens": 77, "text_encoder": CLIP}

PUBLISHED = {
    "l32": TiTokConfig(tokens=32),
    "b64": TiTokConfig(tokens=64, encoder=BASE, decoder=BASE),
    "s128": TiTokConfig(tokens=128, encoder=SMALL, decoder=SMALL),
    "bl64-vq8k": _vq(BASE, LARGE, 64),
    "bl128-vq8k": _vq(BASE, LARGE, 128),
    "sl256-vq8k": _vq(SMALL, LARGE, 256),
    "ll32-vae-c16": _kl(LARGE, LARGE, 32),
    "bl64-vae-c16": _kl(BASE, LARGE, 64),
    "bl128-vae-c16": _kl(BASE, LARGE, 128),
    "ta-bl32-vq": _vq(BASE, LARGE, 32, **_TEXT),
    "ta-bl64-vq": _vq(BASE, LARGE, 64, **_TEXT),
    "ta-bl128-vq": _vq(BASE, LARGE, 128, **_TEXT),
    "ta-bl32-vae": _kl(BASE, LARGE, 32, **_TEXT),
    "ta-bl64-vae": _kl(BASE, LARGE, 64, **_TEXT),
    "ta-sl128-vae": _kl(SMALL, LARGE, 128, **_TEXT),
}
