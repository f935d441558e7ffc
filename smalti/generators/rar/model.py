"""RAR: next-token transformer with adaLN that knows which place it predicts next (arXiv 2411.00776;
bytedance/1d-tokenizer, Apache-2.0).

The sequence is a start token, the class, then the tokens. Shape suffixes: R rows (branches x batch), U different
conditions, B batch, L tokens of an image, n places of the sequence, D width, H heads, d head width, V codes, 6
modulation vectors of a block: (shift, scale, gain) of attention, then of the feed-forward.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical
from smalti.decoding.schedules import Schedule, raster
from smalti.generators.base import Condition, Generator
from smalti.generators.rar.config import SPARE_PLACES, SPARE_STEPS, RARConfig
from smalti.nn.cache import KVCache, cache_dtype
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, Segment, TokenLayout, Tokens

PREFIX = 2  # start token and class
AHEAD = 128  # rows whose modulations are computed at once: enough to use the weights well, little memory


class Attention(nn.Module):
    """Self-attention with normalized queries and keys, causal but for the masked term of training."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.heads, self.rate = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.q_norm, self.k_norm = (nn.LayerNorm(config.width // config.heads, eps=1e-6) for _ in range(2))
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x_RnD: Tensor, cache: KVCache | None, layer: int, causal: bool = True) -> Tensor:
        """[R, n, D]; several tokens at once only into an empty cache."""
        q, k, v = self.qkv(x_RnD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [R, H, n, d]
        q, k = self.q_norm(q), self.k_norm(k)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
            q = q.to(k.dtype)
        assert q.shape[2] in (1, k.shape[2])
        rate = self.rate if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=rate)
        return self.proj(h.transpose(1, 2).flatten(2).to(x_RnD.dtype))


class Block(nn.Module):
    """Attention and feed-forward, both modulated by class and place (adaLN, arXiv 2212.09748)."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(config)
        self.up, self.down = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x_RnD: Tensor, mod_Rn6D: Tensor, cache: KVCache | None = None, layer: int = 0, causal: bool = True
    ) -> Tensor:
        """[R, n, D]."""
        shift1, scale1, gain1, shift2, scale2, gain2 = mod_Rn6D.unbind(2)
        h = self.attention(self.norm1(x_RnD) * (1 + scale1) + shift1, cache, layer, causal)
        x_RnD = x_RnD + gain1 * self.dropout(h)
        h = self.dropout(F.gelu(self.up(self.norm2(x_RnD) * (1 + scale2) + shift2)))
        return x_RnD + gain2 * self.dropout(self.down(h))


@dataclass(eq=False)
class RARState:
    """Where a generation stands."""

    step: int
    """The token that is predicted next."""
    branches: int
    """Number of branches."""
    feedback: Feedback
    cache: KVCache
    conditions_UD: Tensor
    """Embeddings of the different conditions of the batch: images of one class, and all null rows, share theirs."""
    rows_R: Tensor
    """int64: which of them every row has."""
    pending_RnD: Tensor
    """Inputs not yet run: the last token, at first also everything before it."""
    modulations: list[Tensor]
    """[U, places, 6 D] of every block, and [U, places, 2 D] of the head, for some of the places ahead."""
    places: tuple[int, int]
    """First of these places, and the one behind the last."""


class RARGenerator(Generator):
    """Predicts the next token from the class and all earlier tokens, in raster order."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.config, self.classes = config, config.classes
        segment = Segment(shape=config.grid, vocab=config.vocab)
        self.layout = TokenLayout(segments=(segment,), prefixes=(config.tokens,))
        width, length = config.width, config.tokens
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.embedding = nn.Embedding(config.vocab + 1 + config.classes + 1, width)
        self.positions = nn.Parameter(torch.zeros(1, length + SPARE_PLACES, width))
        self.next_positions = nn.Parameter(torch.zeros(1, length + SPARE_PLACES, width))
        self.steps = nn.Parameter(torch.zeros(1, length + SPARE_STEPS, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, config.vocab)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Weights to start training from: standard deviation 0.02, no biases, and modulations that do nothing yet."""
        for name, p in self.named_parameters():
            if name.endswith(".bias") or "modulation" in name:
                nn.init.zeros_(p)
            elif p.ndim >= 2 and name != "start":
                nn.init.trunc_normal_(p, std=0.02)

    def schedule(self) -> Schedule:
        """Raster order."""
        return raster(self.layout)

    def _rows_of_table(self, condition: Condition) -> Tensor:
        """int64 [R]: rows of the embedding table behind the codes and a mask that is not used; the last: no class."""
        config = self.config
        return torch.where(condition.classes < 0, config.classes, condition.classes) + config.vocab + 1

    def _inputs(self, ids_Bn: Tensor, first: int, order_BL: Tensor | None = None) -> Tensor:
        """[B, n, D]: tokens number `first`, `first` + 1, ... of an order, each with its place and that of the next."""
        return self._placed(self.embedding(ids_Bn), first, order_BL)

    def _placed(self, x_BnD: Tensor, first: int, order_BL: Tensor | None = None) -> Tensor:
        """The same from embedded tokens.

        `order_BL` int64: the orders, None = raster. The last token of an image has no next.
        """
        count, length = x_BnD.shape[1], self.config.tokens
        end = first + count
        places, targets = self.positions[0, PREFIX:], self.next_positions[0, PREFIX:]
        if order_BL is None:
            x_BnD, ahead = x_BnD + places[first:end], targets[first + 1 : min(end + 1, length)]
        else:
            x_BnD, ahead = x_BnD + places[order_BL[:, first:end]], targets[order_BL[:, first + 1 : end + 1]]
        return x_BnD + F.pad(ahead, (0, 0, 0, count - ahead.shape[-2]))

    def _opening(self, condition_RD: Tensor, order_RL: Tensor | None = None) -> Tensor:
        """[R, 2, D]: start token and class, which knows the place of the first token."""
        first = self.next_positions[0, PREFIX:][0 if order_RL is None else order_RL[:, 0]]
        start = (self.start[0] + self.positions[0, :1]).expand(len(condition_RD), 1, -1)
        return torch.cat([start, (condition_RD + self.positions[0, 1] + first)[:, None]], dim=1)

    def _modulated(self, condition_UD: Tensor, start: int, end: int) -> list[Tensor]:
        """Modulations at the places start..end - 1 of the sequence, of every block and of the head."""
        active_UnD = F.silu(condition_UD[:, None] + self.steps[:, start:end])
        return [*(block.modulation(active_UnD) for block in self.blocks), self.head_modulation(active_UnD)]  # type: ignore[operator]

    def _run(
        self, x_RnD: Tensor, modulations: list[Tensor], cache: KVCache | None, keep: slice, causal: bool = True
    ) -> Tensor:
        """[R, kept, D], what the head reads, from inputs and their modulations."""
        *blocks, head = modulations
        for i, (block, mod) in enumerate(zip(self.blocks, blocks, strict=True)):
            x_RnD = block(x_RnD, mod.unflatten(-1, (6, -1)), cache, i, causal and x_RnD.shape[1] > 1)
        scale, shift = head[:, keep].chunk(2, dim=-1)
        return self.norm(x_RnD[:, keep]) * (1 + scale) + shift

    def logits(self, ids_Bn: Tensor, condition: Condition, orders_BL: Tensor | None = None) -> Tensor:
        """Logits float32 [B, 1 + n, V] from the first n tokens, in the order in which they come.

        Row i predicts token i; `orders_BL` int64 holds the place of every token, None = raster.
        """
        return self.logits_of(self._states(self.embedding(ids_Bn), condition, orders_BL))

    def logits_of(self, h_BnD: Tensor, places: Tensor | None = None) -> Tensor:
        """float32 [B, n, V] from what `hidden` gives, whatever the places of the tokens."""
        return self.head(h_BnD).float()

    def hidden(
        self,
        ids_BL: Tensor,
        condition: Condition,
        *,
        masked: Tensor | None = None,
        mask: Tensor | None = None,
        orders_BL: Tensor | None = None,
    ) -> Tensor:
        """[B, L, D]: what the head reads of all tokens, in the order in which they come; entry i predicts token i.

        It has seen the condition, the place of token i, and tokens 0..i - 1 with their places. With `masked` bool [B,
        L] the mask embedding `mask` [D] stands for those tokens at their places, and every entry sees all other inputs,
        also later ones: for the masked term of `smalti.nn.mixture`. `orders_BL` as for `logits`.
        """
        x_BnD = self.embedding(ids_BL[:, :-1])
        if masked is None:
            return self._states(x_BnD, condition, orders_BL)
        assert mask is not None
        x_BnD = torch.where(masked[:, :-1, None], mask.to(x_BnD.dtype), x_BnD)
        return self._states(x_BnD, condition, orders_BL, causal=False)

    def _states(
        self, x_BnD: Tensor, condition: Condition, orders_BL: Tensor | None = None, causal: bool = True
    ) -> Tensor:
        """[B, 1 + n, D]: what the head reads, from embedded tokens."""
        condition_BD = self.embedding(self._rows_of_table(condition))
        x_BnD = torch.cat([self._opening(condition_BD, orders_BL), self._placed(x_BnD, 0, orders_BL)], dim=1)
        return self._run(x_BnD, self._modulated(condition_BD, 0, x_BnD.shape[1]), None, slice(1, None), causal)

    def forward(
        self,
        tokens: Tokens,
        condition: Condition,
        *,
        feedback: Feedback | None = None,
        orders: Tensor | None = None,
    ) -> Categorical:
        """Logits [1, B, L, V] of all tokens, at their places in the grid.

        `orders` int64 [B, L] or [L] says in which order they are taken to be decided; None = raster.
        """
        if tokens.ids is None or tokens.ids.shape[1] != self.layout.length:
            raise ValueError(f"this model reads whole sequences of {self.layout.length} ids")
        if orders is None:
            return Categorical(self.logits(tokens.ids[:, :-1], condition)[None])
        orders_BL = check_orders(orders, tokens.ids)
        logits_BLV = self.logits(tokens.ids.gather(1, orders_BL)[:, :-1], condition, orders_BL)
        back_BL1 = orders_BL.argsort(dim=1)[..., None]
        return Categorical(logits_BLV.take_along_dim(back_BL1, dim=1)[None])

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> RARState:
        """State before token `start`; the tokens before it are run with the first prediction."""
        c, table_R = self.config, self._rows_of_table(condition.rows(branches))
        different_U, rows_R = table_R.unique(return_inverse=True)
        x_RnD = self._opening(self.embedding(table_R))
        if start:
            assert known is not None
            x_RnD = torch.cat([x_RnD, self._inputs(known[:, :start], 0).repeat(len(branches), 1, 1)], dim=1)
        return RARState(
            step=start,
            branches=len(branches),
            feedback=feedback,
            cache=KVCache(
                layers=c.depth,
                rows=len(table_R),
                heads=c.heads,
                length=c.tokens + 1,
                head_dim=c.width // c.heads,
                dtype=cache_dtype(x_RnD.dtype, x_RnD.device),
                device=x_RnD.device,
            ),
            conditions_UD=self.embedding(different_U),
            rows_R=rows_R,
            pending_RnD=x_RnD,
            modulations=[],
            places=(0, 0),
        )

    def _modulations_at(self, state: RARState, first: int, end: int) -> list[Tensor]:
        """[R, n, ...] at the places first..end - 1; computed for many places ahead, so that weights are read seldom."""
        if end > state.places[1]:
            ahead = max(end, min(first + AHEAD // len(state.conditions_UD), self.config.tokens + 1))
            state.places, state.modulations = (first, ahead), self._modulated(state.conditions_UD, first, ahead)
        at = slice(first - state.places[0], end - state.places[0])
        return [mod[:, at].index_select(0, state.rows_R) for mod in state.modulations]

    def predict(self, state: RARState) -> Categorical:
        """Logits [R, B, 1, V] of token `state.step`; everything pending runs in this one pass."""
        first = state.cache.used
        count = state.pending_RnD.shape[1]
        modulations = self._modulations_at(state, first, first + count)
        logits_R1V = self.logits_of(self._run(state.pending_RnD, modulations, state.cache, slice(count - 1, None)))
        state.cache.advance(count)
        return Categorical(logits_R1V.unflatten(0, (state.branches, -1)))

    def unguide(self, state: RARState) -> bool:
        """Keeps the conditional rows of cache and inputs."""
        batch = len(state.rows_R) // state.branches
        state.branches, state.rows_R, state.pending_RnD = 1, state.rows_R[:batch], state.pending_RnD[:batch]
        state.cache.keep_rows(batch)
        return True

    def accept(self, state: RARState, choice: Choice) -> None:
        """The chosen token is the next input."""
        assert choice.ids is not None
        state.feedback.push(state.step, choice)
        state.pending_RnD = self._inputs(choice.ids, state.step).repeat(state.branches, 1, 1)
        state.step += 1


def check_orders(orders: Tensor, ids_BL: Tensor) -> Tensor:
    """Orders int64 [B, L], one for all images or one for each; ValueError if one is no permutation."""
    orders_BL = orders.expand_as(ids_BL) if orders.ndim == 1 and orders.shape[0] == ids_BL.shape[1] else orders
    places = torch.arange(ids_BL.shape[1], device=orders.device)
    if orders_BL.shape != ids_BL.shape or not (orders_BL.sort(dim=1).values == places).all():
        length = ids_BL.shape[1]
        raise ValueError(f"orders must hold each of 0..{length - 1} once, [{length}] or [{len(ids_BL)}, {length}]")
    return orders_BL
