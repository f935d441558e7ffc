"""LPIPS and DISTS: distances of images in the features of classification networks.

Shape suffixes: B batch, H W pixels, C channels.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smalti.eval.pixel import check_pair
from smalti.eval.weights import installed
from smalti.nn.perceptual import Perceptual

Backbone = Literal["alex", "vgg", "squeeze"]
SMALLEST: dict[str, int] = {"alex": 31, "vgg": 16, "squeeze": 17}
"""Pixels below which the deepest layer of a backbone has nothing to look at."""
_STAGES = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))
_CHANNELS = (3, 64, 128, 256, 512, 512)


class Lpips(nn.Module):
    """LPIPS v0.1 (arXiv 1801.03924) of images in [0, 1]: 0 = equal.

    The heads are those of the lpips package, the backbone comes from `state` (torchvision's keys `features.N...`).
    The range is mapped to [-1, 1] here: giving [0, 1] as if it were [-1, 1], as VTBench does, makes the distance 2 to
    20 times too small.
    """

    def __init__(self, state: Mapping[str, Tensor], backbone: Backbone = "alex", *, signed_input: bool = True) -> None:
        """`signed_input=False` reproduces VTBench's wrong range. Errors: ImportError, ValueError for other weights."""
        super().__init__()
        installed("lpips")
        self.net = Perceptual(state, backbone)
        self.backbone = backbone
        self.signed_input = signed_input

    @torch.no_grad()
    def forward(self, reference: Tensor, images: Tensor) -> Tensor:
        """float64 [B] of images [B, 3, H, W] in [0, 1], computed in float32."""
        check_pair(reference, images)
        least = SMALLEST[self.backbone]
        if min(images.shape[-2:]) < least:
            raise ValueError(f"LPIPS ({self.backbone}) needs at least {least} pixels, got {list(images.shape[-2:])}")
        a, b = reference.float(), images.float()
        if self.signed_input:
            a, b = 2 * a - 1, 2 * b - 1
        return self.net(a, b).double()


class Dists(nn.Module):
    """DISTS (arXiv 2004.07728) of images in [0, 1]: 0 = equal.

    Over x and its five VGG16 stages (pooled by a Hanning-weighted L2 norm), with weights alpha and beta that sum to 1:
    1 - sum alpha (2 mx my + c) / (mx^2 + my^2 + c) + beta (2 cov + c) / (vx + vy + c), c = 1e-6, per channel.
    alpha and beta are those of the torchmetrics package, VGG16 comes from `state` (torchvision's keys).
    """

    alpha: Tensor
    beta: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """Errors: ImportError without torchmetrics; RuntimeError for other weights than VGG16's convolutions."""
        super().__init__()
        import torchvision

        with torch.device("meta"):
            layers = torchvision.models.vgg16(weights=None).features
        layers.load_state_dict({key.removeprefix("features."): v for key, v in state.items()}, assign=True)
        self.stages = nn.ModuleList(_stage(layers, start, end) for start, end in _STAGES)
        alpha, beta = (parameter.double() for parameter in _dists_parameters())
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", (alpha / total).flatten())
        self.register_buffer("beta", (beta / total).flatten())
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, reference: Tensor, images: Tensor) -> Tensor:
        """float64 [B] of images [B, 3, H, W] in [0, 1]; features in float32, their statistics in float64."""
        check_pair(reference, images)
        if min(images.shape[-2:]) < SMALLEST["vgg"]:
            raise ValueError(f"DISTS needs at least {SMALLEST['vgg']} pixels, got {list(images.shape[-2:])}")
        similarity_B = torch.zeros(len(images), dtype=torch.float64, device=images.device)
        alphas, betas = self.alpha.split(_CHANNELS), self.beta.split(_CHANNELS)
        maps = zip(self._maps(reference.float()), self._maps(images.float()), alphas, betas, strict=True)
        for a, b, alpha_C, beta_C in maps:
            x, y = a.double(), b.double()
            mean_x, mean_y = x.mean(dim=(2, 3)), y.mean(dim=(2, 3))
            var_x, var_y = x.var(dim=(2, 3), correction=0), y.var(dim=(2, 3), correction=0)
            covariance = (x * y).mean(dim=(2, 3)) - mean_x * mean_y
            texture = (2 * mean_x * mean_y + 1e-6) / (mean_x**2 + mean_y**2 + 1e-6)
            structure = (2 * covariance + 1e-6) / (var_x + var_y + 1e-6)
            similarity_B += (alpha_C * texture + beta_C * structure).sum(dim=1)
        return 1 - similarity_B

    def _maps(self, x_B3HW: Tensor) -> list[Tensor]:
        maps = [x_B3HW]
        h = (x_B3HW - self.mean) / self.deviation
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        return maps


class _L2Pool(nn.Module):
    """Root of the Hanning-weighted mean of squares over 3 x 3 pixels, stride 2."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hanning = torch.hann_window(5, periodic=False, dtype=x_BCHW.dtype, device=x_BCHW.device)[1:-1]
        kernel = torch.outer(hanning, hanning)
        channels = x_BCHW.shape[1]
        weights = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
        return (F.conv2d(x_BCHW**2, weights, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


def _stage(layers: nn.Module, start: int, end: int) -> nn.Sequential:
    """Layers `start` to `end` of VGG16, a leading max pooling replaced."""
    chosen = list(layers.children())[start:end]
    kept = [_L2Pool() if isinstance(layer, nn.MaxPool2d) else layer for layer in chosen]
    for layer in kept:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # the maps of all stages are kept
    return nn.Sequential(*kept)


def _dists_parameters() -> tuple[Tensor, Tensor]:
    installed("torchmetrics")
    from torchmetrics.functional.image import dists

    weights = torch.load(dists._PATH_WEIGHT_DISTS, map_location="cpu", weights_only=True)
    return weights["alpha"].detach(), weights["beta"].detach()
