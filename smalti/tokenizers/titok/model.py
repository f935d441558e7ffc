"""TiTok (arXiv 2406.07550) and TA-TiTok (arXiv 2501.07730; bytedance/1d-tokenizer, Apache-2.0).

Shape suffixes: B batch, H W pixels, h w patch grid, n patches, K tokens, L rows of a transformer, D width, C latent
channels, V codes of the VQGAN, T rows of text, F text features.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.nn.maskgit import MaskGITDecoder
from smalti.nn.quantizers.vq import VectorQuantizer
from smalti.nn.vit import Block, Mlp
from smalti.text.clip import clip_text
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.titok.config import TiTokConfig, ViTSize
from smalti.tokens import Segment, TokenLayout, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class TextOptions:
    """What TA-TiTok's decoder is told about the images; one of the two."""

    captions: tuple[str, ...] = ()
    """A caption for every image, or one for all; encoded by the CLIP that the config names."""
    features: Tensor | None = None
    """float [B or 1, T, F]: text features, as `smalti.text.clip.CLIPText` makes them."""


class Tower(nn.Module):
    """What encoder and decoder have in common: class token, grid of patches, latents, and the blocks that mix them."""

    def __init__(self, size: ViTSize, patches: int, tokens: int) -> None:
        super().__init__()
        self.start = _table(1, size.width)
        self.grid_positions = _table(patches + 1, size.width)
        self.latent_positions = _table(tokens, size.width)
        self.norm_in = nn.LayerNorm(size.width)
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, Mlp(size.width, 4 * size.width), eps=1e-5) for _ in range(size.depth)
        )
        self.norm_out = nn.LayerNorm(size.width)

    def mix(self, rows_BLD: Tensor, read: slice) -> Tensor:
        """The rows `read` of the last block, normalized."""
        x_BLD = self.norm_in(rows_BLD)
        for block in self.blocks[:-1]:
            x_BLD = block(x_BLD)
        return self.norm_out(self.blocks[-1](x_BLD, read=read))


def _table(rows: int, width: int) -> nn.Parameter:
    """float [rows, width], normal with variance 1 / width."""
    table = nn.Parameter(torch.empty(rows, width))
    nn.init.normal_(table, std=width**-0.5)
    return table


class Encoder(Tower):
    """Image [B, 3, H, W] in [0, 1] to one vector per token, [B, K, channels]."""

    def __init__(self, config: TiTokConfig, channels: int) -> None:
        size, patch = config.encoder, config.encoder_patch
        super().__init__(size, (config.image_size // patch) ** 2, config.tokens)
        self.legacy = config.legacy
        self.latents = _table(config.tokens, size.width)
        self.patches = nn.Conv2d(3, size.width, patch, stride=patch)
        self.head = nn.Conv2d(size.width, channels, 1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        patches_BnD = self.patches(x_B3HW).flatten(2).transpose(1, 2)
        batch, tokens = len(x_B3HW), len(self.latents)
        image_BLD = torch.cat([self.start.expand(batch, 1, -1), patches_BnD], dim=1) + self.grid_positions
        latents_BKD = (self.latents + self.latent_positions).expand(batch, -1, -1)
        x_BKD = self.mix(torch.cat([image_BLD, latents_BKD], dim=1), slice(-tokens, None))
        # kept for legacy weights: their authors read the memory of [K, D] as [D, K], without transposing
        x_BDK = x_BKD.reshape(batch, -1, tokens) if self.legacy else x_BKD.transpose(1, 2)
        return self.head(x_BDK[..., None])[..., 0].transpose(1, 2)


class CodeHead(nn.Module):
    """Grid features [B, D, h, w] to logits over the codes of the VQGAN, [B, V, h, w]."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, vocab, 1)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        return self.down(self.up(x_BDhw).tanh())


class PixelHead(nn.Module):
    """Grid features [B, D, h, w] to patches of pixels, then a 3x3 convolution over the image, [B, 3, H, W]."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.pixels, self.smooth = nn.Conv2d(width, 3 * patch**2, 1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        # channels are (row, column, color) inside a patch; pixel_shuffle would read (color, row, column)
        x = self.pixels(x_BDhw).unflatten(1, (self.patch, self.patch, 3))
        x_B3HW = x.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
        return self.smooth(x_B3HW)


class Decoder(Tower):
    """Codes or latents [B, K, C], and text features where it reads any, to what its head predicts on the patch grid."""

    def __init__(self, config: TiTokConfig) -> None:
        size, patch = config.decoder, config.decoder_patch
        side = config.image_size // patch
        super().__init__(size, side**2, config.tokens)
        self.side = side
        self.mask = nn.Parameter(torch.empty(1, 1, size.width))
        nn.init.normal_(self.mask, std=size.width**-0.5)
        self.embed = nn.Linear(config.latent_channels, size.width)
        if config.text_tokens:
            self.text_embed = nn.Linear(config.text_width, size.width)
            self.text_positions = _table(config.text_tokens, size.width)
        self.head = CodeHead(size.width, config.pixel_vocab) if config.legacy else PixelHead(size.width, patch)

    def forward(self, z_BKC: Tensor, text_BTF: Tensor | None = None) -> Tensor:
        """Logits [B, V, h, w] of a legacy model, otherwise the image [B, 3, H, W], not clamped."""
        batch, patches = len(z_BKC), self.side**2
        grid_1LD = torch.cat([self.start[None], self.mask.expand(1, patches, -1)], dim=1) + self.grid_positions
        rows = [grid_1LD.expand(batch, -1, -1), self.embed(z_BKC) + self.latent_positions]
        if text_BTF is not None:
            rows.append((self.text_embed(text_BTF) + self.text_positions).expand(batch, -1, -1))
        x_BnD = self.mix(torch.cat(rows, dim=1), slice(1, 1 + patches))
        return self.head(x_BnD.transpose(1, 2).unflatten(2, (self.side, self.side)))


class TiTok(Tokenizer):
    """Image to K tokens that stand for no place of it: a transformer writes them and another reads them, whole only."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="fixed", value=config.image_size)
        self.encoder = Encoder(config, config.latent_channels * (1 if config.vocab else 2))
        self.decoder = Decoder(config)
        if config.vocab:
            self.quantizer = VectorQuantizer(
                config.vocab, config.latent_channels, normalize=config.normalize, remembered=0
            )
        if config.legacy:
            self.pixel_codebook = nn.Parameter(torch.empty(config.pixel_vocab, config.pixel_features))
            nn.init.uniform_(self.pixel_codebook, -1 / config.pixel_vocab, 1 / config.pixel_vocab)
            self.pixel_decoder = MaskGITDecoder(
                channels=config.pixel_channels,
                multipliers=config.pixel_multipliers,
                features=config.pixel_features,
                res_blocks=config.pixel_res_blocks,
            )
        segment = Segment(shape=(config.tokens,), vocab=config.vocab)
        self._layout = TokenLayout(segments=(segment,), prefixes=(config.tokens,))
        self.decode_options = TextOptions if config.text_tokens else None

    def features(self, images: Tensor) -> Tensor:
        """What the encoder makes of images in [0, 1]: [B, K, C] to be quantized, or [B, K, 2 C] for a posterior."""
        return self.encoder(images)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance [B, K, C] of the latents of images in [0, 1], for the KL variants, in float32."""
        if self.config.vocab is not None:
            raise ValueError(f"{self.name or 'this tokenizer'} has {self.config.vocab} codes, and no posterior")
        mean_BKC, logvar_BKC = self.features(images).float().chunk(2, dim=-1)
        return mean_BKC, logvar_BKC.clamp(-30, 20)

    def decode_latents(self, latents: Tensor, text: Tensor | None = None) -> Tensor:
        """Images in about [0, 1], not clamped, from codes or latents [B, K, C]; `text` [B or 1, T, F] for TA-TiTok."""
        return self.render(self.decoder(latents, text))

    def render(self, predicted: Tensor) -> Tensor:
        """The image of what the decoder predicted; legacy: decodes the mean code of softmax(logits [B, V, h, w])."""
        if not self.config.legacy:
            return predicted
        mean_BhwC = predicted.softmax(1).permute(0, 2, 3, 1) @ self.pixel_codebook
        return self.pixel_decoder(mean_BhwC.permute(0, 3, 1, 2))  # channels last in memory

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        if self.config.vocab is not None:
            return Tokens(layout=self._layout, ids=self.quantizer.nearest(self.features(images)))
        mean_BKC, logvar_BKC = self.posterior(images)
        if rng is not None:
            noise_BKC = torch.randn(mean_BKC.shape, generator=rng, device=rng.device).to(mean_BKC.device)
            mean_BKC = mean_BKC + (logvar_BKC / 2).exp() * noise_BKC
        return Tokens(layout=self._layout, latents=mean_BKC)

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        self._check_side(size)
        text = self._text(options, len(tokens))
        latents = tokens.latents if tokens.ids is None else self.quantizer.codes_of(tokens.ids)
        assert latents is not None
        return self.decode_latents(latents, text)

    def _text(self, options: Any, batch: int) -> Tensor | None:
        """The text features to decode with: given, of captions, of the empty caption, or none."""
        config = self.config
        if not config.text_tokens:
            return None
        captions, features = (options.captions, options.features) if options else ((), None)
        if features is not None and captions:
            raise ValueError("TextOptions has captions and features: leave one of them out")
        if features is None and (captions or config.text_encoder):
            if not config.text_encoder:
                raise ValueError("this tokenizer's config names no text encoder for captions: pass features instead")
            features = clip_text(config.text_encoder).features(captions or ("",))
        if features is None:
            return None
        shape = (config.text_tokens, config.text_width)
        if features.ndim != 3 or len(features) not in (1, batch) or features.shape[1:] != shape:
            allowed = f"[1 or {batch}, {shape[0]}, {shape[1]}]"
            raise ValueError(f"text features must be {allowed}, one for all or each image, got {list(features.shape)}")
        return features.to(self.device, torch.float32)
