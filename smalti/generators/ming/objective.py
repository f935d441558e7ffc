"""Training objective of Ming-UniVision: rectified flow of every token (arXiv 2209.03003, 2510.06590).

The authors released no training code: the shares of dropped conditions are settings here, and there is no loss that
balances the experts.
Shape suffixes: B batch, T ids of the prompt, L tokens, C latent channels, W width of the flow head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.ming.head import FlowHead
from smalti.generators.ming.model import MingGenerator
from smalti.generators.ming.prompt import Prompt
from smalti.nn.losses import Losses
from smalti.tokenizers.base import Tokenizer


def flow_matching(head: FlowHead, latents: Tensor, condition: Tensor, rng: torch.Generator) -> Tensor:
    """Mean squared error of the velocity at a random time: E |net(x_t, t, z) - (data - noise)|^2.

    x_t = (1 - t) noise + t data with t uniform, for latents float [B, L, C] under conditions [B, L, W].
    """
    noise = torch.randn(latents.shape, generator=rng, device=rng.device).to(latents.device)
    times_BL = torch.rand(latents.shape[:2], generator=rng, device=rng.device).to(latents.device)
    t = times_BL[..., None]
    return F.mse_loss(head((1 - t) * noise + t * latents, times_BL, condition), latents - noise)


@dataclass(frozen=True, kw_only=True)
class MingObjectiveConfig:
    """What is dropped of the condition."""

    condition_dropout: float = 0.0
    """Share of the batch whose tokens see of the prompt what the branch "null" sees."""
    text_dropout: float = 0.0
    """Share of the batch whose tokens see what the branch "text_null" sees."""

    def __post_init__(self) -> None:
        shares = (self.condition_dropout, self.text_dropout)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(f"condition_dropout and text_dropout are shares that sum to at most 1, got {shares}")


class MingObjective(nn.Module):
    """Flow matching of all tokens at once."""

    def __init__(self, model: MingGenerator, tokenizer: Tokenizer, config: MingObjectiveConfig) -> None:
        """`tokenizer` makes the features the model is fed; it stays frozen."""
        super().__init__()
        self.model, self.config = model, config
        self._frozen = (tokenizer,)  # in a tuple: not a part of the trained module
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""

    def forward(self, batch: tuple[Tensor, Condition], step: int, rng: torch.Generator) -> Losses:
        """Losses of (latents float [B, L, C], condition); `rng` draws noise, times and dropped conditions."""
        latents_BLC, condition = batch
        prompt = Prompt.of(condition)
        seen_BT = self._seen(prompt, rng) if self.training else None
        condition_BLW = self.model.hidden(self.features(latents_BLC), prompt, seen_BT)
        loss = flow_matching(self.model.head, latents_BLC, condition_BLW, rng)
        return Losses(total=loss, parts={"flow_matching": loss.detach()})

    @torch.no_grad()
    def features(self, latents_BLC: Tensor) -> Tensor:
        """[B, L - 1, D]: what the model is fed, in float32."""
        (tokenizer,) = self._frozen
        with torch.autocast(latents_BLC.device.type, enabled=False):
            features = tokenizer.feedback(len(latents_BLC)).push_prefix(latents_BLC, latents_BLC.shape[1] - 1)
        if features is None:
            return latents_BLC.new_zeros(len(latents_BLC), 0, self.model.config.semantic_width)
        return features

    def _seen(self, prompt: Prompt, rng: torch.Generator) -> Tensor:
        """bool [B, T]: what the tokens see of the prompt."""
        draw_B1 = torch.rand(len(prompt), 1, generator=rng, device=rng.device).to(prompt.classes.device)
        null, both = self.config.condition_dropout, self.config.condition_dropout + self.config.text_dropout
        seen = torch.where(draw_B1 < both, prompt.seen("text_null"), prompt.seen("cond"))
        return torch.where(draw_B1 < null, prompt.seen("null"), seen)
