"""What the frozen foundation model sees of an image, and says about it.

Shape suffixes: B batch, H W pixels, L foundation tokens, D width.
"""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.dinov2 import DINOv2
from smalti.tokenizers.hita.config import FoundationConfig

SIZE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def shrink(x_B3HW: Tensor, size: int = SIZE) -> Tensor:
    """Images in [-1, 1] of any size to [0, 1] at `size` x `size`, as kornia's antialiased `resize` does it.

    Where a side shrinks by f: Gaussian blur with sigma (f - 1) / 2 over 4 sigma pixels (odd, at least 3), mirrored at
    the borders; then bicubic with aligned corners, clamped.
    """
    factors = [side / size for side in x_B3HW.shape[-2:]]
    if max(factors) > 1:
        for axis, factor in zip((-2, -1), factors, strict=True):
            x_B3HW = _blur(x_B3HW, max((factor - 1) / 2, 0.001), axis)
    x_B3HW = F.interpolate(x_B3HW, size=(size, size), mode="bicubic", align_corners=True)
    return (x_B3HW.clamp(-1, 1) + 1) / 2


def _blur(x_BCHW: Tensor, sigma: float, axis: int) -> Tensor:
    """Gaussian blur along one of the two last axes."""
    radius = max(int(4 * sigma), 3) // 2
    weights = torch.exp(-((torch.arange(-radius, radius + 1, device=x_BCHW.device) / sigma) ** 2) / 2)
    weights = (weights / weights.sum()).to(x_BCHW.dtype)
    pad, shape = ((0, 0, radius, radius), (1, 1, -1, 1)) if axis == -2 else ((radius, radius, 0, 0), (1, 1, 1, -1))
    flat = F.pad(x_BCHW, pad, mode="reflect").flatten(0, 1)[:, None]
    return F.conv2d(flat, weights.view(shape)).unflatten(0, x_BCHW.shape[:2]).squeeze(2)


class Foundation(nn.Module):
    """DINOv2, frozen."""

    def __init__(self, config: FoundationConfig) -> None:
        super().__init__()
        self.tower = DINOv2(**asdict(config))
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Images in [-1, 1] to its class token and patch tokens [B, L, D]."""
        mean, std = (x_B3HW.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
        return self.tower((shrink(x_B3HW) - mean) / std)
