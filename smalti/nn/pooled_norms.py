"""GroupNorm statistics of a whole image for a network that sees one window of it at a time.

Shape suffixes: B batch, G groups, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Moments:
    """Running first and second moments of every group of one GroupNorm's inputs, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.sums_BG: Tensor | float = 0.0
        self.squares_BG: Tensor | float = 0.0

    def add(self, x: Tensor, groups: int) -> None:
        """Counts an input [B, C, ...]."""
        x_BGn = x.reshape(x.shape[0], groups, -1)
        var_BG, mean_BG = (s.double() for s in torch.var_mean(x_BGn, dim=-1, correction=0))
        n = x_BGn.shape[-1]
        self.count += n
        self.sums_BG = self.sums_BG + n * mean_BG
        self.squares_BG = self.squares_BG + n * (var_BG + mean_BG.square())

    def affine(self, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """Scale and shift [B, C] that normalize an input by these moments, and apply the norm's own weights."""
        assert isinstance(self.sums_BG, Tensor)
        mean_BG = self.sums_BG / self.count
        var_BG = self.squares_BG / self.count - mean_BG.square()
        each = norm.num_channels // norm.num_groups
        rate_BC = (var_BG + norm.eps).rsqrt().repeat_interleave(each, dim=1)
        scale_BC = rate_BC if norm.weight is None else rate_BC * norm.weight
        shift_BC = -mean_BG.repeat_interleave(each, dim=1) * scale_BC
        return scale_BC, shift_BC if norm.bias is None else shift_BC + norm.bias


def group_norms(network: nn.Module) -> list[nn.GroupNorm]:
    """Every GroupNorm of a network."""
    return [m for m in network.modules() if isinstance(m, nn.GroupNorm)]


@contextmanager
def measured(network: nn.Module) -> Iterator[dict[nn.GroupNorm, Moments]]:
    """Sums up what the GroupNorms see while this is open; each still uses its own statistics."""
    moments = {norm: Moments() for norm in group_norms(network)}

    def note(norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        moments[norm].add(inputs[0], norm.num_groups)

    with _hooked(moments, note):
        yield moments


@contextmanager
def normalized(network: nn.Module, moments: dict[nn.GroupNorm, Moments]) -> Iterator[None]:
    """The GroupNorms use the given statistics instead of their input's while this is open."""
    affine = {norm: seen.affine(norm) for norm, seen in moments.items() if seen.count}

    def replace(norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0]
        scale, shift = (v.to(x.dtype).view(*v.shape, *[1] * (x.ndim - 2)) for v in affine[norm])
        torch.addcmul(shift, x, scale, out=output)  # over the norm's own result: no more memory

    with _hooked(affine, replace):
        yield


@contextmanager
def _hooked(norms: Any, hook: Any) -> Iterator[None]:
    handles = [norm.register_forward_hook(hook) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
