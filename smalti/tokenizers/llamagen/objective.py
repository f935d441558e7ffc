"""Training objective of LlamaGen's VQGAN (arXiv 2406.06525, section 2.1).

Shape suffixes: B batch, C code channels, h w token grid, N vectors, V codes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smalti.nn.losses import Losses
from smalti.nn.quantizers.lfq import LFQ
from smalti.nn.quantizers.vq import VectorQuantizer
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective
from smalti.tokenizers.llamagen.model import LlamaGenTokenizer


@dataclass(frozen=True, kw_only=True)
class LlamaGenTokenizerObjectiveConfig(ReconstructionConfig):
    """Weights of the terms. The authors: mse 1, perceptual 1, adversarial 0.5 from step 20,000 of 400,000 (0.05)."""

    quantization: float = 1.0
    """Weight of the codebook and commitment losses."""
    entropy: float = 0.0
    """Weight of the entropy loss, which spreads the use of the codes; the authors train without it. LFQ and BSQ need
    it; FSQ and residual quantizers have none."""
    temperature: float = 0.01
    """Of the soft assignments to a codebook that the entropy loss looks at."""
    revive_every: int = 0
    """Steps between revivals of codes that are not among the last `remembered` ones; 0 = never."""


def entropy_loss(quantizer: VectorQuantizer, z_BhwC: Tensor, temperature: float) -> Tensor:
    """E[H(p)] - H(E[p]) with p = softmax(-d / temperature) over the squared distances d to all codes.

    Low if every vector is sure of its code and all codes are used (arXiv 2310.05737, eq. 5). In the entropy of the
    mean, 1e-5 is added inside the logarithm, as the authors do.
    """
    z_NC, codes_VC = quantizer.unit(z_BhwC).flatten(0, 2), quantizer.unit(quantizer.codebook)
    d_NV = z_NC.square().sum(-1, keepdim=True) + codes_VC.square().sum(-1) - 2 * z_NC @ codes_VC.T
    log_p_NV = (-d_NV / temperature).log_softmax(-1)
    p_NV = log_p_NV.exp()
    mean_V = p_NV.mean(0)
    return (mean_V * (mean_V + 1e-5).log()).sum() - (p_NV * log_p_NV).sum(-1).mean()


class LlamaGenTokenizerObjective(ReconstructionObjective):
    """Reconstruction, codebook, commitment, and optionally entropy, LPIPS and adversarial terms; images in [0, 1]."""

    def __init__(
        self,
        model: LlamaGenTokenizer,
        config: LlamaGenTokenizerObjectiveConfig,
        *,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        """Errors: ValueError for a term that this model's quantizer does not have, or that needs a network."""
        super().__init__(config, perceptual=perceptual, discriminator=discriminator)
        quantizer = model.quantizer
        if config.entropy and not isinstance(quantizer, (VectorQuantizer, LFQ)):
            raise ValueError(f"a {type(quantizer).__name__} has no entropy loss: set entropy=0")
        if config.revive_every and not (isinstance(quantizer, VectorQuantizer) and len(quantizer.recent)):
            raise ValueError("only a codebook that remembers its use can be revived: set revive_every=0")
        self.model, self.config = model, config
        self._vectors: Tensor | None = None

    def forward(self, images: Tensor, step: int, rng: torch.Generator) -> Losses:
        """Losses of a batch [B, 3, H, W]; nothing is drawn from `rng`."""
        config, quantizer = self.config, self.model.quantizer
        z_BhwC = self.model.features(images)
        q = quantizer(z_BhwC)
        losses = self.reconstruction(self.model.decode_latents(q.codes) * 2 - 1, images * 2 - 1)
        parts = {"codebook": q.codebook, "commitment": self.model.config.commitment * q.commitment}
        total = losses.total + config.quantization * (parts["codebook"] + parts["commitment"])
        if config.entropy:
            entropy = q.entropy
            if isinstance(quantizer, VectorQuantizer):
                with torch.autocast(images.device.type, enabled=False):
                    entropy = entropy_loss(quantizer, z_BhwC, config.temperature)
            parts["entropy"] = config.entropy * entropy
            total = total + parts["entropy"]
        if self.training and isinstance(quantizer, VectorQuantizer) and len(quantizer.recent):
            parts["usage"] = quantizer.remember(q.ids)
            self._vectors = z_BhwC.detach() if config.revive_every else None
        parts = {**losses.parts, **{k: v.detach() for k, v in parts.items()}}
        return Losses(total=total, parts=parts, adversarial=losses.adversarial)

    def after_step(self, step: int, rng: torch.Generator) -> dict[str, float]:
        """Replaces dead codes by vectors of the last batch; returns how many, to log."""
        quantizer, due = self.model.quantizer, self.config.revive_every
        if not due or (step + 1) % due or self._vectors is None:
            return {}
        assert isinstance(quantizer, VectorQuantizer)
        return {"revived": float(quantizer.revive(self._vectors, rng))}
