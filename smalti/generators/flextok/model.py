"""FlexAR: a causal transformer that writes FlexTok's tokens one after the other, from a class or a text
(arXiv 2502.13967, 2604.15453; EPFL-VILAB/search-over-tokens, Apache-2.0).

Shape suffixes: R rows (branches x batch), B batch, L or n tokens, T text tokens, D width, F text features, V codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical
from smalti.decoding.schedules import Schedule, raster
from smalti.generators.base import Condition, Generator
from smalti.generators.flextok.blocks import Block, KeysValues, TextProjection, norm_of, rotary_table
from smalti.generators.flextok.config import FlexARConfig
from smalti.nn.cache import KVCache
from smalti.nn.sincos import sincos_grid
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, Segment, TokenLayout, Tokens


@dataclass(eq=False)
class FlexARState:
    """Where a generation stands."""

    branches: int
    cache: KVCache
    pending: Tensor
    """[R, n, D] inputs not yet run: one token, after `begin` also all tokens before it."""
    restart: Tensor | None
    """[R, n, D] what the first pass should have been fed in the authors' view; None = the same (see `quirks`)."""
    rotary: Tensor | None
    """[2, L, d]."""
    texts: list[KeysValues]
    """Of every block: they depend on the text alone and are computed once. Empty without text."""
    text_mask: Tensor | None
    """bool [R, 1, 1, T]; None = every text token counts."""


class FlexARGenerator(Generator):
    """Predicts token after token. The class is added to the start token; texts are looked at by cross-attention."""

    empty_text = True
    positions: Tensor
    """[L, D], learned or fixed."""

    def __init__(self, config: FlexARConfig) -> None:
        super().__init__()
        self.config, self.classes, self.text_features = config, config.classes, config.text_features
        self.needs_text = bool(config.text_features)
        self.layout = layout_of(config)
        width = config.width
        self.tokens = nn.Embedding(config.vocab, width)
        self.start = nn.Parameter(torch.empty(1, 1, width))
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.empty(config.tokens, width))
        elif config.positions == "sincos":
            self.register_buffer("positions", sincos_positions(config))
        if config.classes:
            self.class_embedding = nn.Embedding(config.classes, width)
        if config.text_features:
            self.text_projection = TextProjection(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = norm_of(config.norm if config.post_norm else None, width)
        self.head_norm = nn.LayerNorm(width) if config.head_norm else nn.Identity()
        self.head = nn.Linear(width, config.vocab, bias=config.head_bias)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Weights to start training from: the defaults of the public blocks."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.uniform_(module.weight, -0.1, 0.1)
        nn.init.uniform_(self.start, -0.1, 0.1)
        if self.config.positions == "learned":
            nn.init.normal_(self.positions, std=0.02)

    def schedule(self) -> Schedule:
        """One token per step."""
        return raster(self.layout)

    def check_condition(self, condition: Condition) -> None:
        """As for every generator, and a ValueError for an image without a text among others with one."""
        super().check_condition(condition)
        if condition.text is not None and condition.text.ndim != 3:
            raise ValueError(f"this model reads text features [B, T, {self.text_features}], got token ids")
        if condition.text_mask is not None and not condition.text_mask.any(dim=1).all():
            raise ValueError("an image has no text: this model reads the features of the empty text where it has none")

    # ---- inputs ----

    def _inputs(self, ids_Bn: Tensor, classes_B: Tensor) -> Tensor:
        """[B, 1 + n, D]: the start token with its class, then the given tokens."""
        start_B1D = self.start.expand(len(classes_B), -1, -1)
        if self.classes:
            class_BD = self.class_embedding(classes_B.clamp_min(0)) * (classes_B >= 0)[:, None]
            start_B1D = start_B1D + class_BD[:, None]
        return self._placed(torch.cat([start_B1D, self.tokens(ids_Bn)], dim=1), 0)

    def _placed(self, x_BnD: Tensor, place: int) -> Tensor:
        """Adds the positions of the inputs from `place` on."""
        if self.config.positions == "none":
            return x_BnD
        return x_BnD + self.positions[place : place + x_BnD.shape[1]]

    def _texts(self, text_RTF: Tensor | None) -> list[KeysValues]:
        """What every block's cross-attention looks at."""
        if not self.text_features:
            return []
        assert text_RTF is not None, "check_condition"
        text_RTD = self.text_projection(text_RTF.to(self.head.weight.dtype))
        return [block.cross.keys_values(text_RTD) for block in self.blocks]  # type: ignore[union-attr,operator]

    def _rotary(self, device: torch.device) -> Tensor | None:
        """[2, L, d] on the device, for models that rotate."""
        if self.config.rotary is None:
            return None
        return rotary_table(self.config.tokens, self.config.head_channels, self.config.rotary).to(device)

    # ---- teacher forcing ----

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Categorical:
        """Logits of all given tokens, [1, B, L, V]; tokens may be a prefix."""
        assert tokens.ids is not None
        return Categorical(self.logits(tokens.ids, condition)[None])

    def logits(self, ids_BL: Tensor, condition: Condition) -> Tensor:
        """Teacher-forced logits float32 [B, L, V] of the first L tokens."""
        return self.logits_of(self.hidden(ids_BL, condition))

    def hidden(
        self, ids_BL: Tensor, condition: Condition, *, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, L, D] behind the blocks: entry i predicts token i and has seen the condition and tokens 0..i - 1.

        With `masked` bool [B, L] the inputs of those tokens are the embedding `mask` [D], and every entry sees all
        other inputs, also later ones: for the masked term of `smalti.nn.mixture`.
        """
        x_BLD = self._inputs(ids_BL[:, :-1], condition.classes)
        if masked is not None:
            assert mask is not None
            hidden_BLD = self._placed(mask.to(x_BLD.dtype).expand_as(x_BLD[:, 1:]), 1)
            x_BLD = torch.cat([x_BLD[:, :1], torch.where(masked[:, :-1, None], hidden_BLD, x_BLD[:, 1:])], dim=1)
        rotary = self._rotary(x_BLD.device)
        rotary = None if rotary is None else rotary[:, : x_BLD.shape[1]]
        texts, text_mask = self._texts(condition.text), _attention_mask(condition.text_mask)
        for i, block in enumerate(self.blocks):
            text = texts[i] if texts else None
            x_BLD = block(x_BLD, text=text, text_mask=text_mask, rotary=rotary, causal=masked is None)
        return x_BLD

    def logits_of(self, h_BnD: Tensor, places: Tensor | None = None) -> Tensor:
        """float32 [B, n, V] from what `hidden` gives, whatever the places of the tokens."""
        return self.head(self.head_norm(self.norm(h_BnD))).float()

    # ---- decoding ----

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> FlexARState:
        """State before token `start`; the tokens before it run together with the first prediction."""
        if self.text_features and "null" in branches and condition.empty_text is None:
            raise ValueError("guidance by text needs the features of the empty text: set Condition.empty_text")
        rows = condition.rows(branches)
        ids_Rn = rows.classes.new_zeros(len(rows), 0)
        if known is not None and start:
            ids_Rn = known[:, :start].repeat(len(branches), 1)
        text, mask = _cut(rows.text, rows.text_mask)
        restart = None
        if self.classes and self.config.quirks == "authors":
            restart = self._inputs(ids_Rn, rows.classes.clamp_min(0))
        pending = self._inputs(ids_Rn, rows.classes)
        return FlexARState(
            branches=len(branches),
            cache=self._cache(pending),
            pending=pending,
            restart=restart,
            rotary=self._rotary(pending.device),
            texts=self._texts(text),
            text_mask=_attention_mask(mask),
        )

    def _cache(self, x_RnD: Tensor) -> KVCache:
        return KVCache(
            layers=self.config.depth,
            rows=x_RnD.shape[0],
            heads=self.config.kv_heads or self.config.heads,
            length=self.config.tokens,
            head_dim=self.config.head_channels,
            dtype=x_RnD.dtype,
            device=x_RnD.device,
        )

    def predict(self, state: FlexARState) -> Categorical:
        """Logits [R, B, 1, V] of the next token."""
        h_RnD, used = state.pending, state.cache.used
        count = h_RnD.shape[1]
        rotary = None if state.rotary is None else state.rotary[:, used : used + count]
        for i, block in enumerate(self.blocks):
            text = state.texts[i] if state.texts else None
            h_RnD = block(
                h_RnD,
                text=text,
                text_mask=state.text_mask,
                rotary=rotary,
                causal=count > 1,
                cache=state.cache,
                layer=i,
            )
        state.cache.advance(count)
        return Categorical(self.logits_of(h_RnD[:, -1:]).unflatten(0, (state.branches, -1)))

    def accept(self, state: FlexARState, choice: Choice) -> None:
        """The chosen token is the next input of every branch."""
        assert choice.ids is not None
        place = state.pending.shape[1] if state.restart is not None else state.cache.used
        if place >= self.config.tokens:
            return
        state.pending = self._placed(self.tokens(choice.ids), place).repeat(state.branches, 1, 1)
        if state.restart is not None:  # kept for parity: the rows without a class get class 0, from the start token on
            state.pending = torch.cat([state.restart, state.pending], dim=1)
            state.restart, state.cache.used = None, 0

    def unguide(self, state: FlexARState) -> bool:
        """Keeps the conditional rows."""
        batch = state.pending.shape[0] // state.branches
        state.branches, state.pending = 1, state.pending[:batch]
        state.restart = None if state.restart is None else state.restart[:batch]
        state.texts = [(k[:batch], v[:batch]) for k, v in state.texts]
        state.text_mask = None if state.text_mask is None else state.text_mask[:batch]
        state.cache.keep_rows(batch)
        return True


def layout_of(config: FlexARConfig) -> TokenLayout:
    """An ordered sequence that may be cut anywhere, or a grid that is read whole."""
    length = config.tokens
    if config.grid[1] == 1:
        segment, prefixes = Segment(shape=(length,), vocab=config.vocab), tuple(range(1, length + 1))
    else:
        segment, prefixes = Segment(shape=config.grid, vocab=config.vocab), (length,)
    return TokenLayout(segments=(segment,), prefixes=prefixes)


def sincos_positions(config: FlexARConfig) -> Tensor:
    """float32 [L, D]: zeros for the start token, then the places of the tokens that are fed back."""
    table_LD = sincos_grid(*config.grid, config.width).float()
    return torch.cat([torch.zeros_like(table_LD[:1]), table_LD[:-1]])


def _attention_mask(mask_RT: Tensor | None) -> Tensor | None:
    return None if mask_RT is None else mask_RT[:, None, None]


def _cut(text_RTF: Tensor | None, mask_RT: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Without text tokens that no row counts, and without the mask if every row counts all of them."""
    if text_RTF is None or mask_RT is None:
        return text_RTF, mask_RT
    used = mask_RT.any(dim=0).nonzero()[:, 0]
    text_RTF, mask_RT = text_RTF[:, used], mask_RT[:, used]
    return text_RTF, None if bool(mask_RT.all()) else mask_RT
