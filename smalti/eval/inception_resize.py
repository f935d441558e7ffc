"""Bringing images to Inception's 299 x 299 pixels, and pixels to 8 bits: the rules whose choice changes a FID.

Between the rules pool features differ by 0.4 to 9 percent, so a FID names its rule. All functions take and return
values in 0..255. Shape suffixes: B batch, H W pixels.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from smalti.images import to_uint8

Size = tuple[int, int]
SIZE: Size = (299, 299)
"""Height and width of Inception's input, pixels."""
ResizeRule = Literal["tf1", "torch", "torch-antialias", "clean"]
Uint8Rule = Literal["round", "truncate", "truncate-signed"]


def resize_tf1(x_B3HW: Tensor, size: Size = SIZE) -> Tensor:
    """TensorFlow 1's bilinear: source = target * in / out (no half-pixel shift), border repeated, no antialiasing.

    The rule of the original FID, ADM's evaluator and torch-fidelity.
    """
    low_y, high_y, share_y = _taps(x_B3HW.shape[-2], size[0], x_B3HW)
    low_x, high_x, share_x = _taps(x_B3HW.shape[-1], size[1], x_B3HW)
    top, bottom = x_B3HW[..., low_y, :], x_B3HW[..., high_y, :]
    rows = top + (bottom - top) * share_y[:, None]
    left, right = rows[..., low_x], rows[..., high_x]
    return left + (right - left) * share_x


def resize_torch(x_B3HW: Tensor, size: Size = SIZE) -> Tensor:
    """Bilinear with half-pixel centers, no antialiasing: pytorch-fid."""
    return F.interpolate(x_B3HW, size, mode="bilinear", align_corners=False)


def resize_torch_antialias(x_B3HW: Tensor, size: Size = SIZE) -> Tensor:
    """Bilinear with half-pixel centers and antialiasing: torchmetrics' default."""
    return F.interpolate(x_B3HW, size, mode="bilinear", align_corners=False, antialias=True)


def resize_clean(x_B3HW: Tensor, size: Size = SIZE) -> Tensor:
    """PIL's bicubic with antialiasing on float channels, clipped to 0..255: clean-fid."""
    planes = x_B3HW.detach().float().cpu().flatten(0, 1).numpy()
    width_height = (size[1], size[0])
    resized = [np.asarray(Image.fromarray(p).resize(width_height, Image.Resampling.BICUBIC)) for p in planes]
    stacked = torch.from_numpy(np.stack(resized)).clamp(0, 255)
    return stacked.view(*x_B3HW.shape[:2], *size).to(x_B3HW)


RESIZE: dict[ResizeRule, Callable[[Tensor], Tensor]] = {
    "tf1": resize_tf1,
    "torch": resize_torch,
    "torch-antialias": resize_torch_antialias,
    "clean": resize_clean,
}


def quantize(images: Tensor, rule: Uint8Rule = "round") -> Tensor:
    """Images in [0, 1] as uint8.

    round: floor(255 x + 0.5), which is also LlamaGen's clamp(127.5 s + 128) of s = 2x - 1; truncate: floor(255 x), as
    1d-tokenizer does before Inception; truncate-signed: floor(255 (s + 1) / 2) of s = 2x - 1 in float32, as VTBench
    writes the images of models that take [-1, 1] (rounding in between darkens 95 of the 256 levels by one).
    """
    x = images.detach().float().clamp(0, 1)
    if rule == "round":
        return to_uint8(x)
    if rule == "truncate":
        return (x * 255).to(torch.uint8)
    if rule == "truncate-signed":
        x = images.detach().double().clamp(0, 1)
        level = (x * 255).round()
        exact = torch.where((x * 255 - level).abs() < 1e-4, level / 255, x)  # 8-bit values in float64, as its files are
        signed = (exact * 2 - 1).float()
        return ((signed.clamp(-1, 1) + 1) / 2 * 255).to(torch.uint8)
    raise ValueError(f"uint8 rule {rule!r} is unknown; allowed: round, truncate, truncate-signed")


def _taps(size: int, side: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper source index of every target pixel, and the share of the upper one."""
    source = torch.arange(side, dtype=torch.float32, device=like.device) * torch.tensor(size / side)
    low = source.floor().long()
    return low, (low + 1).clamp(max=size - 1), (source - low).to(like.dtype)
