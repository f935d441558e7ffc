"""Do tokens stay when the image hardly changes, and do images stay when they are encoded again and again?

Shape suffixes: B images, L tokens, H W pixels.
"""

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from smalti.eval.pixel import capped, psnr
from smalti.images import enlarge, read_images, to_pil, to_uint8
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import Tokens

ROUNDS = 5


def brighter(images: Tensor) -> Tensor:
    """One gray level more (of 255), clipped."""
    return (images + 1 / 255).clamp(max=1)


def darker(images: Tensor) -> Tensor:
    """One gray level less, clipped."""
    return (images - 1 / 255).clamp(min=0)


def shifted(images: Tensor) -> Tensor:
    """One pixel to the right, the left column repeated."""
    return torch.cat([images[..., :1], images[..., :-1]], dim=-1)


def jpeg95(images: Tensor) -> Tensor:
    """Through a JPEG file of quality 95 (Pillow, 4:2:0)."""
    coded = []
    for image in images:
        file = io.BytesIO()
        to_pil(image.cpu()).save(file, "JPEG", quality=95)
        coded.append(read_images(Image.open(file)))
    return torch.cat(coded).to(images)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "plus one gray level": brighter,
    "minus one gray level": darker,
    "shift of one pixel": shifted,
    "JPEG quality 95": jpeg95,
    "mirrored": lambda images: images.flip(-1),
}
"""What is done to an image. Mirroring is not undone in the tokens: it tells codes bound to places from a reordering."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Shares are over all tokens of all images; continuous latents have correlations instead."""

    images: int
    unchanged: dict[str, float]
    """By change: share of positions whose code stays (latents: correlation of values with the original's)."""
    rounds_unchanged: list[float]
    """After 1, 2, ... rounds of decode and encode: share of codes (or correlation) against the round before."""
    rounds_psnr: list[float]
    """Mean PSNR, dB, of the image after each round against the image that was encoded first."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def stability(tokenizer: Tokenizer, images: Tensor, *, rounds: int = ROUNDS) -> Stability:
    """Encodes changed images [B, 3, H, W] in [0, 1], and re-encodes reconstructions, rounded to 8 bits, `rounds` times.

    Errors: ValueError for images the tokenizer does not take.
    """
    first = tokenizer.encode(images)
    unchanged = {name: _agreement(first, tokenizer.encode(change(images))) for name, change in CHANGES.items()}
    size = (images.shape[-2], images.shape[-1])
    before, shares, values = first, [], []
    for _ in range(rounds):
        decoded = to_uint8(enlarge(tokenizer.decode(before).cpu(), size)).float() / 255
        values.append(float(capped(psnr(images.cpu(), decoded)).mean()))
        after = tokenizer.encode(decoded)
        shares.append(_agreement(before, after))
        before = after
    return Stability(images=len(images), unchanged=unchanged, rounds_unchanged=shares, rounds_psnr=values)


def _agreement(a: Tokens, b: Tokens) -> float:
    """Share of equal codes where both images have a token there, over the tokens of the longer; or correlation."""
    if a.latents is not None and b.latents is not None:
        pair = torch.stack([a.latents.flatten(), b.latents.flatten()]).double().cpu()
        return float(torch.corrcoef(pair)[0, 1])
    assert a.ids is not None and b.ids is not None
    width = min(a.ids.shape[1], b.ids.shape[1])
    left, right = a.ids[:, :width].cpu(), b.ids[:, :width].cpu()
    same = ((left == right) & (left >= 0)).sum()
    return float(same) / float(torch.maximum(a.lengths, b.lengths).sum())
