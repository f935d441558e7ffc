"""The Tokenizer contract: images to tokens and back, whatever the family.

Shape suffixes: B batch, H W pixels, L tokens.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from smalti.images import Resize, check_images, resize_images
from smalti.tokens import PAD, Choice, Origin, TokenLayout, Tokens


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Which image sizes a tokenizer takes."""

    kind: Literal["fixed", "multiple_of", "any"]
    """fixed: exactly `value`; multiple_of: both sides a multiple of `value`; any: at least 1 pixel."""
    value: int = 1
    """Pixels."""

    def allows(self, height: int, width: int) -> bool:
        """True if an image of this size can be encoded."""
        if self.kind == "fixed":
            return height == width == self.value
        return self.kind == "any" or (height % self.value == 0 and width % self.value == 0)

    def __str__(self) -> str:
        if self.kind == "fixed":
            return f"{self.value}x{self.value} pixels"
        return "any size" if self.kind == "any" else f"sides that are multiples of {self.value} pixels"


class Feedback(Protocol):
    """What a generator is fed after each choice, where that needs the tokenizer.

    VAR feeds the next map computed from the sum of all maps so far; most families feed ids alone.
    """

    steps: int
    """Number of steps consumed."""

    def push(self, step: int, choice: Choice) -> Tensor | None:
        """Consumes the choice of a step; returns the generator's input for the next step, [B, n, C], if it has one."""
        ...

    def push_prefix(self, ids: Tensor, steps: int) -> Tensor | None:
        """Consumes steps up to (not including) `steps` from known tokens at once; returns `history`.

        `ids` int64 [B, >= n], or float [B, >= n, C] where tokens are latents.
        """
        ...

    def renew(self, ids: Tensor, aim: Tensor | None) -> Tensor:
        """The known tokens `ids` [B, n] of the next step, or those that now come nearest to `aim`.

        Codes of what earlier steps left over fit only those earlier steps; where other tokens stand there now, they
        are chosen anew. `aim` is what `Tokenizer.aim` gave for the image they come from, None if it is not known.
        """
        ...

    def reached(self) -> Tensor | None:
        """What the tokens so far add up to, an `aim` for `renew`; None where every token stands alone."""
        ...

    def history(self) -> Tensor | None:
        """Every input returned so far, [B, n, C]: what a second model needs to go on."""
        ...

    def latents(self) -> Tensor | None:
        """What to decode instead of the ids, where choices were soft; None otherwise."""
        ...


class NoFeedback:
    """For generators that are fed ids alone."""

    def __init__(self) -> None:
        self.steps = 0

    def push(self, step: int, choice: Choice) -> None:
        """Counts the step."""
        self.steps = step + 1

    def push_prefix(self, ids: Tensor, steps: int) -> None:
        """Counts the steps."""
        self.steps = steps

    def renew(self, ids: Tensor, aim: Tensor | None) -> Tensor:
        """The same tokens."""
        return ids

    def reached(self) -> None:
        """Nothing."""

    def history(self) -> None:
        """Nothing."""

    def latents(self) -> None:
        """Nothing."""


class Tokenizer(nn.Module, ABC):
    """Images to tokens and back.

    Images are float [B, 3, H, W], RGB in [0, 1], for every family; each converts to its own range inside. For a video
    tokenizer (`frames` > 0) read "clips [B, 3, T, H, W]" wherever this contract says images.
    """

    name: str = ""
    """Registry name or path it was loaded from."""
    fingerprint: str = ""
    """sha256 over the weights, set on loading; goes into every token file."""
    resize: Resize = Resize()
    """How `preprocess` brings an image to a legal size."""
    sizes: Sizes
    frames: int = 0
    """Frames T of every clip; 0 = still images."""
    places: bool = True
    """False where the tokens of a grid stand for no place of the image, so that a mask cannot choose among them."""
    decode_options: type | None = None
    """Dataclass that `decode(options=)` takes; None = there are no options."""
    _layout: TokenLayout
    """The one layout of a tokenizer of one size; families of several sizes override `layout` instead."""

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        """Token layout for an image size in pixels (side, or height and width); None = the default size.

        Errors: ValueError for a size the tokenizer does not take.
        """
        side = self.sizes.value
        if size not in (None, side, (side, side)):
            raise ValueError(f"{self.name or 'this tokenizer'} has tokens for {side}x{side} pixels only, got {size}")
        return self._layout

    @abstractmethod
    def _encode(self, images: Tensor, rng: torch.Generator | None) -> Tokens: ...

    @abstractmethod
    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: torch.Generator | None) -> Tensor: ...

    def encode(self, images: Tensor, *, rng: torch.Generator | None = None) -> Tokens:
        """Tokens of images [B, 3, H, W] in [0, 1]; deterministic unless a family says so and `rng` is given.

        Errors: ValueError for a wrong shape, dtype, range, NaN or size, before the forward pass.
        """
        check_images(images, frames=self.frames)
        height, width = images.shape[-2:]
        if not self.sizes.allows(height, width):
            raise ValueError(
                f"{self.name or type(self).__name__} takes {self.sizes}, got {height}x{width}: "
                "resize with tokenizer.preprocess(images), or read_images(path, size=...)"
            )
        with torch.no_grad():
            tokens = self._encode(images.to(self.device, torch.float32), rng)
        origin = self.origin((height, width))
        if origin is not None and rng is not None:
            origin = replace(origin, seed=rng.initial_seed())
        return replace(tokens, origin=origin)

    def decode(
        self, tokens: Tokens, *, size: int | None = None, options: Any = None, rng: torch.Generator | None = None
    ) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] from whole or prefix-cut tokens.

        `size` asks for another output side, pixels, where the family has one; `options` is a `decode_options`.
        Errors: ValueError for tokens of another tokenizer or layout, ids out of range, or another kind of options.
        """
        self.check_tokens(tokens)
        self._check_options(options)
        with torch.no_grad():
            return self._decode(tokens.to(self.device), size, options, rng).clamp(0, 1)

    def _check_options(self, options: Any) -> None:
        who, kind, got = self.name or type(self).__name__, self.decode_options, type(options).__name__
        if options is None or (kind is not None and isinstance(options, kind)):
            return
        if kind is None:
            raise ValueError(f"{who} has no decode options, got {got}: decode without options")
        raise ValueError(f"{who} decodes with options={kind.__name__}(...), got {got}")

    def _check_side(self, size: int | None) -> None:
        """For families of one size: a ValueError if `decode` is asked for another."""
        if size not in (None, self.sizes.value):
            raise ValueError(f"this tokenizer decodes to {self.sizes.value} pixels only, got size={size}")

    def check_tokens(self, tokens: Tokens) -> None:
        """A ValueError that names both tokenizers if the tokens are not this one's."""
        if tokens.origin is not None and self.fingerprint and tokens.origin.weights != self.fingerprint:
            raise ValueError(
                f"these tokens were made by {tokens.origin.tokenizer} (weights {tokens.origin.weights[:12]}), not to "
                f"be decoded by {self.name} (weights {self.fingerprint[:12]}): load the tokenizer that made them"
            )
        size = tokens.origin.image_size if tokens.origin is not None else self.image_size(tokens.layout)
        if tokens.layout != self.layout(size):
            raise ValueError(
                f"these tokens have layout {describe(tokens.layout)}; {self.name or type(self).__name__} has "
                f"{describe(self.layout(size))}: load the tokenizer that made them"
            )
        tokens.check_ids()

    def image_size(self, layout: TokenLayout) -> tuple[int, int] | None:
        """Height and width of the images whose tokens have this layout, pixels; None = the default size.

        Here: a grid of cells of `sizes.value` pixels, each of one token or several in a row; families of many sizes
        that arrange tokens otherwise override it.
        """
        grid = layout.segments[-1].shape
        if self.sizes.kind != "multiple_of" or len(grid) < 2:
            return None
        return grid[0] * self.sizes.value, grid[1] * self.sizes.value

    def preprocess(self, images: Tensor) -> Tensor:
        """Images brought to a size this tokenizer takes, by `resize` (fixed size: center crop and resample)."""
        if self.frames and images.ndim == 5:
            stills = images.transpose(1, 2)
            return self._resized(stills.flatten(0, 1)).unflatten(0, stills.shape[:2]).transpose(1, 2)
        return self._resized(images)

    def _resized(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.sizes.allows(height, width):
            return images
        if self.sizes.kind == "fixed":
            return resize_images(images, self.sizes.value, self.resize)
        m = self.sizes.value
        top, left = height % m // 2, width % m // 2
        return images[..., top : top + height // m * m, left : left + width // m * m]

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Images in about [0, 1], not clamped, from what `Feedback.latents` gives; for families that decode softly."""
        raise ValueError(f"{self.name or type(self).__name__} has no soft decoding: use Sampling(soft=False)")

    def size_of(self, k: int) -> int | None:
        """Side of the image that a prefix of `k` tokens decodes to, pixels; None = that of the whole image."""
        return None

    def preview(self, tokens: Tokens, known: Tensor | None = None) -> Tensor:
        """A picture of an unfinished sequence, [B, 3, H, W] in [0, 1]; undecided ids are -1 or beyond the columns.

        A legal prefix is decoded; anything else is filled up with the image's first decided token. Families that know
        what an unknown token should look like do better. `known` bool [B, n] marks what is decided, by default what is
        there.
        """
        width, length = tokens.values.shape[1], tokens.layout.length
        known = tokens.values != PAD if known is None and tokens.ids is not None else known
        if width in tokens.layout.prefixes and (known is None or bool(known.all())):
            return self.decode(tokens)
        first = tokens.values[:, :1]
        if known is not None:
            place_B1 = known.to(torch.uint8).argmax(dim=1, keepdim=True)
            first = tokens.values.take_along_dim(place_B1.view(-1, 1, *[1] * (first.ndim - 2)), dim=1)
        if tokens.ids is not None:
            first = first.clamp_min(0)
        values = (
            tokens.values
            if known is None
            else torch.where(known.view(*known.shape, *[1] * (first.ndim - 2)), tokens.values, first)
        )
        filled = torch.cat([values, first.expand(-1, length - width, *first.shape[2:])], dim=1)
        kind = "ids" if tokens.ids is not None else "latents"
        return self.decode(replace(tokens, **{kind: filled}, lengths=torch.full((len(tokens),), length)))

    def aim(self, images: Tensor) -> Tensor | None:
        """What `Feedback.renew` fits known tokens of images [B, 3, H, W] to; None where every token stands alone."""
        return None

    def feedback(self, batch: int) -> Feedback:
        """A fresh feedback for generating `batch` images."""
        return NoFeedback()

    def origin(self, image_size: tuple[int, int]) -> Origin | None:
        """The origin stamped on tokens; None for a tokenizer that was built by hand and has no fingerprint."""
        if not self.fingerprint:
            return None
        return Origin(
            tokenizer=self.name, weights=self.fingerprint, image_size=image_size, preprocessing=str(self.resize)
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def describe(layout: TokenLayout) -> str:
    """One line: shapes and vocabulary, e.g. "1x1, 2x2 of 4096 codes"."""
    shapes = ["x".join(map(str, s.shape)) for s in layout.segments]
    shown = ", ".join(shapes if len(shapes) <= 4 else [*shapes[:2], "...", shapes[-1]])
    vocab = layout.segments[0].vocab
    return f"{shown} of {vocab} codes" if vocab else f"{shown} of latents"
