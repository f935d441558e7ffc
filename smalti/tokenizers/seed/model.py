"""SEED's image tokenizer (arXiv 2310.01218; AILab-CVC/SEED, Apache-2.0).

Shape suffixes: B batch, H W pixels, N patches of the image and its class token, q queries = tokens, D width,
C code channels, V codes, E image embedding.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.nn.eva import clip_range, eva_vit
from smalti.nn.quantizers.base import nearest_code
from smalti.nn.vit import Block, Mlp
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.seed.config import SEEDTokenizerConfig
from smalti.tokenizers.seed.qformer import QFormer
from smalti.tokenizers.seed.unclip import UnCLIPOptions, check_pipeline, load_unclip, render, side_of
from smalti.tokens import Segment, TokenLayout, Tokens

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_unclip_img2img import StableUnCLIPImg2ImgPipeline


def qformer(config: SEEDTokenizerConfig, *, depth: int, context_width: int, causal: bool) -> QFormer:
    """A Q-Former of the config's width."""
    return QFormer(
        width=config.width,
        depth=depth,
        heads=config.heads,
        hidden=config.mlp_width,
        context_width=context_width,
        cross_every=config.cross_every,
        causal=causal,
        eps=config.norm_eps,
        dropout=config.dropout,
    )


class QuerySequence(nn.Module):
    """Pre-norm blocks over the q tokens [B, q, D], with learned positions."""

    def __init__(self, config: SEEDTokenizerConfig) -> None:
        super().__init__()
        width, heads = config.width, config.decoder_heads
        self.positions = nn.Parameter(torch.zeros(1, config.queries, width))
        self.blocks = nn.ModuleList(Block(width, heads, Mlp(width, 4 * width)) for _ in range(config.decoder_depth))

    def forward(self, x_BqD: Tensor) -> Tensor:
        x_BqD = x_BqD + self.positions
        for block in self.blocks:
            x_BqD = block(x_BqD)
        return x_BqD


class ProjectionHead(nn.Module):
    """Tokens [B, q, D] to an embedding [B, E]: every token narrowed, all of them flattened and projected."""

    def __init__(self, config: SEEDTokenizerConfig) -> None:
        super().__init__()
        widths = (config.width, *config.projection)
        self.narrow = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))
        self.out = nn.Linear(config.queries * widths[-1], config.embedding_channels)

    def forward(self, x_BqD: Tensor) -> Tensor:
        for i, layer in enumerate(self.narrow):
            x_BqD = layer(x_BqD.relu() if i else x_BqD)
        return self.out(x_BqD.flatten(1))


class QFormerHead(nn.Module):
    """Tokens [B, q, D] to an embedding [B, E]: one learned query reads them through a reverse Q-Former."""

    def __init__(self, config: SEEDTokenizerConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self.qformer = qformer(config, depth=config.reverse_depth, context_width=config.width, causal=False)
        self.out = nn.Linear(config.width, config.embedding_channels)

    def forward(self, x_BqD: Tensor) -> Tensor:
        read_B1D = self.qformer(self.query.expand(len(x_BqD), -1, -1), x_BqD)
        return self.out(read_B1D.squeeze(1))


class SEEDTokenizer(Tokenizer):
    """Image to 32 tokens in causal order; tokens to an image embedding, of which unCLIP makes pixels."""

    decode_options = UnCLIPOptions

    def __init__(self, config: SEEDTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="fixed", value=config.image_size)
        self.vit = eva_vit(
            image_size=config.image_size,
            patch=config.patch,
            width=config.vit_width,
            depth=config.vit_depth,
            heads=config.vit_heads,
            mlp_ratio=config.vit_mlp_ratio,
        )
        self.vit_norm = nn.LayerNorm(config.vit_width, eps=1e-5)
        self.queries = nn.Parameter(torch.randn(1, config.queries, config.width) * 0.02)
        self.qformer = qformer(config, depth=config.depth, context_width=config.vit_width, causal=config.causal)
        width, channels = config.width, config.code_channels
        self.to_code = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, channels))
        self.codebook = nn.Parameter(torch.rand(config.vocab, channels) * 2 / config.vocab - 1 / config.vocab)
        self.from_code = nn.Sequential(nn.Linear(channels, channels), nn.Tanh(), nn.Linear(channels, width))
        self.restore = QuerySequence(config) if config.restores else None
        self.decoder = QuerySequence(config)
        self.head = ProjectionHead(config) if config.head == "projection" else QFormerHead(config)
        segment = Segment(shape=(config.queries,), vocab=config.vocab)
        self._layout = TokenLayout(segments=(segment,), prefixes=(config.queries,))
        self._pipeline: StableUnCLIPImg2ImgPipeline | None = None

    @property
    def pipeline(self) -> "StableUnCLIPImg2ImgPipeline":
        """The unCLIP pipeline that makes pixels; assign one, or it is loaded on first use from `config.pixels`.

        It is no part of the tokenizer's weights and computes on the device where it was put.
        """
        if self._pipeline is None:
            self._pipeline = load_unclip(self.config.pixels).to(self.device)
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: "StableUnCLIPImg2ImgPipeline") -> None:
        self._pipeline = pipeline

    def features(self, images: Tensor) -> Tensor:
        """What the queries read in images in [0, 1]: [B, q, D]."""
        image_BND = self.vit_norm(self.vit(clip_range(images)))
        return self.qformer(self.queries.expand(len(images), -1, -1), image_BND)

    def embed_codes(self, codes_BqC: Tensor) -> Tensor:
        """Image embeddings [B, E] of code vectors."""
        return self.head(self.decoder(self.from_code(codes_BqC)))

    def embed(self, tokens: Tokens) -> Tensor:
        """Image embeddings [B, E] in the space of CLIP ViT-H/14 (LAION-2B): what unCLIP is conditioned on.

        Errors: ValueError for tokens of another tokenizer or layout, or ids out of range.
        """
        self.check_tokens(tokens)
        assert tokens.ids is not None
        with torch.no_grad():
            return self.embed_codes(self.codebook[tokens.ids.to(self.device)])

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        return Tokens(layout=self._layout, ids=nearest_code(self.to_code(self.features(images)), self.codebook))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        options = UnCLIPOptions() if options is None else options
        check_pipeline(self.pipeline, self.config.embedding_channels, options.noise_level)
        if size not in (None, side_of(self.pipeline)):
            raise ValueError(f"the pipeline decodes to {side_of(self.pipeline)} pixels only, got size={size}")
        negative = None
        if options.negative is not None:
            if len(options.negative) not in (1, len(tokens)):
                raise ValueError(f"options.negative must hold 1 or {len(tokens)} images, got {len(options.negative)}")
            negative = self.embed(options.negative).expand(len(tokens), -1)
        return render(self.pipeline, self.embed(tokens), negative, options, rng).to(self.device)
