"""Rate and distortion of a tokenizer over its token budgets, next to a thumbnail of the same number of bits.

Shape suffixes: B batch, H W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from smalti.eval.bootstrap import Interval, mean_interval
from smalti.eval.pixel import capped, psnr, ssim
from smalti.eval.thumbnail import Thumbnails, thumbnails
from smalti.images import enlarge, to_uint8
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import TokenLayout, Tokens

Metric = Callable[[Tensor, Tensor], Tensor]
"""(reference, images) [B, 3, H, W] in [0, 1] -> [B], one finite number an image."""
PROTOCOL = (
    "encoded at the size given; scored at that size (smaller outputs enlarged bicubically); both images rounded to "
    "8 bits; PSNR: mean over images of 10 log10(1/mse) on RGB, capped at 100 dB; SSIM: Gaussian 11x11, sigma 1.5, "
    "valid region, RGB; 95 % percentile bootstrap over images (1000 rounds); differences are paired"
)
METRICS: dict[str, Metric] = {"psnr": lambda a, b: capped(psnr(a, b)), "ssim": ssim}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric at one budget."""

    tokenizer: Interval
    thumbnail: Interval
    difference: Interval
    """Tokenizer minus thumbnail, paired by image."""


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    """All metrics at one budget."""

    tokens: int
    bits: float
    """Nominal bits of the tokens."""
    bpp: float
    """Bits per pixel of the source."""
    thumbnail_bits: float
    """Mean bits of the thumbnails; never more than `bits`."""
    n: int
    """Number of images."""
    n_identical: int
    """Images that came back exactly."""
    metrics: dict[str, Comparison]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class BudgetSweep:
    """Rows and pictures of a sweep; pictures and values are in the order of the rows."""

    rows: list[BudgetRow]
    tokens: Tokens
    """All tokens of all images."""
    reconstructions: list[Tensor]
    """Per budget float [B, 3, H, W], rounded to 8 bits."""
    thumbnails: list[Thumbnails]
    values: list[dict[str, Tensor]]
    """Per budget and metric float64 [B]: the tokenizer's values."""


def budgets_of(layout: TokenLayout, limit: int = 16) -> list[int]:
    """The legal budgets, ascending; of more than `limit` the ones nearest to equal ratios, first and last included.

    >>> budgets_of(TokenLayout.scales((1, 2, 3), vocab=8))
    [1, 5, 14]
    """
    legal = list(layout.prefixes)
    if len(legal) <= limit:
        return legal
    ratio = (legal[-1] / legal[0]) ** (1 / (limit - 1))
    wanted = [legal[0] * ratio**i for i in range(limit)]
    return sorted({min(legal, key=lambda k: abs(k - w)) for w in wanted})


def sweep(
    tokenizer: Tokenizer,
    images: Tensor,
    *,
    budgets: Sequence[int] | None = None,
    metrics: Mapping[str, Metric] = METRICS,
    seed: int = 0,
    batch: int = 32,
    on_budget: Callable[[int], None] | None = None,
) -> BudgetSweep:
    """Reconstructs images [B, 3, H, W] in [0, 1] at every budget and scores them.

    `budgets` default to all legal ones (at most 16); `metrics` may add others, such as LPIPS; `seed` is the
    bootstrap's; `on_budget` is called with each budget when it is done. Errors: ValueError for an illegal budget or
    images the tokenizer does not take.
    """
    images = _rounded(images)
    tokens = Tokens.cat([tokenizer.encode(images[i : i + batch]) for i in range(0, len(images), batch)]).to("cpu")
    chosen = list(budgets) if budgets is not None else budgets_of(tokens.layout)
    for k in chosen:
        tokens.layout.check_prefix(k)
    result = BudgetSweep(rows=[], tokens=tokens, reconstructions=[], thumbnails=[], values=[])
    for k in chosen:
        decoded = _reconstruct(tokenizer, tokens.prefix(k), (images.shape[-2], images.shape[-1]), batch)
        small = thumbnails(images, tokens.layout.bits(k))
        ours = {name: metric(images, decoded).double() for name, metric in metrics.items()}
        theirs = {name: metric(images, _rounded(small.images)).double() for name, metric in metrics.items()}
        result.rows.append(_row(tokens.layout, k, images, decoded, small, ours, theirs, seed))
        result.reconstructions.append(decoded)
        result.thumbnails.append(small)
        result.values.append(ours)
        if on_budget is not None:
            on_budget(k)
    return result


def _row(
    layout: TokenLayout,
    k: int,
    images: Tensor,
    decoded: Tensor,
    small: Thumbnails,
    ours: dict[str, Tensor],
    theirs: dict[str, Tensor],
    seed: int,
) -> BudgetRow:
    comparisons = {
        name: Comparison(
            tokenizer=mean_interval(ours[name], seed=seed),
            thumbnail=mean_interval(theirs[name], seed=seed),
            difference=mean_interval(ours[name] - theirs[name], seed=seed),
        )
        for name in ours
    }
    bits = layout.bits(k)
    return BudgetRow(
        tokens=k,
        bits=bits,
        bpp=bits / (images.shape[-2] * images.shape[-1]),
        thumbnail_bits=float(small.bits.double().mean()),
        n=len(images),
        n_identical=int((decoded == images).flatten(1).all(dim=1).sum()),
        metrics=comparisons,
    )


def _reconstruct(tokenizer: Tokenizer, tokens: Tokens, size: tuple[int, int], batch: int) -> Tensor:
    parts = []
    for i in range(0, len(tokens), batch):
        decoded = tokenizer.decode(tokens[i : i + batch]).cpu()
        parts.append(_rounded(enlarge(decoded, size)))
    return torch.cat(parts)


def _rounded(images: Tensor) -> Tensor:
    """Images as an 8-bit file holds them."""
    return to_uint8(images).float() / 255
