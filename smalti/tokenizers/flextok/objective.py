"""Training objective of FlexTok (arXiv 2502.13967, section 3): rectified flow, nested dropout, REPA; its autoencoder.

Its authors released no training code. What the paper leaves open is a setting here, with the values of their published
configs as defaults; the warm start by regression is this library's own, for little training.
Shape suffixes: B batch, N registers, P patches, d FSQ dimensions, D feature width, C latent channels, h w latent grid,
H W pixels.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.flextok.model import FlexTokTokenizer

Budgets = Literal["uniform", "pow2", "uniform_pow2"]
Times = Literal["mode", "logit_normal", "stratified_logit_normal"]


@dataclass(frozen=True, kw_only=True)
class FlexTokObjectiveConfig(ReconstructionConfig):
    """Weights of the terms, and what is drawn.

    With `flow` the autoencoder is frozen and the pixel terms compare decoded regression samples; without it the
    autoencoder alone is trained, by the pixel terms and `kl`.
    """

    mse: float = 0.0
    """Weight of the mean squared pixel error."""
    flow: float = 1.0
    """Weight of the rectified-flow loss."""
    kl: float = 0.0
    """Weight of the divergence of the autoencoder's posterior from the standard normal, mean over values."""
    alignment: float = 0.0
    """Weight of REPA (arXiv 2410.06940); needs a feature network."""
    alignment_block: int = 1
    """Index of the decoder block whose patches are aligned."""
    pixel_start: float = 0.0
    """Share of the training after which the pixel terms are on."""
    sample_posterior: bool = True
    """Tokenize samples of the autoencoder's posterior instead of its mode."""
    budgets: Budgets = "uniform_pow2"
    """Kept tokens: 1..N, a power of two, or 1..N rounded up to a power of two."""
    one_budget: bool = False
    """One number of kept tokens per batch (or micro-batch) instead of one per image: shorter sequences."""
    unconditional: float = 0.2
    """Share of the images that the decoder sees no token of, for guidance."""
    times: Times = "mode"
    """Distribution of the time."""
    mode_scale: float = 0.25
    """s of the "mode" distribution; 0 = uniform."""
    regression: float = 0.0
    """Share of the images that are regressed: zeros instead of noise, at t = 1."""
    regression_only: float = 0.0
    """Share of the training in which all images are."""
    unrounded: float = 0.0
    """Share of the images whose codes are not rounded at first; falls to 0 at `unrounded_until`."""
    unrounded_until: float = 0.25
    """Share of the training after which all codes are rounded."""


def draw_times(config: FlexTokObjectiveConfig, batch: int, rng: Generator) -> Tensor:
    """float32 [B] in [0, 1], 1 = noise.

    mode: 1 - u - s (cos^2(pi u / 2) - 1 + u) with u uniform (arXiv 2403.03206, eq. 20 with t reversed);
    logit_normal: sigmoid of a normal number; stratified: one quantile per image of the batch.
    """
    u_B = torch.rand(batch, generator=rng, device=rng.device)
    if config.times == "mode":
        return 1 - u_B - config.mode_scale * ((math.pi / 2 * u_B).cos().square() - 1 + u_B)
    if config.times == "stratified_logit_normal":
        u_B = (torch.arange(batch, device=rng.device) + u_B) / batch
    return torch.sigmoid(torch.special.ndtri(u_B.clamp(1e-6, 1 - 1e-6)))


def draw_budgets(config: FlexTokObjectiveConfig, count: int, batch: int, rng: Generator) -> Tensor:
    """int64 [B]: kept tokens of `count`, as nested dropout draws them (arXiv 1402.0915)."""
    u_B = torch.rand(1 if config.one_budget else batch, generator=rng, device=rng.device)
    if config.budgets == "pow2":
        kept_B = 2 ** (u_B * (count.bit_length())).long().clamp_max(count.bit_length() - 1)
    else:
        kept_B = (u_B * count).long() + 1
        if config.budgets == "uniform_pow2":
            kept_B = 2 ** kept_B.double().log2().ceil().long()
    return kept_B.clamp(1, count).expand(batch)


class FlexTokObjective(ReconstructionObjective):
    """Losses of images [B, 3, H, W] in [0, 1]."""

    def __init__(
        self,
        model: FlexTokTokenizer,
        config: FlexTokObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        features: nn.Module | None = None,
    ) -> None:
        """`features`: images in [0, 1] -> [B, P, F], a frozen vector per decoder patch (REPA: DINOv2-L); has `width` F.

        Errors: ValueError for a weight without the network it needs.
        """
        super().__init__(config, perceptual=perceptual, discriminator=discriminator)
        self.model, self.config = model, config
        self._features = (features,)  # in a tuple: not a part of the trained module
        self.helpers: nn.Module | None = None
        if config.alignment:
            if features is None:
                raise ValueError(
                    f"the objective weighs REPA by {config.alignment}: pass a feature network, or weigh it 0"
                )
            width = model.config.decoder.width
            hidden = (nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
            self.helpers = nn.Sequential(*hidden, nn.Linear(width, int(features.width)))  # type: ignore[arg-type]

    def forward(self, images: Tensor, step: int, rng: Generator) -> Losses:
        """Losses of a batch; every draw comes from `rng`."""
        return self._flow(images, rng) if self.config.flow else self._autoencoder(images, rng)

    def _normal(self, like: Tensor, rng: Generator) -> Tensor:
        return torch.randn(like.shape, generator=rng, device=rng.device).to(like.device)

    # ---- the autoencoder ---------------------------------------------------------------------------------------------

    def _autoencoder(self, images: Tensor, rng: Generator) -> Losses:
        """Pixel terms + kl * mean KL(posterior | normal): stage 0, as the autoencoders of arXiv 2112.10752."""
        vae, target = self.model.vae, images * 2 - 1
        posterior = vae.posterior(target)
        latents = posterior.sample(self._normal(posterior.mean, rng))
        if self.training and vae.config.running_scale:
            vae.observe(latents)
        losses = self.reconstruction(vae.decode(vae.scale(latents)), target)
        kl = posterior.kl().mean()
        parts = {**losses.parts, "kl": kl.detach()}
        return Losses(total=losses.total + self.config.kl * kl, parts=parts, adversarial=losses.adversarial)

    # ---- tokens ------------------------------------------------------------------------------------------------------

    def _flow(self, images: Tensor, rng: Generator) -> Losses:
        """E |v(x_t, t, tokens) - (noise - x_0)|^2 with x_t = t noise + (1 - t) x_0, tokens cut by nested dropout.

        Images that are regressed have x_t = 0 and t = 1, hence the target -x_0.
        """
        config, decoder = self.config, self.model.decoder
        with torch.no_grad():
            latents = self.model.vae.encode(images * 2 - 1, rng=rng if config.sample_posterior else None).float()
        codes, unique = self._codes(latents, rng)
        regressed_B = self._share(len(images), config.regression, rng, latents)
        if self.progress < config.regression_only:
            regressed_B = torch.ones_like(regressed_B)
        t_B = torch.where(regressed_B, 1.0, draw_times(config, len(images), rng).to(latents))
        noise = self._normal(latents, rng) * ~regressed_B[:, None, None, None]
        t_B111 = t_B[:, None, None, None]
        noisy = t_B111 * noise + (1 - t_B111) * latents
        count = self.model.config.registers
        kept_B = draw_budgets(config, count, len(images), rng).to(latents.device)
        # On a GPU all places, which are of one size and need no waiting; on a CPU those that are needed.
        places = min(int(kept_B.max()) + 1, count) if latents.device.type == "cpu" else count
        null_B = self._share(len(images), config.unconditional, rng, latents) & ~regressed_B
        condition = decoder.condition(codes, kept_B, null_B, places=places)
        velocity, early = decoder.watch(noisy, condition, decoder.modulate(t_B), config.alignment_block)
        errors_B = (velocity.float() - (noise - latents)).square().mean((1, 2, 3))
        total = config.flow * errors_B.mean()
        parts = {
            "flow": _mean(errors_B, ~regressed_B),
            "regression": _mean(errors_B, regressed_B),
            "codes": unique,
        }
        if config.alignment:
            aligned = self._alignment(images, early)
            parts["alignment"], total = aligned.detach(), total + config.alignment * aligned
        adversarial = None
        if (config.l1 or config.mse or config.perceptual) and self.progress >= config.pixel_start:
            pixels = self._pixels(images, -velocity.float(), regressed_B)
            total, adversarial = total + pixels.total, pixels.adversarial
            parts |= pixels.parts
        return Losses(total=total, parts={k: v.detach() for k, v in parts.items()}, adversarial=adversarial)

    def _share(self, batch: int, share: float, rng: Generator, like: Tensor) -> Tensor:
        """bool [B]: each True with this probability."""
        return (torch.rand(batch, generator=rng, device=rng.device) < share).to(like.device)

    def _codes(self, latents: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        """Codes [B, N, d] with gradients, some not rounded at first; and how many different ids the batch has."""
        z = self.model.encoder(latents)
        codes, ids = self.model.quantizer(z)[:2]
        fading = max(0.0, 1 - self.progress / self.config.unrounded_until) if self.config.unrounded_until else 0.0
        share = self.config.unrounded * fading
        if self.training and share:
            soft_B = self._share(len(z), share, rng, z)
            codes = torch.where(soft_B[:, None, None], self.model.quantizer.unrounded(z), codes)
        in_order = ids.flatten().sort().values
        return codes, (in_order.diff() != 0).sum() + 1.0

    def _alignment(self, images: Tensor, early_BPD: Tensor) -> Tensor:
        """REPA: minus the mean cosine of image features and what an MLP makes of an early block's patches."""
        assert self._features[0] is not None and self.helpers is not None
        with torch.no_grad():
            wanted = self._features[0](images)
        return -F.cosine_similarity(self.helpers(early_BPD).float(), wanted.float(), dim=-1).mean()

    def _pixels(self, images: Tensor, latents: Tensor, regressed_B: Tensor) -> Losses:
        """Pixel terms of the regressed images, through the frozen autoencoder."""
        rows = regressed_B.nonzero()[:, 0]
        if not len(rows):
            return Losses(total=latents.sum() * 0)
        return self.reconstruction(self.model.vae.decode(latents[rows]), images[rows] * 2 - 1)


def _mean(values_B: Tensor, which_B: Tensor) -> Tensor:
    """Mean of some; not a number if there are none, which the log leaves out."""
    return (values_B * which_B).sum() / which_B.sum()
