"""What LaVIT's tokenizer and its pixel decoder learn (arXiv 2309.04669, equations 4 and 5).

The authors released no training code. Equation 4 and what they say in their repository's issues (10, 29) are followed:
the selector and merger first, without codes (`quantize=False`); then, with the selector frozen, everything else through
the codes, which start from k-means and follow moving averages instead of gradients. The pixel decoder comes last.
Shape suffixes: B batch, N patches, D width, C width of a code, V codes, n kept patches of a batch.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.images import resize_images
from smalti.nn.losses import Losses
from smalti.nn.quantizers.base import nearest_code
from smalti.nn.rendering import draw_noise, noise_sources
from smalti.tokenizers.lavit.dynamic import decide, gumbel_noise
from smalti.tokenizers.lavit.model import LaVITTokenizer


@dataclass(frozen=True, kw_only=True)
class LaVITObjectiveConfig:
    """Weights of the terms, and how the codes move. Values without a source are this project's."""

    quantize: bool = True
    """Decode codes; False = the phase before, which decodes the vectors themselves."""
    keep: float = 1 / 3
    """Share rho of the patches that are kept on average."""
    keep_weight: float = 2.0
    """Weight lambda of the squared distance from that share."""
    temperature: float = 1.0
    """Of the Gumbel-softmax that decides what is kept; the authors' default."""
    commitment: float = 1.0
    """Weight of the pull of the vectors to their codes, as in BEiT v2 (arXiv 2208.06366)."""
    decay: float = 0.99
    """Of the moving average that a code is, per step in which it is used."""
    kmeans: int = 10
    """Rounds of k-means over the first batch that the codes start from; 0 = they start as they are."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1 or not 0 <= self.decay < 1 or self.temperature <= 0:
            raise ValueError(
                f"keep must be in (0, 1], decay in [0, 1) and temperature positive, got {self.keep}, {self.decay}, "
                f"{self.temperature}"
            )


def gumbel_softmax(logp_BN2: Tensor, noise_BN2: Tensor | None, temperature: float) -> Tensor:
    """float [B, N]: 1 for kept patches and 0 for others, with the gradient of softmax((log p + g) / tau).

    Straight-through Gumbel-softmax, arXiv 1611.01144.
    """
    noisy = logp_BN2 if noise_BN2 is None else logp_BN2 + noise_BN2
    soft_BN = (noisy / temperature).softmax(dim=-1)[..., 0]
    return decide(logp_BN2, noise_BN2).float() + soft_BN - soft_BN.detach()


def kmeans(vectors_nC: Tensor, codes_VC: Tensor, rounds: int, rng: RandomGenerator) -> Tensor:
    """Codes [V, C] after `rounds` of k-means over vectors of length 1, from random ones of them.

    Where there are fewer vectors than codes, the other codes stay what they are.
    """
    count = min(len(vectors_nC), len(codes_VC))
    pick = torch.randperm(len(vectors_nC), generator=rng, device=rng.device)[:count].to(vectors_nC.device)
    centers = vectors_nC[pick]
    for _ in range(rounds):
        sums = torch.zeros_like(centers).index_add_(0, nearest_code(vectors_nC, centers), vectors_nC)
        centers = torch.where(sums.abs().sum(dim=1, keepdim=True) > 0, F.normalize(sums, dim=-1), centers)
    return torch.cat([centers, codes_VC[count:]])


class LaVITObjective(nn.Module):
    """Equation 4: mean over patches of 1 - cos(x, x_rec), x the transformer's features, + lambda (rho - mean of M)^2,
    M the decisions to keep; and commitment |z - sg(e)|^2 of the vectors z to their codes e (both of length 1)."""

    def __init__(
        self,
        model: LaVITTokenizer,
        config: LaVITObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        """The networks that other objectives take are not needed: nothing is compared in pixels.

        Errors: ValueError for a decoder that does not predict features of the transformer's width.
        """
        super().__init__()
        if model.config.feature_width != model.config.width:
            raise ValueError(
                f"the decoder must predict features of width {model.config.width}, got feature_width="
                f"{model.config.feature_width}"
            )
        self.model, self.config = model, config
        model.codebook.requires_grad_(False)  # follows moving averages
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""
        self._last: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor, step: int, rng: RandomGenerator) -> Losses:
        """Losses of images [B, 3, H, W] in [0, 1]; `rng` draws the decisions."""
        model, config = self.model, self.config
        with torch.no_grad():
            features_BND = model.features(images).float()
        logp_BN2 = model.selector(features_BND)
        keep_BN = gumbel_softmax(logp_BN2, gumbel_noise(logp_BN2, rng) if self.training else None, config.temperature)
        kept_BN = keep_BN > 0.5
        vectors_nC = model.code_vectors(model.merger(features_BND, keep_BN)[kept_BN])
        if config.kmeans and config.quantize and step == 0 and self.training:
            self._start(vectors_nC.detach(), rng)
        ids_n = nearest_code(vectors_nC.detach(), model.codebook)
        codes_nC = model.codebook[ids_n]
        decoded_nC = vectors_nC + (codes_nC - vectors_nC).detach() if config.quantize else vectors_nC
        lengths_B = kept_BN.sum(dim=1)
        padded_BLC = nn.utils.rnn.pad_sequence(list(decoded_nC.split(lengths_B.tolist())), batch_first=True)
        predicted_BND = model.decoder.features(padded_BLC, lengths_B)
        parts = {
            "reconstruction": 1 - F.cosine_similarity(predicted_BND.float(), features_BND, dim=-1).mean(),
            "keep": (config.keep - keep_BN.mean()).square(),
        }
        total = parts["reconstruction"] + config.keep_weight * parts["keep"]
        if config.quantize:
            parts["commitment"] = F.mse_loss(vectors_nC, codes_nC)
            total = total + config.commitment * parts["commitment"]
            self._last = (vectors_nC.detach(), ids_n)
        parts["kept"] = lengths_B.float().mean() / kept_BN.shape[1]
        parts["usage"] = torch.bincount(ids_n, minlength=len(model.codebook)).bool().float().mean()
        return Losses(total=total, parts={k: v.detach() for k, v in parts.items()})

    @torch.no_grad()
    def _start(self, vectors_nC: Tensor, rng: RandomGenerator) -> None:
        codebook = self.model.codebook
        codes = kmeans(vectors_nC, codebook, self.config.kmeans, rng)
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(codes, 0)
        codebook.copy_(codes)

    @torch.no_grad()
    def after_step(self, step: int, rng: RandomGenerator) -> dict[str, float]:
        """Moves the codes that were used: e <- normalize(decay e + (1 - decay) mean direction of their vectors)."""
        if self._last is None:
            return {}
        (vectors_nC, ids_n), codebook = self._last, self.model.codebook
        sums_VC = torch.zeros_like(codebook).index_add_(0, ids_n, vectors_nC)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums_VC)
        used_V1 = sums_VC.abs().sum(dim=1, keepdim=True) > 0
        decay = self.config.decay
        moved_VC = F.normalize(decay * codebook + (1 - decay) * F.normalize(sums_VC, dim=-1), dim=-1)
        codebook.copy_(torch.where(used_V1, moved_VC, codebook))
        self._last = None
        return {}


@dataclass(frozen=True, kw_only=True)
class LaVITPixelObjectiveConfig:
    """How the pixel decoder learns. Values without a source are this project's."""

    size: int = 512
    """Side of the images, pixels."""
    drop: float = 0.1
    """Share of the images whose context is replaced by that of no image, for guidance."""


class LaVITPixelObjective(nn.Module):
    """Equation 5: mean of |eps - eps_theta(z_t, t, context)|^2, z_t the noisy VAE latents of an image.

    Trains the UNet and the decoder's projections to its context; the rest of the tokenizer and the VAE are frozen.
    """

    def __init__(self, tokenizer: LaVITTokenizer, config: LaVITPixelObjectiveConfig) -> None:
        """The tokenizer's pixel decoder is trained in place."""
        super().__init__()
        self.config, draw = config, tokenizer.pipeline
        tokenizer.requires_grad_(False)
        draw.vae.requires_grad_(False)
        trained = [tokenizer.decoder.to_context] + ([tokenizer.decoder.pool] if tokenizer.decoder.pool else [])
        self.model = nn.ModuleList([draw.unet, *trained]).requires_grad_(True)
        self._frozen = (tokenizer, draw)  # in a tuple: not a part of the trained module
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""

    def forward(self, images: Tensor, step: int, rng: RandomGenerator) -> Losses:
        """Loss of images [B, 3, H, W] in [0, 1] of any size; `rng` draws noise, times and dropped contexts."""
        tokenizer, draw = self._frozen
        size, rows, device = (self.config.size, self.config.size), len(images), draw.unet.device
        with torch.no_grad():
            pixels = resize_images(images, self.config.size).to(device) * 2 - 1
            latents = draw.vae.encode(pixels).latent_dist.mode() * draw.vae.config.scaling_factor
            tokens = tokenizer.encode(resize_images(images, tokenizer.config.image_size, tokenizer.resize))
        noise = draw_noise(noise_sources(rows, rng), latents.shape[1:], latents)
        times = torch.randint(draw.scheduler.config.num_train_timesteps, (rows,), generator=rng, device=rng.device)
        times = times.to(device)
        both = draw.conditions(tokenizer.context(tokens), size, None, null=True)
        dropped = torch.rand(rows, generator=rng, device=rng.device).to(device) < self.config.drop
        row = torch.arange(rows, device=device) + torch.where(dropped, 0, rows)
        predicted = draw.unet(draw.scheduler.add_noise(latents, noise, times), times, **_rows(both, row)).sample
        loss = F.mse_loss(predicted, noise)
        return Losses(total=loss, parts={"denoising": loss.detach()})


def _rows(conditions: dict, row: Tensor) -> dict:
    return {k: _rows(v, row) if isinstance(v, dict) else v[row] for k, v in conditions.items()}
