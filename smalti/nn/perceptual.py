"""LPIPS (arXiv 1801.03924) from weights on disk, without any download.

Shape suffixes: B batch, H W pixels.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
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


@torch.no_grad()
def lpips_of(perceptual: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """float [B]: LPIPS of images in [0, 1], in float32."""
    with torch.autocast(a.device.type, enabled=False):
        return perceptual(a.float() * 2 - 1, b.float() * 2 - 1).float()
