"""Pooled EfficientNet-lite0 features: the space in which pictures are classified and compared here.

The network was trained on ImageNet photographs, knows nothing of the models under test, and is small enough for a CPU.

Shape suffixes: B batch, N images, D features, H W pixels.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.files import read_tensors, write_tensors

SIDE = 128
PROTOCOL = (
    "EfficientNet-lite0 (ImageNet), images at 64 px enlarged bicubically to 128 px, last feature map pooled, 1,280 "
    "numbers; distances: cosine after subtracting the mean and dividing by the standard deviation of the gallery"
)

Features = Callable[[Tensor], Tensor]
"""Images float [B, 3, H, W] in [0, 1] to features float [B, D]."""


def load_features(networks: Path, batch: int = 64) -> Features:
    """The network from `networks/efficientnet_lite0.safetensors` (`smalti data prepare networks`)."""
    import timm

    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state, _ = read_tensors(networks / "efficientnet_lite0.safetensors")
    net.load_state_dict(state)
    net.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        parts = []
        for start in range(0, len(images), batch):
            x = F.interpolate(images[start : start + batch], (SIDE, SIDE), mode="bicubic").clamp(0, 1)
            x = (x * 255 - 127) / 128  # the normalization of this network's authors
            parts.append(net.forward_features(x.contiguous(memory_format=torch.channels_last)).mean((2, 3)))
        return torch.cat(parts)

    return features


def cached(features: Features, path: Path) -> Features:
    """The same, remembered in one file image by image, so that sets that overlap cost their images once."""
    known: dict[str, Tensor] = {}
    if path.is_file():
        tensors, header = read_tensors(path)
        known = dict(zip(header["images"].split(), tensors["features"], strict=True))

    def remember(images: Tensor) -> Tensor:
        names = [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:24] for image in images]
        new = {name: i for i, name in enumerate(names) if name not in known}
        if new:
            known.update(zip(new, features(images[list(new.values())]), strict=True))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"features": torch.stack(list(known.values()))}, {"images": " ".join(known)})
        return torch.stack([known[name] for name in names])

    return remember


@dataclass(frozen=True, eq=False)
class Gallery:
    """Real images by their features; what the nearest one is."""

    features_ND: Tensor
    """Raw features of the gallery."""

    mean_D: Tensor = field(init=False)
    std_D: Tensor = field(init=False)
    unit_ND: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean_D", self.features_ND.mean(0))
        object.__setattr__(self, "std_D", self.features_ND.std(0).clamp_min(1e-3))
        object.__setattr__(self, "unit_ND", self.unit(self.features_ND))

    def unit(self, features_BD: Tensor) -> Tensor:
        """Standardized, unit length."""
        return F.normalize((features_BD - self.mean_D) / self.std_D, dim=-1)

    def nearest(self, queries_BD: Tensor, *, leave_out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(index int64 [B], cosine distance [B]) of the nearest image; `leave_out` int64 [B]: one never returned."""
        similarity_BN = self.unit(queries_BD) @ self.unit_ND.T
        if leave_out is not None:
            similarity_BN[torch.arange(len(queries_BD)), leave_out] = -2
        best = similarity_BN.max(1)
        return best.indices, 1 - best.values
