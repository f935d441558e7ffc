"""Training objective of SEED's codebook, the second stage of its training (arXiv 2310.01218).

Terms and weights are those of the authors' training code. Shape suffixes: B batch, H W pixels, q tokens, D width,
C code channels, E image embedding.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.quantizers.base import nearest_code
from smalti.tokenizers.seed.model import SEEDTokenizer
from smalti.tokenizers.seed.unclip import CLIPEmbedding


@dataclass(frozen=True, kw_only=True)
class SEEDTokenizerObjectiveConfig:
    """Weights of the terms."""

    quantization: float = 5.0
    """Weight of the quantization loss."""
    codebook: float = 0.25
    """Weight of the codes' share in it. Kept: the authors' code weighs the codes, not the commitment, by beta."""
    restoration: float = 2.0
    """Weight of the cosine distance to the Q-Former's output."""
    embedding: float = 0.5
    """Weight of the squared error of the image embedding."""


def quantization_loss(z_BqC: Tensor, codes_BqC: Tensor, codebook: float) -> Tensor:
    """mean (z - sg[e])^2 + beta mean (sg[z] - e)^2, with e the code of z and beta = `codebook`."""
    return F.mse_loss(z_BqC, codes_BqC.detach()) + codebook * F.mse_loss(codes_BqC, z_BqC.detach())


class SEEDTokenizerObjective(nn.Module):
    """Quantization, restoration of the Q-Former's output, and the image embedding; images [B, 3, H, W] in [0, 1].

    The vision transformer and the Q-Former are frozen; their output f is what the codes are made of.
    """

    def __init__(
        self,
        model: SEEDTokenizer,
        config: SEEDTokenizerObjectiveConfig,
        *,
        target: nn.Module | None = None,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        """`target`: images in [0, 1] -> embeddings [B, E]; by default the CLIP of the model's unCLIP pipeline.

        Networks for pixel losses are taken as every objective takes them, and not used.
        Errors: ValueError for a weight without the head it needs, OSError if there is no CLIP to load.
        """
        super().__init__()
        if config.restoration and model.restore is None:
            raise ValueError(
                f"the objective weighs the restoration by {config.restoration}, for which this model has no head: set "
                "restores=True in its config, or restoration=0"
            )
        self.model, self.config = model, config
        for part in (model.vit, model.vit_norm, model.qformer):
            part.requires_grad_(False)
        model.queries.requires_grad_(False)
        if config.embedding and target is None:
            target = CLIPEmbedding(model.config.pixels).to(model.device)
        self._target = (target,)  # in a tuple: no part of the trained module
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""
        self.train(model.training)

    def train(self, mode: bool = True) -> "SEEDTokenizerObjective":
        """The frozen Q-Former stays in evaluation mode, without dropout."""
        super().train(mode)
        self.model.qformer.eval()
        return self

    def forward(self, images: Tensor, step: int, rng: Generator) -> Losses:
        """Losses of a batch: L = 5 L_quantization + 2 L_restoration + 0.5 L_embedding, with the default weights.

        L_restoration = mean (1 - cos(restored, f)); L_embedding = mean (embedding - CLIP's)^2.
        """
        model, config = self.model, self.config
        with torch.no_grad():
            f_BqD = model.features(images)
        z_BqC = model.to_code(f_BqD).float()
        ids_Bq = nearest_code(z_BqC.detach(), model.codebook)
        codes_BqC = F.embedding(ids_Bq, model.codebook).float()
        parts = {"quantization": quantization_loss(z_BqC, codes_BqC, config.codebook)}
        total = config.quantization * parts["quantization"]
        up_BqD = model.from_code(z_BqC + (codes_BqC - z_BqC).detach())  # straight through
        if config.restoration:
            assert model.restore is not None
            cosine_Bq = F.cosine_similarity(model.restore(up_BqD).float(), f_BqD.float(), dim=-1)
            parts["restoration"] = (1 - cosine_Bq).mean()
            total = total + config.restoration * parts["restoration"]
        target = self._target[0]
        if config.embedding and target is not None:
            with torch.no_grad():
                wanted_BE = target(images).float()
            parts["embedding"] = F.mse_loss(model.head(model.decoder(up_BqD)).float(), wanted_BE)
            total = total + config.embedding * parts["embedding"]
        parts["usage"] = total.new_tensor(len(ids_Bq.unique()) / model.config.vocab)
        return Losses(total=total, parts={k: v.detach() for k, v in parts.items()})
