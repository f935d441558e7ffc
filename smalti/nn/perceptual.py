"""Distances of images as networks see them: LPIPS (arXiv 1801.03924), and the feature maps of an image classifier.

Weights come from disk, without any download. Shape suffixes: B batch, C channels, H W pixels, h w places of a map.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.files import read_tensors


class Perceptual(nn.Module):
    """LPIPS distance of images in [-1, 1]: 0 = equal; frozen, and unmoved by `train()`."""

    def __init__(self, weights: str | Path | Mapping[str, Tensor], backbone: str = "alex") -> None:
        """`weights`: convolutions of the backbone (alex, vgg, squeeze) under torchvision's keys (`features.N.weight`):
        a safetensors file, or its tensors.

        Errors: ImportError without the lpips package, FileNotFoundError, ValueError for other weights.
        """
        super().__init__()
        try:
            import lpips
        except ImportError as error:
            raise ImportError("the LPIPS loss needs the lpips package: pip install 'smalti[train]'") from error
        state = weights if isinstance(weights, Mapping) else read_tensors(weights)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's, about how lpips builds its random backbone
            self.net = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
        slices = {key.split(".", 1)[1]: key for key in self.net.net.state_dict()}
        renamed = {slices.get(key.removeprefix("features."), key): value for key, value in state.items()}
        missing = sorted(set(slices.values()) ^ set(renamed))
        if missing:
            name = "the state dict" if isinstance(weights, Mapping) else weights
            raise ValueError(
                f"{name} does not hold exactly the convolutions of {backbone}: {', '.join(missing[:4])} differ"
            )
        self.net.net.load_state_dict(renamed)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Perceptual":
        """Always in evaluation mode: LPIPS has dropout."""
        return super().train(False)

    def forward(self, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
        """float [B]: distance of every pair."""
        return self.net(a_B3HW, b_B3HW).flatten()


class ClassifierDistance(nn.Module):
    """Distance of images in [-1, 1] to EfficientNet-lite2 (ImageNet): 0 = equal; frozen, and unmoved by `train()`.

    LPIPS follows textures, this what a picture is recognized by, as the ConvNeXt in the loss of TiTok's authors does
    (arXiv 2406.07550). The squared distance of channels scaled to unit length, mean over places and over four maps
    (strides 4, 8, 16, and the head's at 32), plus 0.7 times one minus the cosine of the head's means over places.
    """

    NAME = "efficientnet_lite2"
    """Its file in the folder of `smalti data prepare networks`, without the ending."""
    STAGES = (1, 2, 4)
    SIDE = 128
    """Images are enlarged to it: at 64 px the deep maps have few places."""
    POOLED = 0.7

    def __init__(self, weights: str | Path | Mapping[str, Tensor]) -> None:
        """`weights`: under timm's keys, a safetensors file or its tensors.

        Errors: FileNotFoundError; RuntimeError for tensors of another network.
        """
        super().__init__()
        import timm

        self.net: Any = timm.create_model(f"tf_{self.NAME}", pretrained=False)
        self.net.load_state_dict(weights if isinstance(weights, Mapping) else read_tensors(weights)[0])
        self.net.to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "ClassifierDistance":
        """Always in evaluation mode: batch statistics are ImageNet's."""
        return super().train(False)

    def forward(self, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
        """float [B]: distance of every pair; gradients reach `a` only."""
        with torch.no_grad():
            targets = self.maps(b_B3HW)
        maps = self.maps(a_B3HW)
        apart = [
            (F.normalize(a.float(), dim=1, eps=1e-4) - F.normalize(b.float(), dim=1, eps=1e-4)).square().sum(1)
            for a, b in zip(maps, targets, strict=True)
        ]
        distance_B = torch.stack([d.mean((1, 2)) for d in apart]).mean(0)
        a_BC, b_BC = (head.float().mean((2, 3)) for head in (maps[-1], targets[-1]))
        return distance_B + self.POOLED * (1 - F.cosine_similarity(a_BC, b_BC))

    def maps(self, images_B3HW: Tensor) -> list[Tensor]:
        """The four maps, [B, C, h, w] each, the shallowest first."""
        x = F.interpolate(images_B3HW, (self.SIDE, self.SIDE), mode="bicubic").clamp(-1, 1)
        x = (x * 127.5 + 0.5) / 128  # the normalization of this network's authors: (bytes - 127) / 128
        x = self.net.bn1(self.net.conv_stem(x.contiguous(memory_format=torch.channels_last)))
        found = []
        for stage, block in enumerate(self.net.blocks):
            x = block(x)
            if stage in self.STAGES:
                found.append(x)
        return [*found, self.net.bn2(self.net.conv_head(x))]


class PerceptualSum(nn.Module):
    """LPIPS plus `weight` times a classifier's distance, which looks at the first `share` of a batch only."""

    def __init__(self, lpips: nn.Module, classifier: nn.Module, *, weight: float, share: float = 1.0) -> None:
        """Both networks: images [B, 3, H, W] in [-1, 1], twice, to distances [B]. Errors: ValueError for a share."""
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"the classifier looks at a share of the batch above 0 and up to 1, got {share}")
        self.lpips, self.classifier = lpips, classifier
        self.weight, self.share = weight, share

    def forward(self, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
        """float [B]: distance of every pair."""
        count = round(self.share * len(a_B3HW))
        distances_B = self.lpips(a_B3HW, b_B3HW)
        seen = self.weight * self.classifier(a_B3HW[:count], b_B3HW[:count])
        return distances_B + F.pad(seen, (0, len(a_B3HW) - count))


@torch.no_grad()
def lpips_of(perceptual: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """float [B]: LPIPS of images in [0, 1], in float32."""
    with torch.autocast(a.device.type, enabled=False):
        return perceptual(a.float() * 2 - 1, b.float() * 2 - 1).float()
