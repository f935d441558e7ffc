"""ImageGenerator: generator, tokenizer, text encoder and sampler settings in one object; what a user holds."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.known import Known
from smalti.decoding.loop import Partial, Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.decoding.settings import Settings
from smalti.generators.base import Condition, Generator
from smalti.nn.linear import unpack_linears
from smalti.text.base import TextEncoder
from smalti.text.t5 import T5Text
from smalti.tokenizers.base import Tokenizer, describe
from smalti.tokens import PAD, Tokens

Class = int | str | None
Guided = Guidance | float | Sequence[float] | None
"""A guidance, its scale alone, one scale per image, or the published guidance."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """Generated images and how they came about."""

    images: Tensor
    """float [B, 3, H, W] in [0, 1]."""
    tokens: Tokens
    """The tokens the images were decoded from (with soft sampling: the most likely ones)."""
    provenance: dict[str, Any]
    """Models, weights, condition, seed, settings: everything needed to make the images again. Plain data."""
    settings: Settings
    """The sampler settings used, the published ones unless the caller said otherwise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Preview:
    """An unfinished generation, after one step."""

    step: int
    """Step just made, from 0."""
    steps: int
    """Steps in all."""
    tokens: Tokens
    """The tokens decided so far."""
    images: Tensor
    """float [B, 3, H, W] in [0, 1]: what they decode to."""
    done: bool
    """True for the last one; its images are the result."""


@dataclass(kw_only=True, eq=False)
class ImageGenerator:
    """Text or classes in, images out.

    >>> import smalti
    >>> out = smalti.load("mini/var-gen").generate(text=["a red apple"], seed=0)
    >>> out.images.shape
    torch.Size([1, 3, 64, 64])
    """

    generator: Generator
    tokenizer: Tokenizer
    text_encoder: TextEncoder | None = None
    """None for a model that knows classes only."""
    classes: tuple[str, ...] = ()
    """Class names, where they are known."""
    settings: Settings = field(default_factory=Settings)
    """Used where the caller says nothing: the published ones."""
    then: "ImageGenerator | None" = None
    """The model that takes over at step `settings.handover`."""
    name: str = ""
    fingerprint: str = ""
    """sha256 over the generator's weights."""
    license: str = ""
    """Licence of the weights."""

    def __post_init__(self) -> None:
        layout = self.tokenizer.layout(self.tokenizer.image_size(self.generator.layout))
        if self.generator.layout != layout:
            raise ValueError(
                f"generator {self.name} writes {describe(self.generator.layout)}, but tokenizer {self.tokenizer.name} "
                f"reads {describe(layout)}: load the tokenizer the generator was trained on"
            )

    def class_id(self, value: Class) -> int:
        """Number of a class given by number or name (case does not matter); -1 for None.

        Errors: ValueError for an unknown class, with near matches.
        """
        if value is None:
            return -1
        count = self.generator.classes
        if isinstance(value, int) or str(value).isdigit():
            if not 0 <= int(value) < count:
                raise ValueError(f"class {value} is out of range: {self.name} knows classes 0..{count - 1}")
            return int(value)
        names = [n.lower() for n in self.classes]
        if value.lower() in names:
            return names.index(value.lower())
        raise ValueError(
            f"{self.name} has no class {value!r}{_near(value, self.classes)}; see `smalti info {self.name}`"
        )

    def condition(
        self, classes: Sequence[Class] | None = None, text: Sequence[str] | None = None, n: int = 1
    ) -> Condition:
        """Condition for `n` images of every class or text; with neither, `n` images of anything.

        Errors: ValueError for unknown classes, empty text, text for a class-only model, or lists of unequal length.
        """
        if isinstance(text, str) or isinstance(classes, (str, int)):
            raise ValueError('classes and text are lists, one entry per image: text=["a red apple"], classes=[3]')
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        if classes is not None and text is not None and len(classes) != len(text):
            raise ValueError(
                f"got {len(classes)} classes and {len(text)} texts: one of each per image, or only one kind"
            )
        prompts = classes if classes is not None else text
        if prompts is not None and not len(prompts):
            raise ValueError("the list of classes or texts is empty: give at least one")
        count = len(prompts) if prompts is not None else 1
        ids = [self.class_id(c) for c in classes] if classes is not None else [-1] * count
        condition = Condition(classes=torch.tensor(ids).repeat_interleave(n))
        if text is None:
            return condition
        if self.text_encoder is None:
            raise ValueError(f"{self.name} was trained on classes only: use classes=[...] instead of text")
        features, mask = self.text_encoder.encode([*text, ""] if self.generator.empty_text else list(text))
        condition = replace(
            condition,
            text=features[: len(text)].repeat_interleave(n, 0),
            text_mask=mask[: len(text)].repeat_interleave(n, 0),
        )
        if not self.generator.empty_text:
            return condition
        return replace(condition, empty_text=features[-1:], empty_mask=mask[-1:])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.tokenizer.device

    def to(self, device: torch.device | str) -> "ImageGenerator":
        """Moves all models; returns self. Weights packed for the CPU are unpacked first."""
        if torch.device(device).type != "cpu":
            unpack_linears(self.generator)
        self.generator.to(device)
        self.tokenizer.to(device)
        if isinstance(self.text_encoder, T5Text):
            self.text_encoder.to(device)
        if self.then is not None:
            self.then.to(device)
        return self

    def with_steps(self, steps: int) -> "ImageGenerator":
        """This generator deciding a sequence in `steps` steps, its published settings made for as many.

        The weights are shared, `self` stays as it is. Errors: ValueError for a model whose number of steps is fixed.
        """
        generator, settings = self.generator.with_steps(steps, self.settings)
        return replace(self, generator=generator, settings=settings)

    def _settings(
        self,
        guidance: Guided,
        sampling: Sampling | None,
        handover: int | None = None,
        then: "ImageGenerator | None" = None,
    ) -> Settings:
        """The caller's settings over the published ones; a plain number replaces the scale, not the curve."""
        settings = self.settings
        if guidance is not None:
            scale = tuple(guidance) if isinstance(guidance, Sequence) else guidance
            new = guidance if isinstance(guidance, Guidance) else replace(settings.guidance, scale=scale)
            settings = replace(settings, guidance=new)
        if sampling is not None:
            settings = replace(settings, sampling=sampling)
        if then is not None:
            return replace(settings, then=then.name, handover=handover)
        return replace(settings, handover=handover if handover is not None else settings.handover)

    def _stages(self, settings: Settings, second: "ImageGenerator | None", second_settings: Settings) -> list[Stage]:
        handover = settings.handover
        first = Stage(model=self.generator, sampling=settings.sampling, guidance=settings.guidance, until=handover)
        if second is None:
            if handover is not None:
                raise ValueError("handover needs a second generator: pass then=...")
            return [first]
        steps = len(self.generator.schedule())
        if handover is None or not 0 <= handover <= steps:
            raise ValueError(
                f"handover must be the number of steps the first generator makes, 0..{steps}; got {handover}"
            )
        if second.tokenizer.fingerprint != self.tokenizer.fingerprint:
            raise ValueError(
                f"{self.name} writes tokens of {self.tokenizer.name}, {second.name} of {second.tokenizer.name}: "
                "a hand-over needs two generators of the same tokenizer"
            )
        chosen = {"sampling": second_settings.sampling, "guidance": second_settings.guidance}
        return [first, Stage(model=second.generator, **chosen)]

    def _decode(
        self, stages: Sequence[Stage], condition: Condition, seed: int, known: Known | None
    ) -> Iterator[Partial]:
        feedback = self.tokenizer.feedback(len(condition))
        noise = Noise.of(seed, len(condition), self.device)
        return decode(stages, condition.to(self.device), feedback=feedback, noise=noise, known=known)

    def _plan(
        self,
        guidance: Guided,
        sampling: Sampling | None,
        handover: int | None,
        then: Any,
        steps: int | None,
    ) -> "tuple[list[Stage], Settings, ImageGenerator | None]":
        """Stages, settings of the first, and the second generator.

        A second generator of the caller's uses its own published settings where the caller says nothing; that of a
        published pair uses the pair's. `steps` are those of the first.
        """
        first = self if steps is None else self.with_steps(steps)
        settings = first._settings(guidance, sampling, handover, then)
        second = then or self.then
        second_settings = then._settings(guidance, sampling) if then is not None else settings
        return first._stages(settings, second, second_settings), settings, second

    def stream(
        self,
        *,
        classes: Sequence[Class] | None = None,
        text: Sequence[str] | None = None,
        n: int = 1,
        seed: int = 0,
        guidance: Guided = None,
        sampling: Sampling | None = None,
        steps: int | None = None,
        then: "ImageGenerator | None" = None,
        handover: int | None = None,
        budget: int | None = None,
        known: Known | None = None,
    ) -> Iterator[Preview]:
        """The generation after every step, with what it decodes to so far. Arguments as for `generate`."""
        condition = self.condition(classes, text, n)
        stages, _, _ = self._plan(guidance, sampling, handover, then, steps)
        if budget is not None:
            self.generator.layout.check_prefix(budget)
        for partial in self._decode(stages, condition, seed, known):
            tokens = self._tokens(partial)
            last = partial.count == (budget or self.generator.layout.length)
            yield Preview(
                step=partial.step, steps=partial.steps, tokens=tokens, images=self._images(partial, tokens), done=last
            )
            if last:
                return

    def generate(
        self,
        *,
        classes: Sequence[Class] | None = None,
        text: Sequence[str] | None = None,
        n: int = 1,
        seed: int = 0,
        guidance: Guided = None,
        sampling: Sampling | None = None,
        steps: int | None = None,
        then: "ImageGenerator | None" = None,
        handover: int | None = None,
        budget: int | None = None,
        known: Known | None = None,
        batch: int = 64,
    ) -> Generation:
        """Images of classes, texts, both, or anything.

        `n` images per entry; image i uses seed + i, alone or in any batch. `guidance` s means u + s (c - u), s = 1 is
        none. `steps` is the number of decoding steps, for a model that leaves it open. `then` takes over after
        `handover` steps of this model's schedule. `budget` stops early after that many tokens. `known` tokens are kept.
        Errors: ValueError for anything a model cannot serve, before the first forward pass.
        """
        condition = self.condition(classes, text, n)
        stages, settings, second = self._plan(guidance, sampling, handover, then, steps)
        if budget is not None:
            self.generator.layout.check_prefix(budget)
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        images, tokens = [], []
        for start in range(0, len(condition), batch):
            rows = slice(start, min(start + batch, len(condition)))
            kept, part = known[rows] if known else None, condition[rows]
            final = None
            for partial in self._decode([_of_rows(s, rows) for s in stages], part, seed + start, kept):
                final = partial
                if partial.count == budget:
                    break
            assert final is not None
            tokens.append(self._tokens(final))
            images.append(self._images(final, tokens[-1]))
        provenance = self._provenance(condition, classes, text, seed, settings, second, stages)
        return Generation(images=torch.cat(images), tokens=Tokens.cat(tokens), provenance=provenance, settings=settings)

    def inpaint(self, images: Tensor, mask: Tensor, *, paste: bool = False, n: int = 1, **options: Any) -> Generation:
        """Images with the masked places painted anew under a class or text.

        `images` [B, 3, H, W] in [0, 1] of a size the tokenizer takes; `mask` bool [H, W] or [B, H, W], True = paint.
        Kept tokens that code what coarser ones left over are fitted to the coarser ones that are drawn.
        `n` versions of every image. `paste` puts the original pixels back where the mask is False. `options` as for
        `generate`, with one class or text for all images or one each. Errors: ValueError for a mask of another shape,
        or tokens that do not lie on a grid.
        """
        if not self.tokenizer.places:
            raise ValueError(
                f"the tokens of {self.tokenizer.name} stand for no places: a mask cannot choose among them"
            )
        tokens = self.tokenizer.encode(images)
        if mask.shape[-2:] != images.shape[-2:]:
            raise ValueError(f"the mask is {list(mask.shape[-2:])} pixels, the image {list(images.shape[-2:])}")
        known = replace(Known.from_mask(tokens, ~mask), aim=self.tokenizer.aim(images))
        for kind in ("classes", "text"):
            if options.get(kind) is not None and len(options[kind]) == 1:
                options[kind] = options[kind] * len(images)
        if options.get("classes") is None and options.get("text") is None:
            options["classes"] = [None] * len(images)
        rows = torch.arange(len(images)).repeat_interleave(n)
        made = self.generate(n=n, known=known[rows], **options)
        if not paste:
            return made
        paint = mask.expand(len(images), *mask.shape[-2:])[rows, None].to(made.images.device)
        return replace(made, images=torch.where(paint, made.images, images[rows].to(made.images)))

    def _tokens(self, partial: Partial) -> Tokens:
        """The decided prefix where the sequence may be cut there; else the whole one, -1 where undecided."""
        layout, values = self.generator.layout, partial.values
        size = self.tokenizer.image_size(layout) or (self.tokenizer.sizes.value, self.tokenizer.sizes.value)
        kind = "latents" if layout.continuous else "ids"
        whole = Tokens(layout=layout, **{kind: values}, origin=self.tokenizer.origin(size))
        leading = layout.continuous or bool((values[:, : partial.count] != PAD).all())
        return whole.prefix(partial.count) if leading and partial.count in layout.prefixes else whole

    def _images(self, partial: Partial, tokens: Tokens) -> Tensor:
        latents = partial.feedback.latents()
        if latents is None:
            return self.tokenizer.preview(tokens)
        with torch.inference_mode():
            return self.tokenizer.decode_latents(latents).clamp(0, 1)

    def _provenance(
        self,
        condition: Condition,
        classes: Sequence[Class] | None,
        text: Sequence[str] | None,
        seed: int,
        settings: Settings,
        then: "ImageGenerator | None",
        stages: Sequence[Stage],
    ) -> dict[str, Any]:
        second = {
            "name": then.name,
            "weights": then.fingerprint,
            "license": then.license,
            "steps": len(stages[-1].model.schedule()),
            "guidance": asdict(stages[-1].guidance),
            "sampling": asdict(stages[-1].sampling),
        } if then else None  # fmt: skip
        return {
            "generator": {"name": self.name, "weights": self.fingerprint, "license": self.license},
            "then": second,
            "tokenizer": {"name": self.tokenizer.name, "weights": self.tokenizer.fingerprint},
            "classes": list(classes) if classes is not None else None,
            "text": list(text) if text is not None else None,
            "images": len(condition),
            "seed": seed,
            "steps": len(stages[0].model.schedule()),
            "guidance": asdict(settings.guidance),
            "sampling": asdict(settings.sampling),
            "handover": settings.handover if then else None,
        }


def _of_rows(stage: Stage, rows: slice) -> Stage:
    """Per-image guidance scales cut to the rows of a batch."""
    scale = stage.guidance.scale
    if not isinstance(scale, tuple):
        return stage
    return replace(stage, guidance=replace(stage.guidance, scale=scale[rows]))


def _near(value: str, names: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(value, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(n) for n in near)}" if near else ""
