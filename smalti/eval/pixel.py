"""PSNR, SSIM and bits per pixel, each with one canonical definition.

Shape suffixes: B batch, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.tokens import Tokens

PSNR_CAP = 100.0
"""dB at which an image counts in a mean; an identical pair has no finite PSNR and is counted apart."""
WINDOW, SIGMA = 11, 1.5


def psnr(reference: Tensor, images: Tensor) -> Tensor:
    """float64 [B]: 10 log10(1 / mse) in dB of images [B, 3, H, W] in [0, 1]; inf for an identical pair.

    The mean square error is taken over all pixels and channels of one image. A data set's PSNR is the mean of these
    (see `capped`), not the PSNR of the pooled error, which is another and lower number.

    >>> psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1))
    tensor([20.0000], dtype=torch.float64)
    """
    _check_pair(reference, images)
    mse_B = (reference.double() - images.double()).square().mean(dim=(1, 2, 3))
    return -10 * mse_B.log10()


def capped(psnr_B: Tensor) -> Tensor:
    """PSNR values as they enter a mean: at most 100 dB."""
    return psnr_B.clamp(max=PSNR_CAP)


def ssim(reference: Tensor, images: Tensor) -> Tensor:
    """float64 [B]: structural similarity (Wang et al., IEEE TIP 13(4), 2004) of images [B, 3, H, W] in [0, 1].

    Gaussian window of 11 x 11 pixels with sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03, data range 1; the
    mean over RGB channels and all window positions wholly inside the image. Errors: ValueError below 11 pixels.
    """
    _check_pair(reference, images)
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, got {list(images.shape[-2:])}")
    a, b = reference.double(), images.double()
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def bits_per_pixel(tokens: Tokens, size: tuple[int, int]) -> Tensor:
    """float64 [B]: nominal bits of the tokens, the sum of log2(vocabulary), per pixel of the source image (H, W)."""
    return tokens.bits() / (size[0] * size[1])


def _blur(x: Tensor) -> Tensor:
    """Gaussian window over the valid region, one axis after the other."""
    offset = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = torch.exp(-(offset**2) / (2 * SIGMA**2))
    window = (window / window.sum()).expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, window, groups=x.shape[1]), window.mT, groups=x.shape[1])


def _check_pair(reference: Tensor, images: Tensor) -> None:
    for x in (reference, images):
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(f"got {x.dtype} {list(x.shape)}; allowed are float images [B, 3, H, W] in [0, 1]")
    if reference.shape != images.shape:
        raise ValueError(
            f"images to compare differ in shape: {list(reference.shape)} and {list(images.shape)}; "
            "they are compared as they are, never resized silently"
        )
