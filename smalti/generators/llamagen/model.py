"""LlamaGen's GPT (arXiv 2406.06525; FoundationVision/LlamaGen, MIT).

Shape suffixes: R rows (branches x batch), B batch, T condition tokens, L image tokens, n tokens of a pass, D width,
V codes, p pairs of channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical
from smalti.decoding.schedules import Schedule, raster
from smalti.generators.base import Condition, Generator
from smalti.generators.llamagen.config import LlamaGenConfig
from smalti.nn.cache import KVCache, cache_dtype
from smalti.nn.gpt import Block
from smalti.nn.gpt_condition import CaptionTokens, ClassToken, Prefix
from smalti.nn.rope import grid_rotations, on_device, without_place
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, Segment, TokenLayout, Tokens


@dataclass(eq=False)
class LlamaGenState:
    """Where a generation stands."""

    step: int
    """The token that is predicted next."""
    rows: int
    """Number of branches."""
    feedback: Feedback
    cache: KVCache
    rotations: Tensor
    """complex64 [T + L, p]."""
    pending: Tensor
    """[R, n, D] inputs not yet run: at first the condition and all known tokens, later one token."""
    mask: Tensor | None
    """bool [R, 1, n, n] of the first pass, where captions have padding."""
    bias: Tensor | None
    """[R, 1, 1, T + L]: -inf for padding, added to the logits of attention in every later pass."""


class LlamaGenGenerator(Generator):
    """Predicts one token after the other in raster order, from a class or a caption and all tokens before."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.config, self.classes, self.text_features = config, config.classes, config.text_features
        segment = Segment(shape=(config.side, config.side), vocab=config.vocab)
        self.layout = TokenLayout(segments=(segment,), prefixes=(segment.count,))
        width = config.width
        self.condition = (
            CaptionTokens(config.text_features, width, config.text_tokens)
            if config.text_features
            else ClassToken(config.classes, width)
        )
        self.token_embedding = nn.Embedding(config.vocab, width)
        self.dropout = nn.Dropout(config.dropout)
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(self._block(config, rate) for rate in rates)
        self.norm = nn.RMSNorm(width, eps=config.norm_eps)
        self.head = nn.Linear(width, config.vocab, bias=False)
        cells = grid_rotations(config.side, config.side, width // config.heads, config.rotation_base)
        # A plain attribute: a buffer would be cast with the weights.
        self.rotations = without_place(cells, config.text_tokens if config.text_features else 1)
        self.initialize()

    @staticmethod
    def _block(config: LlamaGenConfig, drop_path: float) -> Block:
        return Block(
            config.width,
            config.heads,
            config.hidden,
            norm_eps=config.norm_eps,
            attention_dropout=config.attention_dropout,
            residual_dropout=config.dropout,
            drop_path=drop_path,
        )

    @torch.no_grad()
    def initialize(self) -> None:
        """Weights to start training from, as the authors': standard deviation 0.02, the head zero."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.head.weight)

    def schedule(self) -> Schedule:
        """One token a step."""
        return raster(self.layout)

    def check_condition(self, condition: Condition) -> None:
        """As for every generator; text features must be as many as the model takes and padded on the left."""
        super().check_condition(condition)
        if condition.text is not None and condition.text_mask is not None and isinstance(self.condition, CaptionTokens):
            self.condition.check(condition.text, condition.text_mask)

    def without(self, condition: Condition, drop_B: Tensor) -> Condition:
        """The condition with that of some images dropped, for training: the mask of a dropped caption stays."""
        if isinstance(self.condition, CaptionTokens) and condition.text is not None:
            return replace(condition, text=self.condition.drop(condition.text, drop_B))
        return replace(condition, classes=torch.where(drop_B, -1, condition.classes))

    def _prefix(self, condition: Condition, branches: Sequence[str] = ("cond",), trim: bool = False) -> Prefix:
        return self.condition(condition.classes, condition.text, condition.text_mask, branches=branches, trim=trim)

    def _rotations(self, count: int, device: torch.device) -> Tensor:
        """complex64 [count + L, p]: of `count` condition tokens and all image tokens."""
        self.rotations = on_device(self.rotations, device)
        return self.rotations[-self.layout.length - count :]

    def logits(self, ids_BL: Tensor, condition: Condition) -> Tensor:
        """Teacher-forced logits float32 [B, L, V] of the first L tokens."""
        return self.logits_of(self.hidden(ids_BL, condition))

    def logits_of(self, h_BnD: Tensor, places: Tensor | None = None) -> Tensor:
        """float32 [B, n, V] from what `hidden` gives, whatever the places of the tokens."""
        return self.head(self.norm(h_BnD)).float()

    def hidden(
        self, ids_BL: Tensor, condition: Condition, *, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, L, D] behind the blocks: entry i predicts token i and has seen the condition and tokens 0..i - 1.

        With `masked` bool [B, L] the inputs of those tokens are the embedding `mask` [D], and every entry sees all
        other inputs, also later ones: for the masked term of `smalti.nn.mixture`.
        """
        prefix = self._prefix(condition)
        count = prefix.tokens_RTD.shape[1]
        fed_BnD = self.token_embedding(ids_BL[:, :-1])
        if masked is not None:
            assert mask is not None
            fed_BnD = torch.where(masked[:, :-1, None], mask.to(fed_BnD.dtype), fed_BnD)
        x_BnD = self.dropout(torch.cat([prefix.tokens_RTD, fed_BnD], dim=1))
        length = x_BnD.shape[1]
        rotations = self._rotations(count, x_BnD.device)[:length]
        seen, causal = _causal(prefix, length) if masked is None else _all(prefix, length), masked is None
        for block in self.blocks:
            x_BnD = block(x_BnD, rotations_np=rotations, mask=seen, causal=causal and seen is None)
        return x_BnD[:, count - 1 :]

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Categorical:
        """Logits of all given tokens, [1, B, L, V]."""
        assert tokens.ids is not None
        return Categorical(self.logits(tokens.ids, condition)[None])

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> LlamaGenState:
        """State before token `start`; the condition and the known tokens before it run in the first pass."""
        prefix = self._prefix(condition, branches, trim=True)
        pending = prefix.tokens_RTD
        count = pending.shape[1]
        if start:
            assert known is not None
            embedded_BnD = self.token_embedding(known[:, :start])
            pending = torch.cat([pending, embedded_BnD.repeat(len(branches), 1, 1)], dim=1)
        return LlamaGenState(
            step=start,
            rows=len(branches),
            feedback=feedback,
            cache=self._cache(pending, count + self.layout.length - 1),
            rotations=self._rotations(count, pending.device),
            pending=pending,
            mask=_causal(prefix, pending.shape[1]),
            bias=prefix.bias(count + self.layout.length),
        )

    def _cache(self, x_RnD: Tensor, length: int) -> KVCache:
        c = self.config
        shape = {"layers": c.depth, "rows": x_RnD.shape[0], "heads": c.heads, "length": length}
        return KVCache(
            **shape, head_dim=c.width // c.heads, dtype=cache_dtype(x_RnD.dtype, x_RnD.device), device=x_RnD.device
        )

    def predict(self, state: LlamaGenState) -> Categorical:
        """Logits [R, B, 1, V] of token `state.step`; everything pending runs in this one pass."""
        x_RnD, begin = state.pending, state.cache.used
        end = begin + x_RnD.shape[1]
        mask, causal = state.mask, begin == 0 and state.mask is None
        if begin and state.bias is not None:
            mask = state.bias[..., :end]
        for i, block in enumerate(self.blocks):
            x_RnD = block(
                x_RnD,
                rotations_np=state.rotations[begin:end],
                mask=mask,
                causal=causal,
                cache=state.cache,
                layer=i,
            )
        state.cache.advance(end - begin)
        state.mask = None
        return Categorical(self.logits_of(x_RnD[:, -1:]).unflatten(0, (state.rows, -1)))

    def unguide(self, state: LlamaGenState) -> bool:
        """Keeps the conditional rows."""
        batch = state.pending.shape[0] // state.rows
        state.rows, state.pending = 1, state.pending[:batch]
        state.mask = state.mask[:batch] if state.mask is not None else None
        state.bias = state.bias[:batch] if state.bias is not None else None
        state.cache.keep_rows(batch)
        return True

    def accept(self, state: LlamaGenState, choice: Choice) -> None:
        """The chosen token becomes the next input."""
        assert choice.ids is not None
        state.feedback.push(state.step, choice)
        state.step += 1
        state.pending = self.token_embedding(choice.ids).repeat(state.rows, 1, 1)


def _causal(prefix: Prefix, length: int) -> Tensor | None:
    """bool [R, 1, length, length]: every token sees itself and what is before it but padding; None without padding."""
    if prefix.seen_RT is None:
        return None
    ones = torch.ones(length, length, dtype=torch.bool, device=prefix.tokens_RTD.device)
    return prefix.hide_padding(ones.tril())


def _all(prefix: Prefix, length: int) -> Tensor | None:
    """bool [R, 1, length, length]: every token sees every other but padding; None without padding."""
    if prefix.seen_RT is None:
        return None
    return prefix.hide_padding(torch.ones(length, length, dtype=torch.bool, device=prefix.tokens_RTD.device))
