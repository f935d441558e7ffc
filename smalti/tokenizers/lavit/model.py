"""LaVIT's dynamic visual tokenizer (arXiv 2309.04669; jy0205/LaVIT): as many tokens as the image needs.

Shape suffixes: B batch, H W pixels, N patches, D width, L tokens, C width of a code, n kept patches of a batch.
"""

import torch
import torch.nn.functional as F
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.nn.eva import clip_range, eva_vit
from smalti.nn.quantizers.base import nearest_code
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.lavit.config import LaVITConfig
from smalti.tokenizers.lavit.decoder import Context, Decoder
from smalti.tokenizers.lavit.dynamic import Merger, Selector, decide, gumbel_noise
from smalti.tokenizers.lavit.pixels import LaVITOptions, PixelDecoder
from smalti.tokens import PAD, Segment, TokenLayout, Tokens


class LaVITTokenizer(Tokenizer):
    """Image to 1..N ids: a selector keeps patches, a merger moves what the others show into them.

    `encode` keeps the patches that are more probably kept than dropped; with `rng` it draws them, as the authors always
    do. `decode` makes an image of the same content, not of the same pixels, by a diffusion model that is loaded when it
    is first needed; its start noise is fixed unless `rng` is given.
    """

    decode_options = LaVITOptions

    def __init__(self, config: LaVITConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="fixed", value=config.image_size)
        self.vit = eva_vit(
            image_size=config.image_size,
            patch=config.patch,
            width=config.width,
            depth=config.vit_depth,
            heads=config.vit_heads,
            mlp_ratio=config.vit_mlp_ratio,
        ).requires_grad_(False)
        self.selector = Selector(config.width)
        self.merger = Merger(
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            hidden=int(config.width * config.mlp_ratio),
        )
        self.to_code = nn.Sequential(
            nn.Linear(config.width, config.width), nn.Tanh(), nn.Linear(config.width, config.code_width)
        )
        self.codebook = nn.Parameter(torch.empty(config.vocab, config.code_width))
        nn.init.normal_(self.codebook, std=config.code_width**-0.5)  # rows of length about 1
        self.decoder = Decoder(config)
        if config.llm_width:
            self.to_llm = nn.Linear(config.width, config.llm_width)
        self._pipeline: PixelDecoder | None = None
        self._layout = TokenLayout(
            segments=(Segment(shape=(config.patches,), vocab=config.vocab),), prefixes=(config.patches,), ragged=True
        )

    # ---- images to tokens

    def features(self, images: Tensor) -> Tensor:
        """Features [B, N, D] of all patches of images in [0, 1]: the transformer's last block, without a norm."""
        return self.vit(clip_range(images))[:, 1:]

    def select(self, features_BND: Tensor, rng: RandomGenerator | None = None) -> Tensor:
        """bool [B, N]: the patches to keep; at least one per image."""
        logp_BN2 = self.selector(features_BND)
        return decide(logp_BN2, gumbel_noise(logp_BN2, rng) if rng is not None else None)

    def code_vectors(self, merged_nD: Tensor) -> Tensor:
        """float32 [n, C] of length 1: what is matched to the codes."""
        with torch.autocast(merged_nD.device.type, enabled=False):
            return F.normalize(self.to_code(merged_nD.float()), dim=-1)

    def tokens_of(self, merged_BND: Tensor, keep_BN: Tensor) -> Tokens:
        """Tokens of the kept patches, in raster order."""
        ids_n = nearest_code(self.code_vectors(merged_BND[keep_BN]), self.codebook)
        return self.padded(list(ids_n.split(keep_BN.sum(dim=1).tolist())))

    def padded(self, ids: list[Tensor]) -> Tokens:
        """A batch of id lists of different lengths, int64 [n_i], as tokens."""
        lengths = torch.tensor([len(i) for i in ids], device=self.device)
        return Tokens(
            layout=self._layout,
            ids=nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD),
            lengths=lengths,
        )

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        features_BND = self.features(images)
        keep_BN = self.select(features_BND, rng)
        return self.tokens_of(self.merger(features_BND, keep_BN), keep_BN)

    # ---- tokens to images

    def context(self, tokens: Tokens) -> Context:
        """What the pixel decoder is conditioned on. Errors: ValueError for an image without tokens."""
        assert tokens.ids is not None
        if not len(tokens) or int(tokens.lengths.min()) < 1:
            raise ValueError(f"every image needs at least one token, got lengths {tokens.lengths.tolist()}")
        ids_BL = tokens.ids[:, : int(tokens.lengths.max())]
        return self.decoder(F.embedding(ids_BL.clamp_min(0), self.codebook), tokens.lengths)

    @property
    def pipeline(self) -> PixelDecoder:
        """The diffusion model that makes pixels; assign one, or it is loaded on first use from `config.pixels`.

        It is no part of the tokenizer's weights and computes on the device where it was put.
        Errors: OSError where it cannot be loaded.
        """
        if self._pipeline is None:
            self._pipeline = PixelDecoder.load(self.config.pixels).to(self.device)
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: PixelDecoder) -> None:
        self._pipeline = pipeline

    def size_of(self, k: int) -> int:
        """The same side for any number of tokens."""
        return self.config.output_size

    def _decode(
        self, tokens: Tokens, size: int | None, options: LaVITOptions | None, rng: RandomGenerator | None
    ) -> Tensor:
        options = LaVITOptions() if options is None else options
        if size is not None and options.size is not None:
            raise ValueError(f"size={size} and options.size={options.size} say the same thing: give one of them")
        side = size or self.config.output_size
        return self.pipeline.render(self.context(tokens), options.size or (side, side), options, rng).to(self.device)
