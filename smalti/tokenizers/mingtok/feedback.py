"""What Ming-UniVision (arXiv 2510.06590) is fed: the semantic feature of every token it has chosen.

Shape suffixes: B batch, n new tokens, L all tokens, C latent channels, D width of the semantic decoder.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from smalti.nn.cache import KVCache
from smalti.tokenizers.mingtok.config import HEAD_WIDTH
from smalti.tokens import Choice

if TYPE_CHECKING:
    from smalti.tokenizers.mingtok.model import MingTok


class SemanticFeedback:
    """The causal semantic decoder, run token after token with a key-value cache; equals one pass over the whole.

    A step is one token in raster order, of an image of the default size.
    """

    def __init__(self, tokenizer: "MingTok", batch: int) -> None:
        config = tokenizer.config
        self.tokenizer, self.length, self.steps = tokenizer, config.grid**2, 0
        self.cache = KVCache(
            layers=config.semantic_depth,
            rows=batch,
            heads=config.semantic_width // HEAD_WIDTH,
            length=self.length,
            head_dim=HEAD_WIDTH,
            dtype=next(tokenizer.parameters()).dtype,
            device=tokenizer.device,
        )
        self._features = torch.zeros(batch, self.length, config.semantic_width, device=tokenizer.device)

    def push(self, step: int, choice: Choice) -> Tensor:
        """Semantic features [B, n, D] of the latents [B, n, C] chosen at positions step .. step + n - 1."""
        assert choice.latents is not None and step == self.steps, "tokens are pushed in order, as latents"
        count = choice.latents.shape[1]
        with torch.no_grad():
            features_BnD = self.tokenizer.semantic(self.tokenizer.denormalize(choice.latents), self.cache)
        self._features[:, step : step + count] = features_BnD
        self.steps += count
        return features_BnD

    def push_prefix(self, ids: Tensor, steps: int) -> Tensor | None:
        """Consumes latents float [B, >= steps, C] up to `steps` in one pass; returns `history`."""
        if steps > self.steps:
            self.push(self.steps, Choice(latents=ids[:, self.steps : steps]))
        return self.history()

    def renew(self, ids: Tensor, aim: Tensor | None) -> Tensor:
        """The same latents: none depends on another."""
        return ids

    def reached(self) -> None:
        """Nothing."""

    def history(self) -> Tensor | None:
        """Semantic features of all tokens so far, [B, steps, D]."""
        return self._features[:, : self.steps] if self.steps else None

    def latents(self) -> Tensor | None:
        """The semantic features [B, L, D] of a complete image: to be decoded without computing them again."""
        return self._features if self.steps == self.length else None
