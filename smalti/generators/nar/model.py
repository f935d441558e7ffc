"""NAR's next-neighbor transformer (arXiv 2503.10696; ThisisBillhe/NAR, MIT) for images and clips.

Shape suffixes: R rows (branches x batch), B batch, T condition tokens, L grid tokens, n tokens of a pass, m tokens of a
step, D width, E width times number of heads (axes of the grid, last axis first), V codes, p pairs of channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical
from smalti.decoding.schedules import Schedule, neighbor
from smalti.generators.base import Condition, Generator
from smalti.generators.nar.config import NARConfig
from smalti.generators.nar.neighbors import Neighbors
from smalti.nn.cache import KVCache, cache_dtype
from smalti.nn.gpt import Block
from smalti.nn.gpt_condition import CaptionTokens, ClassToken, Prefix
from smalti.nn.rope import grid_rotations, on_device, without_place
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, Tokens


@dataclass(eq=False)
class Places:
    """Where the tokens of a generation stand, condition first, then the grid in the order of decoding."""

    rotations: Tensor | None
    """complex64 [T + L, p] of queries and keys."""
    vectors: Tensor | None
    """[T + L, D] added to the tokens."""

    def add(self, x_RnD: Tensor, start: int) -> Tensor:
        """Tokens from `start` on, with their learned places."""
        if self.vectors is None:
            return x_RnD
        return x_RnD + self.vectors[start : start + x_RnD.shape[1]]


@dataclass(eq=False)
class NARState:
    """Where a generation stands."""

    step: int
    """The diagonal that is predicted next."""
    rows: int
    """Number of branches."""
    feedback: Feedback
    cache: KVCache
    """Keys and values in the order of decoding: a diagonal sees all that is in it, hence needs no mask."""
    places: Places
    neighbors: Neighbors
    pending: Tensor
    """[R, n, D] inputs not yet run: at first the condition and all known diagonals, later one diagonal."""
    mask: Tensor | None
    """bool [n, n] or [R, 1, n, n] of the first pass."""
    bias: Tensor | None
    """[R, 1, 1, T + L]: -inf for padding of captions, added to the logits of attention in every later pass."""


class NARGenerator(Generator):
    """Predicts all tokens at the same distance from the first one at once, each from its neighbors along every axis."""

    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.config, self.classes, self.text_features = config, config.classes, config.text_features
        self.layout = config.layout
        width, axes = config.width, len(config.grid)
        self.condition = (
            CaptionTokens(config.text_features, width, config.text_tokens)
            if config.text_features
            else ClassToken(config.classes, width)
        )
        self.token_embedding = nn.Embedding(config.vocab, width)
        self.dropout = nn.Dropout(config.dropout)
        rates = [config.drop_path * i / max(config.blocks - 1, 1) for i in range(config.blocks)]
        self.blocks = nn.ModuleList(self._block(config, rate) for rate in rates)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=config.norm_eps) for _ in range(axes))
        self.heads = nn.ModuleList(nn.Linear(width, config.vocab, bias=False) for _ in range(axes))
        prefix = config.text_tokens if config.text_features else 1
        # Plain attributes: buffers would be cast with the weights, or be missing in the authors' files.
        self._schedule = neighbor(self.layout)
        self.neighbors = Neighbors.of(config.grid, self._schedule)
        self.rotations: Tensor | None = None
        if config.positions == "rotary":
            rows, columns = config.grid
            cells = grid_rotations(rows, columns, width // config.heads, config.rotation_base)
            self.rotations = without_place(cells, prefix)
        else:
            self.positions = nn.Parameter(torch.empty(1, prefix + self.layout.length, width))
        self.initialize()

    @staticmethod
    def _block(config: NARConfig, drop_path: float) -> Block:
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
        """Weights to start training from, as the authors': standard deviation 0.02; the first head zero, with learned
        positions every head.
        """
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        learned = self.config.positions == "learned"
        for head in self.heads if learned else self.heads[:1]:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
        if learned:
            nn.init.normal_(self.positions, std=0.02)

    def schedule(self) -> Schedule:
        """One diagonal a step: all cells whose coordinates have the same sum."""
        return self._schedule

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

    def _tables(self, device: torch.device) -> Neighbors:
        self.neighbors = self.neighbors.to(device)
        return self.neighbors

    def _places(self, count: int, tables: Neighbors) -> Places:
        """Those of `count` condition tokens and of the grid in the order of decoding."""
        rows = torch.cat([torch.arange(count, device=tables.order.device), count + tables.order])
        first = -self.layout.length - count
        if self.rotations is None:
            return Places(None, self.positions[0, first:][rows])
        self.rotations = on_device(self.rotations, rows.device)
        return Places(self.rotations[first:][rows], None)

    def logits(self, ids_BL: Tensor, condition: Condition) -> Tensor:
        """Teacher-forced logits float32 [B, L, V] of a whole grid, tokens in the order of the sequence."""
        h_BLE = self.hidden(self.in_order(ids_BL), condition)
        return self.logits_of(h_BLE[:, self.neighbors.rank])

    def in_order(self, ids_BL: Tensor) -> Tensor:
        """The tokens of a whole grid in the order of decoding."""
        return ids_BL[:, self._tables(ids_BL.device).order]

    def logits_of(self, h_BnE: Tensor, places: Tensor | None = None) -> Tensor:
        """float32 [B, n, V] from what `hidden` gives, whatever the places of the tokens.

        No head has a bias: where nobody predicts it says 0.
        """
        parts = h_BnE.unflatten(-1, (len(self.heads), -1)).unbind(-2)
        return torch.stack([head(part).float() for head, part in zip(self.heads, parts, strict=True)]).sum(0)

    def hidden(
        self, ids_BL: Tensor, condition: Condition, *, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, L, E]: what token i is predicted from, tokens in the order of decoding.

        Entry i has seen the condition and all tokens of earlier steps. With `masked` bool [B, L] the inputs of those
        tokens are the embedding `mask` [D], and every entry sees all other inputs, also later ones: for the masked term
        of `smalti.nn.mixture`.
        """
        return self._tables(ids_BL.device).gather(self.states(ids_BL, condition, masked=masked, mask=mask))

    def states(
        self, ids_BL: Tensor, condition: Condition, *, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> list[Tensor]:
        """What each head reads, [B, 1 + L, D] at (last condition token, tokens in the order of decoding)."""
        tables, prefix = self._tables(ids_BL.device), self._prefix(condition)
        count = prefix.tokens_RTD.shape[1]
        places, x_BLD, seen = self._places(count, tables), self.token_embedding(ids_BL), proximity(count, tables.step)
        if masked is not None:
            assert mask is not None
            x_BLD, seen = torch.where(masked[..., None], mask.to(x_BLD.dtype), x_BLD), torch.ones_like(seen)
        x_BnD = places.add(self.dropout(torch.cat([prefix.tokens_RTD, x_BLD], dim=1)), 0)
        return self._run(x_BnD, places.rotations, prefix.hide_padding(seen), None, 1 + self.layout.length)

    def _run(
        self, x_RnD: Tensor, rotations: Tensor | None, mask: Tensor | None, cache: KVCache | None, last: int
    ) -> list[Tensor]:
        """All blocks; the last tokens of what each head reads: the output of the blocks up to its own, normalized."""
        taps = []
        for i, block in enumerate(self.blocks):
            x_RnD = block(x_RnD, rotations_np=rotations, mask=mask, cache=cache, layer=i)
            if i >= self.config.depth - 1:
                taps.append(x_RnD[:, -last:])
        return [norm(x) for norm, x in zip(self.norms, taps, strict=True)]

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Categorical:
        """Logits of all tokens, [1, B, L, V]."""
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
    ) -> NARState:
        """State before diagonal `start`; the condition and the known diagonals before it run in the first pass."""
        prefix = self._prefix(condition, branches, trim=True)
        pending = prefix.tokens_RTD
        count, tables = pending.shape[1], self._tables(pending.device)
        done = tables.order[: self._schedule.ends[start - 1]] if start else tables.order[:0]
        if start:
            assert known is not None
            pending = torch.cat([pending, self._embed(known[:, done], len(branches))], dim=1)
        places = self._places(count, tables)
        return NARState(
            step=start,
            rows=len(branches),
            feedback=feedback,
            cache=self._cache(pending, count),
            places=places,
            neighbors=tables,
            pending=places.add(pending, 0),
            mask=prefix.hide_padding(proximity(count, tables.step[: len(done)])) if pending.shape[1] > 1 else None,
            bias=prefix.bias(count + self.layout.length),
        )

    def _embed(self, ids_Bn: Tensor, rows: int) -> Tensor:
        """[rows * B, n, D]: the same tokens for every branch."""
        return self.token_embedding(ids_Bn).repeat(rows, 1, 1)

    def _cache(self, x_RnD: Tensor, count: int) -> KVCache:
        """Room for the condition and all diagonals but the last, which predicts nothing."""
        c, length = self.config, count + self._schedule.length - self._schedule[len(self._schedule) - 1].count
        shape = {"layers": c.blocks, "rows": x_RnD.shape[0], "heads": c.heads, "length": length}
        return KVCache(
            **shape, head_dim=c.width // c.heads, dtype=cache_dtype(x_RnD.dtype, x_RnD.device), device=x_RnD.device
        )

    def predict(self, state: NARState) -> Categorical:
        """Logits [R, B, m, V] of diagonal `state.step`; everything pending runs in this one pass."""
        begin = state.cache.used
        end = begin + state.pending.shape[1]
        mask = state.bias[..., :end] if begin and state.bias is not None else state.mask
        turns = state.places.rotations
        last = self._schedule[state.step - 1].count if state.step else 1
        states = self._run(state.pending, None if turns is None else turns[begin:end], mask, state.cache, last)
        state.cache.advance(end - begin)
        state.mask = None
        logits_RmV = self.logits_of(self._gather(state, states))
        return Categorical(logits_RmV.unflatten(0, (state.rows, -1)))

    def _gather(self, state: NARState, states: list[Tensor]) -> Tensor:
        """[R, m, E]: what the tokens of diagonal `state.step` are predicted from, by the states of the one before."""
        steps, step = self._schedule, state.step
        start = steps.ends[step - 1] if step else 0
        first = 1 + start - steps[step - 1].count if step else 0
        return state.neighbors.gather(states, slice(start, steps.ends[step]), first)

    def unguide(self, state: NARState) -> bool:
        """Keeps the conditional rows."""
        batch = state.pending.shape[0] // state.rows
        state.rows, state.pending = 1, state.pending[:batch]
        if state.mask is not None and state.mask.ndim == 4:
            state.mask = state.mask[:batch]
        state.bias = state.bias[:batch] if state.bias is not None else None
        state.cache.keep_rows(batch)
        return True

    def accept(self, state: NARState, choice: Choice) -> None:
        """The chosen diagonal becomes the next input."""
        assert choice.ids is not None
        state.feedback.push(state.step, choice)
        state.step += 1
        start = state.cache.used
        state.pending = state.places.add(self._embed(choice.ids, state.rows), start)


def proximity(count: int, step_n: Tensor) -> Tensor:
    """bool [T + n, T + n]: a condition token sees itself and those before it, a grid token sees the condition and
    every token of its own and earlier steps.
    """
    level = torch.cat([torch.arange(-count, 0, device=step_n.device), step_n])
    return level[:, None] >= level[None]
