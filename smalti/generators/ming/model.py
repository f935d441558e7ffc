"""Ming-UniVision (arXiv 2510.06590; inclusionAI/Ming-UniVision, MIT): a language model that draws images.

Every step the language model reads the semantic feature of the last token, and a rectified-flow head draws the latent
of the next one. Image generation only: the head that writes text is not there.

Shape suffixes: B batch, R rows (branches x batch), T ids of the prompt, L tokens, n tokens of this pass, S places of
the cache, D width, C latent channels, W width of the flow head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smalti.decoding.guidance import Guidance
from smalti.decoding.prediction import Velocity, time_grid
from smalti.decoding.schedules import Schedule, raster
from smalti.generators.base import Condition, Generator
from smalti.generators.ming.config import MingConfig
from smalti.generators.ming.head import Flow, FlowHead
from smalti.generators.ming.language import LanguageModel, rotation_table
from smalti.generators.ming.prompt import Prompt
from smalti.nn.cache import KVCache
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, Segment, TokenLayout, Tokens

AUTHORS_GUIDANCE = Guidance(scale=3.0, image_scale=1.1)
"""The authors' defaults, which their code uses whatever is asked for."""


@dataclass(eq=False)
class MingState:
    """Where a generation stands."""

    step: int
    """The token that is drawn next."""
    branches: int
    """Row blocks of a prediction."""
    blocks: int
    """Row blocks that are run: a third branch that sees the same as the second is not."""
    feedback: Feedback
    cache: KVCache
    seen: Tensor
    """bool [R, S]: the places of the cache that a row sees; all of them behind the prompt."""
    sees_all: bool
    """True if no row has a place that it does not see."""
    place: Tensor
    """int64 [R, 1]: position of the next token, counted over the places that a row sees."""
    rotations: Tensor
    """complex64 [S, p]."""
    times: Tensor
    """[steps, W]: time embeddings of the Euler steps."""
    pending: Tensor
    """[B, n, D] inputs not yet run: of the last token, at the start also of all tokens before."""


class MingGenerator(Generator):
    """Draws continuous tokens one after the other, from a prompt of ids and from images inside it."""

    branches = ("cond", "null", "text_null")
    needs_text = True
    empty_text = True

    def __init__(self, config: MingConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.grid, config.grid)
        self.layout = TokenLayout(segments=(Segment(shape=shape, vocab=None),), prefixes=(config.grid**2,))
        self.language = LanguageModel(config)
        self.feed = nn.Sequential(
            nn.Linear(config.semantic_width, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.condition = nn.Sequential(
            nn.Linear(config.width, config.flow_width), nn.LayerNorm(config.flow_width, eps=1e-6)
        )
        self.head = FlowHead(config)
        self.initialize()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.language.embedding.weight.device

    def initialize(self) -> None:
        """Weights to start training from: the authors' standard deviations, a head of velocity 0."""
        self.language.initialize()
        self.head.initialize()

    def schedule(self) -> Schedule:
        """One token after the other."""
        return raster(self.layout)

    def check_condition(self, condition: Condition) -> None:
        """A ValueError unless there are ids of the vocabulary, the last of which opens an image, and no class."""
        if (condition.classes != -1).any():
            raise ValueError(f"class {int(condition.classes.max())} is out of range: this model knows no classes")
        text, mask, start = condition.text, condition.text_mask, self.config.start_id
        if text is None or mask is None:
            raise ValueError("this model is asked by text: give text=[...], or a Prompt of ids")
        if text.dtype != torch.int64 or text.ndim != 2:
            raise ValueError(f"this model reads ids, text int64 [batch, ids]; got {text.dtype} {list(text.shape)}")
        if ((text < 0) | (text >= self.config.vocab)).any():
            wrong = text[(text < 0) | (text >= self.config.vocab)][0]
            raise ValueError(f"id {int(wrong)} of the prompt is out of range: allowed are 0..{self.config.vocab - 1}")
        if (text[:, -1] != start).any() or not mask[:, -1].all():
            raise ValueError(f"every prompt must end with the id that opens an image, {start}; pad it on the left")
        width = self.config.semantic_width
        if isinstance(condition, Prompt) and condition.features is not None and condition.features.shape[2] != width:
            raise ValueError(f"images in the prompt have features of width {width}, got {condition.features.shape[2]}")

    def _embed(self, prompt: Prompt) -> tuple[Tensor, Tensor | None]:
        """Embeddings [B, T, D] of the prompt, and which of them are of images, bool [B, T]."""
        assert prompt.text is not None
        x_BTD = self.language.embedding(prompt.text)
        if prompt.features is None:
            return x_BTD, None
        image_BT = prompt.text == self.config.image_id
        return torch.where(image_BT[..., None], self._feed(prompt.features), x_BTD), image_BT

    def _feed(self, features_BnD: Tensor) -> Tensor:
        """Semantic features [B, n, Ds] as inputs of the language model [B, n, D]."""
        return self.feed(features_BnD.to(self.language.embedding.weight.dtype))

    def _rotations(self, count: int) -> Tensor:
        return rotation_table(count, self.config.head_width, self.config.rotation_base, self.device)

    # ---- all tokens at once

    def hidden(self, features_BnD: Tensor, prompt: Prompt, seen_BT: Tensor | None = None) -> Tensor:
        """What the head is conditioned on, [B, 1 + n, W], at every token; `features_BnD` are those of all but the last.

        `seen_BT` bool: the ids of the prompt that the tokens see; by default those of the branch "cond".
        """
        seen_BT = prompt.seen("cond") if seen_BT is None else seen_BT
        x_BTD, image_BT = self._embed(prompt)
        before, count = x_BTD.shape[1] - 1, features_BnD.shape[1]
        x_BnD = torch.cat([x_BTD, self._feed(features_BnD)], dim=1)
        length = before + 1 + count
        drawn = torch.arange(length, device=x_BnD.device) >= before  # the id that opens the image, and the tokens
        ids_Bn = torch.cat([prompt.seen("cond"), drawn.new_ones(len(x_BnD), count)], dim=1)
        seen_Bn = torch.cat([seen_BT, drawn.new_ones(len(x_BnD), count)], dim=1)
        mask = torch.where(drawn[:, None], seen_Bn[:, None], ids_Bn[:, None]) & _causal(length, length, x_BnD.device)
        places = torch.where(drawn, seen_Bn.cumsum(1), ids_Bn.cumsum(1)) - 1
        image_Bn = torch.cat([image_BT, ~drawn.new_ones(len(x_BnD), count)], dim=1) if image_BT is not None else None
        rotations = self._rotations(length)[places.clamp_min(0)]
        h_BnD = self.language(x_BnD, rotations, mask | _diagonal(length, x_BnD.device), image_Rn=image_Bn)
        return self.condition(h_BnD[:, before:])

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Velocity:
        """The velocity fields of all tokens, one branch; `flow_matching` of the objective scores them."""
        if feedback is None or tokens.latents is None:
            raise ValueError(
                "Ming is fed features made by its tokenizer: pass feedback=tokenizer.feedback(len(tokens))"
            )
        latents = tokens.latents
        features_BnD = feedback.push_prefix(latents, latents.shape[1] - 1)
        if features_BnD is None:
            features_BnD = latents.new_zeros(len(latents), 0, self.config.semantic_width)
        return self.flow(self.hidden(features_BnD, Prompt.of(condition)), branches=1)

    # ---- one token after the other

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> MingState:
        """State before token `start`; the features of earlier tokens come from `feedback`, which has consumed them."""
        assert feedback.steps == start, f"feedback has consumed {feedback.steps} tokens, not {start}"
        prompt = Prompt.of(condition)
        named = self.branches if self.config.quirks == "authors" else tuple(branches)
        run = named if prompt.text_null_mask is not None else named[:2]
        x_BTD, image_BT = self._embed(prompt)
        batch, ids, length = *x_BTD.shape[:2], self.layout.length
        seen_RT = torch.cat([prompt.seen(b) for b in run])
        history_BnD, opening_B1D = feedback.history(), x_BTD[:, -1:]
        state = MingState(
            step=start,
            branches=len(named),
            blocks=len(run),
            feedback=feedback,
            cache=self._cache(len(run) * batch, ids - 1 + length, x_BTD),
            seen=torch.cat([seen_RT, seen_RT.new_ones(len(seen_RT), length - 1)], dim=1),
            sees_all=bool(seen_RT.all()),
            place=seen_RT.sum(dim=1, keepdim=True) - 1,
            rotations=self._rotations(ids - 1 + length),
            times=self.embedded_times(),
            pending=opening_B1D if history_BnD is None else torch.cat([opening_B1D, self._feed(history_BnD)], dim=1),
        )
        if ids > 1:
            image = image_BT[:, :-1] if image_BT is not None else None
            self._read(x_BTD[:, :-1], prompt.seen("cond")[:, :-1], image, state)
        return state

    def _cache(self, rows: int, length: int, like: Tensor) -> KVCache:
        c = self.config
        shape = {"layers": c.depth, "rows": rows, "heads": c.kv_heads, "length": length, "head_dim": c.head_width}
        return KVCache(**shape, dtype=like.dtype, device=like.device)

    def _read(self, x_BnD: Tensor, seen_Bn: Tensor, image_Bn: Tensor | None, state: MingState) -> None:
        """Runs the prompt without its last id once per image, and gives every branch its keys and values."""
        batch, count = x_BnD.shape[:2]
        rotations = state.rotations[(seen_Bn.cumsum(dim=1) - 1).clamp_min(0)]
        mask = seen_Bn[:, None] & _causal(count, count, x_BnD.device) | _diagonal(count, x_BnD.device)
        cache = self._cache(batch, count, x_BnD)
        self.language(x_BnD, rotations, mask, cache, image_Bn)
        state.cache.values[..., :count, :] = cache.values.repeat(1, 1, state.blocks, 1, 1, 1)
        state.cache.advance(count)

    def predict(self, state: MingState) -> Velocity:
        """The velocity field of the next token."""
        x_RnD, used = state.pending.repeat(state.blocks, 1, 1), state.cache.used
        count = x_RnD.shape[1]
        mask = None if state.sees_all else state.seen[:, None, : used + count]
        if count > 1:
            causal = _causal(count, used + count, x_RnD.device)
            mask = causal.expand(len(x_RnD), -1, -1) if mask is None else mask & causal
        places = state.place + torch.arange(count, device=x_RnD.device)
        h_RnD = self.language(x_RnD, state.rotations[places], mask, state.cache)
        state.place = state.place + count
        return self.flow(self.condition(h_RnD[:, -1:]), branches=state.branches, blocks=state.blocks, times=state.times)

    def accept(self, state: MingState, choice: Choice) -> None:
        """Feeds the semantic feature of the latent."""
        feature_B1D = state.feedback.push(state.step, choice)
        assert feature_B1D is not None, "Ming needs the feedback of its tokenizer"
        state.pending = self._feed(feature_B1D)
        state.step += 1

    def unguide(self, state: MingState) -> bool:
        """Drops the rows of all branches but the conditional one."""
        if self.config.quirks == "authors":
            return False
        rows = len(state.seen) // state.blocks
        state.cache.keep_rows(rows)
        state.seen, state.place = state.seen[:rows], state.place[:rows]
        state.branches = state.blocks = 1
        return True

    # ---- the head

    def embedded_times(self) -> Tensor:
        """[steps, W]: time embeddings of the starts of the Euler steps."""
        grid = time_grid(self.config.flow_steps, self.config.time_shift)[:-1]
        return self.head.embed_times(torch.tensor(grid, device=self.device))

    def flow(
        self, condition_RnW: Tensor, *, branches: int, blocks: int | None = None, times: Tensor | None = None
    ) -> Velocity:
        """The velocity field of tokens under conditions of `blocks` row blocks, as a prediction of `branches`.

        A branch beyond the blocks repeats the last one.
        """
        blocks = blocks or branches
        flow = Flow(self.head, self.embedded_times() if times is None else times, condition_RnW)
        batch, count = len(condition_RnW) // blocks, condition_RnW.shape[1]

        def net(x_RnC: Tensor, step: int) -> Tensor:
            velocity = flow(x_RnC[: blocks * batch], step)
            missing = len(x_RnC) // batch - len(velocity) // batch
            return torch.cat([velocity, velocity[-batch:].repeat(missing, 1, 1)]) if missing else velocity

        return Velocity(
            net,
            (branches, batch, count, self.config.latent_channels),
            condition_RnW.device,
            integration_steps=self.config.flow_steps,
            time_shift=self.config.time_shift,
            guidance=AUTHORS_GUIDANCE if self.config.quirks == "authors" else None,
        )


def _causal(count: int, total: int, device: torch.device) -> Tensor:
    """bool [1, count, total]: the last `count` of `total` places see everything before them and themselves."""
    return torch.ones(1, count, total, dtype=torch.bool, device=device).tril(total - count)


def _diagonal(count: int, device: torch.device) -> Tensor:
    """bool [1, count, count]: everything sees itself, so that padding has something to see."""
    return torch.eye(count, dtype=torch.bool, device=device)[None]
