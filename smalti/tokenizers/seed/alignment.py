"""Training objective of SEED's causal Q-Former, the first stage of its training (arXiv 2310.01218).

The last query, which has seen all others, is drawn to the caption of its image. Shape suffixes: B batch, H W pixels,
L words, q queries, D width, E channels of the common space.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch import distributed as dist

from smalti.nn.losses import Losses
from smalti.tokenizers.seed.config import SEEDTokenizerConfig
from smalti.tokenizers.seed.model import SEEDTokenizer
from smalti.tokenizers.seed.qformer import PostNormMlp, QFormer


@dataclass(frozen=True, kw_only=True)
class SEEDAlignmentObjectiveConfig:
    """The contrastive loss and its text half."""

    channels: int = 256
    """Width of the space in which images and captions are compared."""
    temperature: float = 0.07
    """At the start; learned."""
    smoothing: float = 0.1
    """Label smoothing."""
    words: int = 30523
    """Vocabulary of the text half: that of bert-base-uncased and one more token."""
    positions: int = 512
    """Longest caption, words."""


class TextHalf(nn.Module):
    """The half of a Q-Former that reads captions, with the self-attention of the queries; images do not need it."""

    def __init__(self, config: SEEDTokenizerConfig, *, words: int, positions: int) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(words, config.width), nn.Embedding(positions, config.width)
        self.feed_forwards = nn.ModuleList(
            PostNormMlp(config.width, config.mlp_width, eps=config.norm_eps, dropout=config.dropout)
            for _ in range(config.depth)
        )

    def forward(self, qformer: QFormer, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Feature [B, D] of the first word ([CLS]); `mask_BL` bool, True where there is a word."""
        x_BLD = qformer.norm(self.words(ids_BL) + self.positions.weight[: ids_BL.shape[1]])
        x_BLD = F.dropout(x_BLD, qformer.dropout, self.training)
        for layer, feed_forward in zip(qformer.layers, self.feed_forwards, strict=True):
            x_BLD = feed_forward(layer.attention(x_BLD, mask=mask_BL[:, None, None]))  # type: ignore[operator]
        return x_BLD[:, 0]


def contrastive_loss(image_BE: Tensor, text_BE: Tensor, temperature: Tensor, smoothing: float) -> Tensor:
    """(CE(i t^T / T) + CE(t i^T / T)) / 2 over the pairs of all processes; those of others get no gradient."""
    first = dist.get_rank() * len(image_BE) if dist.is_initialized() else 0
    target_B = torch.arange(len(image_BE), device=image_BE.device) + first
    rows = (image_BE @ _gathered(text_BE).T, text_BE @ _gathered(image_BE).T)
    losses = [F.cross_entropy(row / temperature, target_B, label_smoothing=smoothing) for row in rows]
    return (losses[0] + losses[1]) / 2


def _gathered(x_BE: Tensor) -> Tensor:
    """Rows of all processes."""
    if not dist.is_initialized():
        return x_BE
    parts = [torch.empty_like(x_BE) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x_BE.detach().contiguous())
    parts[dist.get_rank()] = x_BE
    return torch.cat(parts)


class SEEDAlignmentObjective(nn.Module):
    """Contrastive loss of images and captions.

    Trained are the Q-Former, its queries, the norm of the image features, and what the loss adds.
    """

    def __init__(self, model: SEEDTokenizer, config: SEEDAlignmentObjectiveConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        model.requires_grad_(False)
        for part in (model.vit_norm, model.qformer):
            part.requires_grad_(True)
        model.queries.requires_grad_(True)
        width = model.config.width
        self.text = TextHalf(model.config, words=config.words, positions=config.positions)
        self.image_proj, self.text_proj = nn.Linear(width, config.channels), nn.Linear(width, config.channels)
        self.temperature = nn.Parameter(torch.tensor(config.temperature))

    def forward(self, batch: tuple[Tensor, Tensor, Tensor], step: int, rng: Generator) -> Losses:
        """`batch`: images [B, 3, H, W] in [0, 1], word ids int64 [B, L], and a mask bool [B, L] of the words."""
        images, ids_BL, mask_BL = batch
        last_BD = self.model.features(images)[:, -1]
        image_BE = F.normalize(self.image_proj(last_BD), dim=-1)
        text_BE = F.normalize(self.text_proj(self.text(self.model.qformer, ids_BL, mask_BL)), dim=-1)
        loss = contrastive_loss(image_BE, text_BE, self.temperature, self.config.smoothing)
        return Losses(total=loss, parts={"contrastive": loss.detach(), "temperature": self.temperature.detach()})
