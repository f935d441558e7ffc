"""DetailFlow's next-detail transformer (arXiv 2505.21473; ByteFlow-AI/DetailFlow, Apache-2.0).

It is fed the class, the tokens of the head one by one, and then a group at a time: row i of its input predicts token i.
The first group is predicted by the head's last token and learned special tokens, every later group by the group before.
A row of the head sees the rows up to itself, any other row its whole group and everything before.

Shape suffixes: R rows (branches x batch), B batch, L or n tokens, D width, p pairs of channels of a head, V codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical
from smalti.decoding.schedules import Schedule, next_detail
from smalti.generators.base import Condition, Generator
from smalti.generators.detailflow.config import DetailFlowConfig
from smalti.nn.cache import KVCache, cache_dtype
from smalti.nn.gpt import Block
from smalti.nn.gpt_condition import ClassToken
from smalti.nn.rope import grid_rotations, on_device, without_place
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, Segment, TokenLayout, Tokens


@dataclass(eq=False)
class DetailFlowState:
    """Where a generation stands."""

    step: int
    """The step that is predicted next."""
    rows: int
    """Number of branches."""
    cache: KVCache
    rotations: Tensor
    """complex64 [L + 1, p], on the device of the weights."""
    pending: Tensor
    """[R, n, D] inputs not yet run: those of the step, after a jump also of all steps before it."""


class DetailFlowGenerator(Generator):
    """Predicts the first tokens one by one, then the tokens of a group independently of each other."""

    def __init__(self, config: DetailFlowConfig) -> None:
        super().__init__()
        self.config, self.classes = config, config.classes
        head, group, length, width = config.head_length, config.group, config.tokens, config.width
        self.layout = TokenLayout(
            segments=(Segment(shape=(length,), vocab=config.vocab),),
            prefixes=(*range(1, head + 1), *range(head + group, length + 1, group)),
        )
        self.steps = next_detail(self.layout, group, head)
        self.condition = ClassToken(config.classes, width)
        self.embedding = nn.Embedding(config.vocab, width)
        if group > 1:
            self.special = nn.Parameter(torch.empty(group - 1, width))
        self.dropout = nn.Dropout(config.token_dropout)
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        shape = {"norm_eps": config.norm_eps, "residual_dropout": config.dropout}
        self.blocks = nn.ModuleList(Block(width, config.heads, config.hidden, drop_path=r, **shape) for r in rates)
        self.norm = nn.RMSNorm(width, eps=config.norm_eps)
        self.head = nn.Linear(width, config.vocab, bias=False)
        # The class has no place; token i lies at (its group, its place there). A buffer would be cast with the weights.
        cells = grid_rotations(length // group, group, width // config.heads, config.rotation_base)
        self.rotations = without_place(cells, 1)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Weights to start training from: normal with deviation 0.02; the head starts at zero."""
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)
        nn.init.zeros_(self.head.weight)

    def schedule(self) -> Schedule:
        """The head one by one, then a step per group."""
        return self.steps

    def _rotations(self, device: torch.device) -> Tensor:
        self.rotations = on_device(self.rotations, device)
        return self.rotations

    def _embed(self, ids_Bn: Tensor, first: int) -> Tensor:
        """[B, n (+ group - 1), D]: inputs made of the tokens from position `first` on."""
        return self._with_special(self.embedding(ids_Bn), first)

    def _with_special(self, x_BnD: Tensor, first: int) -> Tensor:
        """[B, n (+ group - 1), D]: embedded tokens; behind the head's last one stand the special ones."""
        cut = self.config.head_length - first
        if self.config.group == 1 or not 0 < cut <= x_BnD.shape[1]:
            return x_BnD
        special_BnD = self.special.expand(len(x_BnD), -1, -1)
        return torch.cat([x_BnD[:, :cut], special_BnD, x_BnD[:, cut:]], dim=1)

    def mask(self, length: int, device: torch.device) -> Tensor:
        """bool [L, L]: which rows a row sees."""
        group = self.config.group
        row = torch.arange(length, device=device)
        last = torch.where(row < self.config.head_length, row, (row // group + 1) * group - 1)
        return row[None, :] <= last[:, None]

    def logits(self, ids_Bn: Tensor, condition: Condition) -> Tensor:
        """Teacher-forced logits float32 [B, L, V] of the steps up to and including the one after the given tokens.

        `ids_Bn` are the tokens of the first steps; the last step's tokens are never fed.
        """
        return self.logits_of(self._states(self.embedding(ids_Bn), condition))

    def logits_of(self, h_BnD: Tensor, places: Tensor | None = None) -> Tensor:
        """float32 [B, n, V] from what `hidden` gives, whatever the places of the tokens."""
        return self.head(self.norm(h_BnD)).float()

    def hidden(
        self, ids_BL: Tensor, condition: Condition, *, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[B, L, D] behind the blocks, of all tokens: entry i predicts token i.

        It has seen the condition and the tokens of all steps before that of token i. With `masked` bool [B, L] the
        inputs of those tokens are the embedding `mask` [D], and every entry sees all other inputs, also later ones and
        those of its own group: for the masked term of `smalti.nn.mixture`. The last group is never an input.
        """
        x_BnD = self.embedding(ids_BL[:, : -self.config.group])
        if masked is None:
            return self._states(x_BnD, condition)
        assert mask is not None
        x_BnD = torch.where(masked[:, : x_BnD.shape[1], None], mask.to(x_BnD.dtype), x_BnD)
        return self._states(x_BnD, condition, see_all=True)

    def _states(self, x_BnD: Tensor, condition: Condition, see_all: bool = False) -> Tensor:
        """[B, L, D] behind the blocks, from the embedded tokens of the first steps."""
        x_BLD = self.condition(condition.classes).tokens_RTD
        if x_BnD.shape[1]:
            x_BLD = torch.cat([x_BLD, self._with_special(x_BnD, 0)], dim=1)
        x_BLD = self.dropout(x_BLD)
        length, device = x_BLD.shape[1], x_BLD.device
        rotations_np, mask = self._rotations(device)[:length], None if see_all else self.mask(length, device)
        for block in self.blocks:
            x_BLD = block(x_BLD, rotations_np=rotations_np, mask=mask)
        return x_BLD

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Categorical:
        """Logits of all given tokens, [1, B, L, V]; tokens may be cut after any step."""
        assert tokens.ids is not None
        last = self.steps.ends.index(self.layout.check_prefix(tokens.ids.shape[1]))
        fed = self.steps.ends[last - 1] if last else 0
        return Categorical(self.logits(tokens.ids[:, :fed], condition)[None])

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> DetailFlowState:
        """State before step `start`; the rows of earlier steps wait to run together with the next."""
        config, rows = self.config, len(branches)
        x_RnD = self.condition(condition.classes, branches=branches).tokens_RTD
        if start:
            assert known is not None
            x_BnD = self._embed(known[:, : self.steps.ends[start - 1]], 0)
            x_RnD = torch.cat([x_RnD, x_BnD.repeat(rows, 1, 1)], dim=1)
        shape = {"layers": config.depth, "rows": len(x_RnD), "heads": config.heads, "length": config.tokens}
        cache = KVCache(
            **shape,
            head_dim=config.width // config.heads,
            dtype=cache_dtype(x_RnD.dtype, x_RnD.device),
            device=x_RnD.device,
        )
        rotations = self._rotations(x_RnD.device)
        return DetailFlowState(step=start, rows=rows, cache=cache, rotations=rotations, pending=x_RnD)

    def predict(self, state: DetailFlowState) -> Categorical:
        """Logits [R, B, n, V] of step `state.step`.

        Rows of earlier steps stand in the cache as they were computed, under the mask of their own step; the rows of
        this step see all of them and each other, so that only a jump over several steps needs a mask.
        """
        x_RnD, count, first = state.pending, self.steps[state.step].count, state.cache.used
        length = x_RnD.shape[1]
        mask = self.mask(length, x_RnD.device) if length > count else None
        rotations_np = state.rotations[first : first + length]
        for i, block in enumerate(self.blocks):
            x_RnD = block(x_RnD, rotations_np=rotations_np, mask=mask, cache=state.cache, layer=i)
        state.cache.advance(length)
        return Categorical(self.logits_of(x_RnD[:, -count:]).unflatten(0, (state.rows, -1)))

    def accept(self, state: DetailFlowState, choice: Choice) -> None:
        """The chosen tokens become the input of the next step."""
        assert choice.ids is not None
        state.step += 1
        if state.step < len(self.steps):
            first = self.steps.ends[state.step - 1] - choice.ids.shape[1]
            state.pending = self._embed(choice.ids, first).repeat(state.rows, 1, 1)

    def unguide(self, state: DetailFlowState) -> bool:
        """Keeps the conditional rows of the cache and the pending inputs."""
        batch = len(state.pending) // state.rows
        state.rows, state.pending = 1, state.pending[:batch]
        state.cache.keep_rows(batch)
        return True
