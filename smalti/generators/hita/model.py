"""Hita's transformer over two streams of tokens (arXiv 2507.02358; CVMI-Lab/Hita, MIT).

One causal sequence: the class, the holistic tokens, the patch tokens; row p of its input predicts token p. Rows of the
first stream get their place as a learned vector added to queries and keys, those of the second by rotation. The row
between them, fed with the last holistic token, has no place at all: its queries and keys are zero.

Shape suffixes: R rows (branches x batch), B batch, L or n tokens, D width, p pairs of channels of a head, V codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical
from smalti.decoding.schedules import Schedule, raster
from smalti.generators.base import Condition, Generator
from smalti.generators.hita.config import HitaConfig, Quirks
from smalti.nn.cache import KVCache, cache_dtype
from smalti.nn.gpt import Block
from smalti.nn.gpt_condition import ClassToken
from smalti.nn.rope import grid_rotations, on_device, without_place
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, Segment, TokenLayout, Tokens


@dataclass(eq=False)
class HitaState:
    """Where a generation stands."""

    step: int
    """The token that is predicted next."""
    rows: int
    """Number of branches."""
    cache: KVCache
    rotations: Tensor
    """complex64 [side^2 + 1, p], on the device of the weights."""
    pending: Tensor
    """[R, n, D] inputs not yet run: that of the step, after a jump also of all steps before it."""


class HitaGenerator(Generator):
    """Predicts the tokens of the whole image one by one, then those of its patches in raster order."""

    def __init__(self, config: HitaConfig) -> None:
        super().__init__()
        self.config, self.classes = config, config.classes
        width, vocab = config.width, config.vocab
        segments = (
            Segment(shape=(config.holistic_tokens,), vocab=vocab, name="holistic"),
            Segment(shape=(config.side, config.side), vocab=vocab, name="patches"),
        )
        self.layout = TokenLayout(segments=segments, prefixes=(config.length,))
        self.condition = ClassToken(config.classes, width)
        self.holistic_embedding, self.patch_embedding = nn.Embedding(vocab, width), nn.Embedding(vocab, width)
        self.holistic_positions = nn.Parameter(torch.empty(config.holistic_tokens, width))
        self.dropout = nn.Dropout(config.token_dropout)
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        shape = {"norm_eps": config.norm_eps, "residual_dropout": config.dropout}
        self.blocks = nn.ModuleList(Block(width, config.heads, config.hidden, drop_path=r, **shape) for r in rates)
        self.norm = nn.RMSNorm(width, eps=config.norm_eps)
        self.holistic_head = nn.Linear(width, vocab, bias=False)
        self.patch_head = nn.Linear(width, vocab, bias=False)
        # A plain attribute: a buffer would be cast with the weights.
        cells = grid_rotations(config.side, config.side, width // config.heads, config.rotation_base)
        self.rotations = without_place(cells, 1)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Weights to start training from: normal with deviation 0.02; the heads start at zero."""
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)
        nn.init.zeros_(self.holistic_head.weight)
        nn.init.zeros_(self.patch_head.weight)

    def schedule(self) -> Schedule:
        """One token after the other."""
        return raster(self.layout)

    def _rotations(self, device: torch.device) -> Tensor:
        self.rotations = on_device(self.rotations, device)
        return self.rotations

    def _embed(self, ids_Bn: Tensor, first: int, quirks: Quirks) -> Tensor:
        """[B, n, D]: inputs made of the tokens from position `first` on.

        Kept with quirks "authors": their sampler looks the last holistic token up in the table of the patches, which
        their training does not.
        """
        cut = self.config.holistic_tokens - first - (quirks == "authors")
        if cut <= 0:
            return self.patch_embedding(ids_Bn)
        if cut >= ids_Bn.shape[1]:
            return self.holistic_embedding(ids_Bn)
        return torch.cat([self.holistic_embedding(ids_Bn[:, :cut]), self.patch_embedding(ids_Bn[:, cut:])], dim=1)

    def _places(self, first: int, end: int, rotations: Tensor) -> dict[str, Tensor]:
        """Arguments of a block that place the rows `first` to `end` - 1."""
        count, positions = self.config.holistic_tokens, self.holistic_positions
        if end <= count:
            return {"offset_nD": positions[first:end]}
        if first >= count:
            return {"rotations_np": rotations[first - count : end - count]}
        added = torch.cat([positions[first:], positions.new_zeros(end - count, positions.shape[1])])
        unturned = rotations.new_ones(count - first, rotations.shape[1])
        return {"offset_nD": added, "rotations_np": torch.cat([unturned, rotations[: end - count]])}

    def _logits(self, h_RnD: Tensor, first: int) -> Tensor:
        """float32 [R, n, V] of the tokens from position `first` on: each kind has its own head."""
        h_RnD, cut = self.norm(h_RnD), self.config.holistic_tokens - first
        if cut <= 0:
            return self.patch_head(h_RnD).float()
        if cut >= h_RnD.shape[1]:
            return self.holistic_head(h_RnD).float()
        parts = self.holistic_head(h_RnD[:, :cut]), self.patch_head(h_RnD[:, cut:])
        return torch.cat(parts, dim=1).float()

    def logits(self, ids_BL: Tensor, condition: Condition, *, quirks: Quirks = "fixed") -> Tensor:
        """Teacher-forced logits float32 [B, L, V] of all tokens; "fixed" is how the authors train."""
        return self._logits(self._states(self._embed(ids_BL[:, :-1], 0, quirks), condition), 0)

    def logits_of(self, h_BnD: Tensor, places: Tensor | None = None) -> Tensor:
        """float32 [B, n, V] from what `hidden` gives, of all tokens or of those at `places` int64 [n] or [B, n].

        Given places take the work of both heads: which tokens are of which kind is known to the device alone.
        """
        if places is None:
            return self._logits(h_BnD, 0)
        h_BnD, holistic = self.norm(h_BnD), (places < self.config.holistic_tokens)[..., None]
        return torch.where(holistic, self.holistic_head(h_BnD).float(), self.patch_head(h_BnD).float())

    def hidden(
        self, ids_BL: Tensor, condition: Condition, *, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, L, D] behind the blocks, as in training (quirks "fixed"): entry i predicts token i of both streams.

        It has seen the condition and tokens 0..i - 1. With `masked` bool [B, L] the inputs of those tokens are the
        embedding `mask` [D], and every entry sees all other inputs of both streams: for the masked term of
        `smalti.nn.mixture`.
        """
        x_BnD = self._embed(ids_BL[:, :-1], 0, "fixed")
        if masked is None:
            return self._states(x_BnD, condition)
        assert mask is not None
        x_BnD = torch.where(masked[:, :-1, None], mask.to(x_BnD.dtype), x_BnD)
        return self._states(x_BnD, condition, causal=False)

    def _states(self, x_BnD: Tensor, condition: Condition, causal: bool = True) -> Tensor:
        """[B, 1 + n, D] behind the blocks, from the embedded tokens."""
        x_BLD = self.dropout(torch.cat([self.condition(condition.classes).tokens_RTD, x_BnD], dim=1))
        places = self._places(0, x_BLD.shape[1], self._rotations(x_BLD.device))
        for block in self.blocks:
            x_BLD = block(x_BLD, causal=causal, **places)
        return x_BLD

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Categorical:
        """Logits of all tokens, [1, B, L, V], as decoding would give them: with the config's quirks."""
        assert tokens.ids is not None
        return Categorical(self.logits(tokens.ids, condition, quirks=self.config.quirks)[None])

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> HitaState:
        """State before token `start`; the rows of earlier tokens wait to run together with the next."""
        config, rows = self.config, len(branches)
        x_RnD = self.condition(condition.classes, branches=branches).tokens_RTD
        if start:
            assert known is not None
            x_BnD = self._embed(known[:, :start], 0, config.quirks)
            x_RnD = torch.cat([x_RnD, x_BnD.repeat(rows, 1, 1)], dim=1)
        shape = {"layers": config.depth, "rows": len(x_RnD), "heads": config.heads, "length": config.length}
        cache = KVCache(
            **shape,
            head_dim=config.width // config.heads,
            dtype=cache_dtype(x_RnD.dtype, x_RnD.device),
            device=x_RnD.device,
        )
        rotations = self._rotations(x_RnD.device)
        return HitaState(step=start, rows=rows, cache=cache, rotations=rotations, pending=x_RnD)

    def predict(self, state: HitaState) -> Categorical:
        """Logits [R, B, 1, V] of token `state.step`; everything pending runs in this one pass."""
        x_RnD, first = state.pending, state.cache.used
        length = x_RnD.shape[1]
        places = self._places(first, first + length, state.rotations)
        for i, block in enumerate(self.blocks):
            x_RnD = block(x_RnD, causal=length > 1, cache=state.cache, layer=i, **places)
        state.cache.advance(length)
        logits_RnV = self._logits(x_RnD[:, -1:], state.step)
        return Categorical(logits_RnV.unflatten(0, (state.rows, -1)))

    def accept(self, state: HitaState, choice: Choice) -> None:
        """The chosen token becomes the input of the next step."""
        assert choice.ids is not None
        state.pending = self._embed(choice.ids, state.step, self.config.quirks).repeat(state.rows, 1, 1)
        state.step += 1

    def unguide(self, state: HitaState) -> bool:
        """Keeps the conditional rows of the cache and the pending inputs."""
        batch = len(state.pending) // state.rows
        state.rows, state.pending = 1, state.pending[:batch]
        state.cache.keep_rows(batch)
        return True
