"""A small patch discriminator (arXiv 1611.07004) for the adversarial term of autoencoders.

Shape suffixes: B batch, H W pixels, h w patches.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to real/fake logits [B, 1, h, w], each seeing a patch of 46 pixels."""

    def __init__(self, width: int = 48, levels: int = 3) -> None:
        super().__init__()
        widths = [3, *(width * 2**i for i in range(levels))]
        pairs = list(pairwise(widths))
        self.downs = nn.ModuleList(nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in pairs)
        self.middle = nn.utils.parametrizations.spectral_norm(nn.Conv2d(widths[-1], widths[-1], 3, padding=1))
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Logits: high = real."""
        for down in self.downs:
            x_B3HW = F.leaky_relu(down(x_B3HW), 0.2)
        return self.head(F.leaky_relu(self.middle(x_B3HW), 0.2))
