"""Convolutional blocks of VQGAN-like autoencoders (arXiv 2012.09841), as VAR's and LlamaGen's tokenizers use them.

Shape suffixes: B batch, C channels, h w feature map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 shortcut where the channels change."""

    def __init__(self, channels_in: int, channels_out: int, *, groups: int = 32) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=1e-6)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=1e-6)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Same height and width, `channels_out` channels."""
        h_BChw = self.conv1(F.silu(self.norm1(x_BChw)))
        h_BChw = self.conv2(F.silu(self.norm2(h_BChw)))
        return self.shortcut(x_BChw) + h_BChw


class QKV(nn.Module):
    """Queries, keys and values [B, 3 C, h, w] by three 1x1 convolutions with weights of their own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1) for _ in range(3))

    def forward(self, x_BChw: Tensor) -> Tensor:
        """All three in one map."""
        return torch.cat([self.q(x_BChw), self.k(x_BChw), self.v(x_BChw)], dim=1)


class SpatialAttention(nn.Module):
    """Single-head self-attention over all places of a feature map, with a residual.

    `fused`: queries, keys and values are one convolution; else three, as LlamaGen's files hold them.
    """

    def __init__(self, channels: int, *, groups: int = 32, fused: bool = True) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1) if fused else QKV(channels)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Same shape."""
        q, k, v = self.qkv(self.norm(x_BChw)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
        h_BlC = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return x_BChw + self.proj(h_BlC.transpose(1, 2).unflatten(2, x_BChw.shape[-2:]))


class Downsample(nn.Module):
    """Halves height and width: zero padding right and bottom, then a strided 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """[B, C, h / 2, w / 2]."""
        return self.conv(F.pad(x_BChw, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbor, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """[B, C, 2 h, 2 w]."""
        on_cpu = x_BChw.device.type == "cpu" and x_BChw.dtype == torch.float32
        if on_cpu and not torch.is_grad_enabled():
            return upsampled_conv(x_BChw, self.conv)
        return self.conv(F.interpolate(x_BChw, scale_factor=2, mode="nearest"))


def upsampled_conv(x_BChw: Tensor, conv: nn.Conv2d) -> Tensor:
    """The same map from 4 instead of 9 products per value: half the time on a CPU.

    Of the 3x3 pixels under the kernel several are copies of one value, so their weights add up: what is left is a
    transposed convolution of stride 2 with a 4x4 kernel, in each direction (w2, w1 + w2, w0 + w1, w0).
    """
    sums_43 = conv.weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    weight = torch.einsum("yi,xj,ocij->coyx", sums_43, sums_43, conv.weight)
    return F.conv_transpose2d(x_BChw, weight, conv.bias, stride=2, padding=1)
