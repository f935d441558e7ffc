"""Training objectives of TiTok (arXiv 2406.07550, section 3.3; single stage: arXiv 2501.07730, section 3.1).

Shape suffixes: B batch, H W pixels, h w patch grid, n patches, K tokens, C latent channels, N vectors, V codes,
T rows of text, F text features.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.base import Tokenizer
from smalti.tokenizers.titok.model import TiTok


@dataclass(frozen=True, kw_only=True)
class TiTokObjectiveConfig(ReconstructionConfig):
    """Weights of the terms; `STAGES` has the published ones."""

    mse: float = 0.25
    """Weight of the mean squared pixel error, pixels in [-1, 1]; 0.25 is the authors' 1 for pixels in [0, 1]."""
    quantization: float = 1.0
    """Weight of the codebook and commitment losses, for models with a codebook."""
    kl: float = 1e-6
    """Weight of the KL divergence from a standard normal, for models with latents."""
    proxy: float = 0.0
    """Weight of naming the codes of MaskGIT's VQGAN (first stage of legacy models); needs those codes."""
    lecam: float = 0.0
    """Weight of the LeCam regularization of the discriminator."""
    clustering: bool = False
    """Move codes that are rarely used to the features of the batch (TA-TiTok)."""


STAGES = {
    "proxy": TiTokObjectiveConfig(mse=0, proxy=1),
    "decoder": TiTokObjectiveConfig(
        perceptual=0.1, adversarial=0.01, adversarial_start=0.04, lecam=0.001, quantization=0
    ),
    "single": TiTokObjectiveConfig(perceptual=1.1, adversarial=0.1, adversarial_start=200 / 650, lecam=0.001),
}
"""The authors' weights. Two-stage models: first "proxy", all parts but the pixel decoder; then "decoder", on pixels,
encoder and quantizer frozen. "single": VQ and KL models, with `clustering` for TA-TiTok's codebooks. Their perceptual
networks are ConvNeXt-S ("decoder"), and LPIPS + 0.1 ConvNeXt-S, over 1.1 ("single")."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TiTokBatch:
    """A batch with more than images."""

    images: Tensor
    """float [B, 3, H, W] in [0, 1]."""
    text: Tensor | None = None
    """float [B, T, F]: text features for TA-TiTok; without them the decoder reads no text."""
    codes: Tensor | None = None
    """int64 [B, n]: codes of the VQGAN, where they were computed before."""


def kl_divergence(mean_BKC: Tensor, logvar_BKC: Tensor) -> Tensor:
    """KL(N(mean, var) || N(0, 1)) of every token, [B, K]: 0.5 sum over channels of mean^2 + var - 1 - log var."""
    return 0.5 * (mean_BKC.square() + logvar_BKC.exp() - 1 - logvar_BKC).sum(-1)


class TiTokObjective(ReconstructionObjective):
    """Reconstruction or proxy codes, and the bottleneck's own loss; batches are images [B, 3, H, W] or a TiTokBatch."""

    usage: Tensor
    lecam_real: Tensor
    lecam_fake: Tensor

    def __init__(
        self,
        model: TiTok,
        config: TiTokObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        proxy: Tokenizer | None = None,
    ) -> None:
        """`proxy`: the tokenizer whose codes a legacy model names, for batches that come without them.

        Errors: ValueError for a term that this model cannot have, or that needs a network.
        """
        super().__init__(config, perceptual=perceptual, discriminator=discriminator)
        if config.proxy and not model.config.legacy:
            raise ValueError("only legacy models name codes of a VQGAN: set proxy=0")
        if config.clustering and model.config.vocab is None:
            raise ValueError("a model with latents has no codebook to cluster: set clustering=False")
        self.model, self.config = model, config
        self._proxy = (proxy,)  # in a tuple: not a part of the trained module
        self._vectors: Tensor | None = None
        if config.clustering:
            self.register_buffer("usage", torch.zeros(len(model.quantizer.codebook)))
        if config.lecam:
            self.register_buffer("lecam_real", torch.zeros(()))
            self.register_buffer("lecam_fake", torch.zeros(()))

    def forward(self, batch: Tensor | TiTokBatch, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch; `rng` draws the latents of KL models."""
        config, model = self.config, self.model
        if isinstance(batch, Tensor):
            batch = TiTokBatch(images=batch)
        latents_BKC, total, parts = self._bottleneck(batch.images, rng)
        predicted = model.decoder(latents_BKC, batch.text)
        adversarial = None
        if config.proxy:
            parts["proxy"] = F.cross_entropy(predicted.float().flatten(2), self._codes(batch))
            total = total + config.proxy * parts["proxy"]
        if config.l1 or config.mse or config.perceptual or config.adversarial:
            losses = self.reconstruction(model.render(predicted).float() * 2 - 1, batch.images * 2 - 1)
            parts |= losses.parts
            total, adversarial = total + losses.total, losses.adversarial
        return Losses(total=total, parts={k: v.detach() for k, v in parts.items()}, adversarial=adversarial)

    def _bottleneck(self, images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What the decoder gets, with the gradient of the features, and the weighted loss of the bottleneck.

        Codebook: mean (e - sg[z])^2 + beta mean (sg[e] - z)^2. Latents: KL divergence, summed over tokens.
        """
        config, model = self.config, self.model
        if model.config.vocab is None:
            mean_BKC, logvar_BKC = model.posterior(images)
            noise_BKC = torch.randn(mean_BKC.shape, generator=rng, device=rng.device).to(images.device)
            parts = {"kl": kl_divergence(mean_BKC, logvar_BKC).sum(1).mean()}
            return mean_BKC + (logvar_BKC / 2).exp() * noise_BKC, config.kl * parts["kl"], parts
        z_BKC = model.features(images)
        q = model.quantizer(z_BKC)
        if self.training and config.clustering:
            self._vectors = z_BKC.detach().float().flatten(0, 1)
        commitment = model.config.commitment * q.commitment
        parts = {"commitment": commitment, "quantization": q.codebook + commitment}
        return q.codes, config.quantization * parts["quantization"], parts

    @torch.no_grad()
    def _codes(self, batch: TiTokBatch) -> Tensor:
        proxy = self._proxy[0]
        if batch.codes is None and proxy is None:
            raise ValueError("the proxy term needs the VQGAN's codes: give them with the batch, or pass proxy=")
        if batch.codes is not None:
            return batch.codes
        assert proxy is not None
        ids = proxy.encode(batch.images).ids
        assert ids is not None
        return ids

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Hinge loss plus LeCam (arXiv 2104.03310, eq. 6): relu(D(x) - a_fake)^2 + relu(a_real - D(rec))^2.

        D(.) are means over the batch, as the authors take them, and a their running means.
        """
        loss = super().discriminator_loss(real, fake)
        if not self.config.lecam:
            return loss
        real_mean, fake_mean = real.mean(), fake.mean()
        distance = F.relu(real_mean - self.lecam_fake).square() + F.relu(self.lecam_real - fake_mean).square()
        if self.training:
            self.lecam_real = self.lecam_real.lerp(real_mean.detach().float(), 0.001)
            self.lecam_fake = self.lecam_fake.lerp(fake_mean.detach().float(), 0.001)
        return loss + self.config.lecam * distance

    @torch.no_grad()
    def after_step(self, step: int, rng: torch.Generator) -> dict[str, float]:
        """Clustering (CVQ-VAE, arXiv 2307.15139, eqs. 4 to 6), after every step; nothing to log.

        With the running share p of a code among V, e <- (1 - a) e + a z, z the vector of the batch nearest to it and
        a = exp(-10 p V / (1 - decay) - 0.001): close to 1 for a dead code, 0 for one in use.
        """
        if self._vectors is None:
            return {}
        quantizer, z_NC, decay = self.model.quantizer, self._vectors, 0.99
        vocab = len(quantizer.codebook)
        share_V = torch.bincount(quantizer.nearest(z_NC), minlength=vocab) / len(z_NC)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(share_V)
            share_V = share_V / torch.distributed.get_world_size()
        self.usage.lerp_(share_V, 1 - decay)
        unit_NC = quantizer.unit(z_NC)
        near_V = (unit_NC.square().sum(-1) - 2 * quantizer.unit(quantizer.codebook) @ unit_NC.T).argmin(-1)
        pull_V = (-10 * vocab * self.usage / (1 - decay) - 1e-3).exp()
        quantizer.codebook.lerp_(z_NC[near_V].to(quantizer.codebook), pull_V[:, None].to(quantizer.codebook))
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(quantizer.codebook.data, 0)
        return {}
