"""Hita's tokenizer (arXiv 2507.02358; CVMI-Lab/Hita, MIT).

Shape suffixes: B batch, n holistic tokens, l patches, C code width, h w patch grid, H W pixels, F foundation width.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator as RandomGenerator
from torch import Tensor, channels_last, nn

from smalti.nn.autoencoder import Decoder, Encoder
from smalti.nn.quantizers.vq import VectorQuantizer
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.hita.config import HitaTokenizerConfig
from smalti.tokenizers.hita.foundation import Foundation
from smalti.tokenizers.hita.holistic import HolisticDecoder, HolisticEncoder
from smalti.tokens import PAD, Segment, TokenLayout, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """What the encoder makes of images, before it is quantized."""

    holistic: Tensor
    """[B, n, C]: matched with the holistic codebook."""
    patches: Tensor
    """[B, l, C]: matched with the patch codebook."""
    foundation: Tensor
    """[B, 1 + 256, F]: the frozen DINOv2's class token and patches."""


class HitaTokenizer(Tokenizer):
    """Image to holistic tokens of the whole image, then a grid of patch tokens."""

    def __init__(self, config: HitaTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="fixed", value=config.image_size)
        shape: dict[str, Any] = {
            "channels": config.channels,
            "features": config.width,
            "res_blocks": config.res_blocks,
            "norm_groups": config.norm_groups,
            "fused_attention": False,
        }
        self.encoder = Encoder(multipliers=config.encoder_multipliers, **shape)
        self.decoder = Decoder(multipliers=config.decoder_multipliers, **shape)
        self.foundation = Foundation(config.foundation)
        self.holistic_encoder = HolisticEncoder(config)
        self.holistic_decoder = HolisticDecoder(config)
        codes: dict[str, Any] = {"normalize": config.normalize, "remembered": config.remembered}
        self.holistic_quantizer = VectorQuantizer(config.vocab, config.holistic_width, **codes)
        self.before_holistic = nn.Linear(config.width, config.holistic_width)
        self.after_holistic = nn.Linear(config.holistic_width, config.width)
        self.patch_quantizer = VectorQuantizer(config.vocab, config.patch_width, **codes)
        self.before_patches = nn.Conv2d(config.width, config.patch_width, 1)
        self.after_patches = nn.Conv2d(config.patch_width, config.width, 1)
        segments = (
            Segment(shape=(config.holistic_tokens,), vocab=config.vocab, name="holistic"),
            Segment(shape=(config.side, config.side), vocab=config.vocab, name="patches"),
        )
        self._layout = TokenLayout(segments=segments, prefixes=(config.holistic_tokens + config.side**2,))

    def vectors(self, images: Tensor) -> Vectors:
        """Continuous vectors of images in [0, 1]: what is quantized."""
        x = images * 2 - 1
        features = self.encoder(x.contiguous(memory_format=channels_last))
        foundation = self.foundation(x)
        holistic, patches = self.holistic_encoder(features, foundation)
        return Vectors(
            holistic=self.before_holistic(holistic),
            patches=self.before_patches(patches).flatten(2).transpose(1, 2),
            foundation=foundation,
        )

    def fuse(self, holistic_BnC: Tensor, patches_BlC: Tensor) -> Tensor:
        """Features [B, D, h, w] for the convolutional decoder, from codes."""
        patches_BChw = patches_BlC.transpose(1, 2).unflatten(2, (self.config.side, self.config.side))
        return self.holistic_decoder(self.after_holistic(holistic_BnC), self.after_patches(patches_BChw))

    def decode_codes(self, holistic_BnC: Tensor, patches_BlC: Tensor) -> Tensor:
        """Images in about [0, 1], not clamped, from codes."""
        features = self.fuse(holistic_BnC, patches_BlC)
        return (self.decoder(features.contiguous(memory_format=channels_last)) + 1) / 2

    def predict_foundation(self, holistic_BnC: Tensor) -> Tensor:
        """DINOv2's patch features [B, 256, F] as predicted from the holistic codes (Hita-U only)."""
        if not self.config.predicted_width:
            raise ValueError("this tokenizer predicts no foundation features (predicted_width is 0): use Hita-U")
        return self.holistic_decoder.predict_foundation(self.after_holistic(holistic_BnC))

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        v = self.vectors(images)
        ids = [self.holistic_quantizer.nearest(v.holistic), self.patch_quantizer.nearest(v.patches)]
        return Tokens(layout=self._layout, ids=torch.cat(ids, dim=1))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        self._check_side(size)
        holistic, patches = tokens.segment(0), tokens.segment(1).flatten(1)
        return self.decode_codes(self.holistic_quantizer.codes_of(holistic), self.patch_quantizer.codes_of(patches))

    def preview(self, tokens: Tokens, known: Tensor | None = None) -> Tensor:
        """Images [B, 3, H, W] of unfinished sequences, unknown patches in grey.

        `known` bool [B, k] for the first k tokens; by default what is there. Unknown tokens are decoded as the mean of
        their codebook.
        """
        assert tokens.ids is not None
        known = tokens.ids != PAD if known is None else known
        missing = tokens.layout.length - tokens.ids.shape[1]
        ids_BL = F.pad(tokens.ids.where(known, 0), (0, missing)).to(self.device)
        known_BL = F.pad(known, (0, missing)).to(self.device)
        n, side, stride = self.config.holistic_tokens, self.config.side, self.config.stride
        with torch.no_grad():
            codes = [
                torch.where(known_BL[:, part, None], quantizer.codes_of(ids_BL[:, part]), quantizer.mean())
                for part, quantizer in (
                    (slice(n), self.holistic_quantizer),
                    (slice(n, None), self.patch_quantizer),
                )
            ]
            image = self.decode_codes(*codes).clamp(0, 1)
        shown_B1hw = known_BL[:, n:].unflatten(1, (1, side, side))
        return torch.where(shown_B1hw.repeat_interleave(stride, 2).repeat_interleave(stride, 3), image, 0.5)
