"""Known tokens: given from outside and kept instead of drawn. In-painting, completion, class editing.

Shape suffixes: B batch, L tokens, n positions of a step, H W pixels or cells.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.decoding.schedules import Schedule
from smalti.tokenizers.base import Feedback
from smalti.tokens import PAD, Choice, TokenLayout, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """Tokens given from outside: kept instead of drawn."""

    values: Tensor
    """Of the whole sequence: ids int64 [B, L], or latents float [B, L, C]."""
    keep: Tensor
    """bool [B, L]: True where the given token stays."""
    aim: Tensor | None = None
    """What `Tokenizer.aim` gives for the images [B, ...] that the tokens come from: then tokens that code what earlier
    ones left over are fitted to the earlier ones that are drawn (`Feedback.renew`)."""

    def __post_init__(self) -> None:
        if self.values.shape[:2] != self.keep.shape or self.keep.dtype != torch.bool:
            raise ValueError(
                f"known tokens and keep mask must have one [batch, length], the mask must be bool; got tokens "
                f"{list(self.values.shape)} and mask {list(self.keep.shape)} of {self.keep.dtype}"
            )
        if self.values.ndim == 2 and (self.values[self.keep] < 0).any():
            raise ValueError("a kept token has no id: known tokens must cover every position of the keep mask")

    def __getitem__(self, rows: slice | Tensor) -> "Known":
        """The known tokens of some images."""
        return self._each(lambda x: x[rows])

    def to(self, device: torch.device | str) -> "Known":
        """The same tokens on another device."""
        return self._each(lambda x: x.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Known":
        aim = change(self.aim) if self.aim is not None else None
        return Known(values=change(self.values), keep=change(self.keep), aim=aim)

    def check(self, layout: TokenLayout, batch: int) -> None:
        """A ValueError if these are not tokens of a layout for a batch of images."""
        if tuple(self.keep.shape) != (batch, layout.length):
            raise ValueError(
                f"known tokens must be [{batch}, {layout.length}] for {batch} images of this model, "
                f"got {list(self.keep.shape)}"
            )
        if layout.continuous != (self.values.ndim == 3):
            raise ValueError(f"this model's tokens are {'latents' if layout.continuous else 'ids'}; the known ones not")

    def alone(self) -> Tensor:
        """The known tokens, -1 (ids) or 0 (latents) everywhere else."""
        if self.values.ndim == 2:
            return self.values.masked_fill(~self.keep, PAD)
        return self.values.masked_fill(~self.keep[..., None], 0)

    def leading_steps(self, schedule: Schedule) -> int:
        """How many first steps of a schedule are known for all images."""
        if schedule.by_confidence:  # known positions are taken first
            fewest = int(self.keep.sum(dim=1).min())
            return sum(end <= fewest for end in schedule.ends)
        return next((i for i, known in enumerate(self.whole_steps(schedule)) if not known), len(schedule))

    def whole_steps(self, schedule: Schedule) -> list[bool]:
        """For every step of a fixed order: are all its tokens known for all images?"""
        kept_L = self.keep.all(dim=0).cpu()
        return [step.positions is not None and bool(kept_L[step.positions].all()) for step in schedule]

    def override(self, choice: Choice, positions: Tensor, feedback: Feedback) -> Choice:
        """The choice of the next step, at positions int64 [n], with the known tokens in place."""
        known_Bn, keep_Bn = feedback.renew(self.values[:, positions], self.aim), self.keep[:, positions]
        if choice.latents is not None:
            return replace(choice, latents=torch.where(keep_Bn[..., None], known_Bn, choice.latents))
        assert choice.ids is not None
        ids_Bn = torch.where(keep_Bn, known_Bn, choice.ids)
        if choice.soft is None:
            return replace(choice, ids=ids_Bn)
        exact = F.one_hot(known_Bn.clamp_min(0), choice.soft.shape[-1]).to(choice.soft.dtype)
        return replace(choice, ids=ids_Bn, soft=torch.where(keep_Bn[..., None], exact, choice.soft))

    @classmethod
    def from_mask(cls, tokens: Tokens, mask: Tensor) -> "Known":
        """Keeps the tokens whose place is kept: in-painting, out-painting, class editing.

        `mask` bool [H, W] or [B, H, W] in pixels or cells, True = keep. Per map, as VAR's editing does: the mask on the
        finest grid, resampled bilinearly, above 0.5; a single token that stands for the whole image is always kept.
        Errors: ValueError for tokens that are not whole, or another shape of mask.
        """
        if (tokens.lengths < tokens.layout.length).any():
            raise ValueError("in-painting needs whole sequences: encode the image, and do not cut its tokens")
        if mask.dtype != torch.bool or mask.ndim not in (2, 3):
            raise ValueError(
                f"the mask must be bool [H, W] or [B, H, W], True = keep; got {mask.dtype} {list(mask.shape)}"
            )
        if mask.ndim == 3 and mask.shape[0] != len(tokens):
            raise ValueError(f"got masks for {mask.shape[0]} images and tokens of {len(tokens)}")
        keep = keep_of(tokens.layout, mask.expand(len(tokens), *mask.shape[-2:]))
        return cls(values=tokens.values, keep=keep.to(tokens.values.device))


def keep_of(layout: TokenLayout, mask_BHW: Tensor) -> Tensor:
    """bool [B, L]: which tokens of a layout stand for kept places.

    Maps and clips [..., h, w] by place, every frame alike. A sequence in front of a map (Hita's holistic tokens)
    describes the whole image and is kept. Errors: ValueError for a layout whose tokens have no place at all.
    """
    maps = [s for s in layout.segments if len(s.shape) >= 2]
    if not maps:
        raise ValueError(
            "a mask can only keep tokens that lie on a map; the tokens of this model are a sequence without places: "
            "keep its first tokens instead (Known(values=ids, keep=...)), or use a model over maps"
        )
    height, width = maps[-1].shape[-2:]
    finest = F.adaptive_avg_pool2d(mask_BHW[:, None].float(), (height, width))
    finest = (finest > 0.5).float()
    parts = []
    for segment in layout.segments:
        if segment.count <= 3 or len(segment.shape) == 1:
            # kept: the authors' code of VAR, too, always takes the given token at scales of up to 3
            parts.append(torch.ones(len(mask_BHW), segment.count, dtype=torch.bool, device=mask_BHW.device))
        else:
            resampled = F.interpolate(finest, size=segment.shape[-2:], mode="bilinear", align_corners=False)
            frames = segment.count // (segment.shape[-1] * segment.shape[-2])
            parts.append((resampled > 0.5).flatten(1).repeat(1, frames))
    return torch.cat(parts, dim=1)
