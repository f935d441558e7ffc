"""PSNR, SSIM, MS-SSIM and bits per pixel, each with one canonical definition.

Shape suffixes: B batch, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.tokens import Tokens

PSNR_CAP = 100.0
"""dB at which an image counts in a mean; an identical pair has no finite PSNR and is counted apart."""
WINDOW, SIGMA = 11, 1.5
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales of MS-SSIM, finest first."""
MS_SMALLEST = (WINDOW - 1) * 2 ** (len(MS_WEIGHTS) - 1) + 1
"""Pixels below which the coarsest scale has no window position left."""


def psnr(reference: Tensor, images: Tensor) -> Tensor:
    """float64 [B]: 10 log10(1 / mse) in dB of images [B, 3, H, W] in [0, 1]; inf for an identical pair.

    The mean square error is taken over all pixels and channels of one image. A data set's PSNR is the mean of these
    (see `capped`), not the PSNR of the pooled error, which is another and lower number.

    >>> psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1))
    tensor([20.0000], dtype=torch.float64)
    """
    return -10 * mse(reference, images).log10()


def mse(reference: Tensor, images: Tensor) -> Tensor:
    """float64 [B]: mean square error of every image over pixels and channels."""
    check_pair(reference, images)
    return (reference.double() - images.double()).square().mean(dim=(1, 2, 3))


def mae(reference: Tensor, images: Tensor) -> Tensor:
    """float64 [B]: mean absolute error of every image over pixels and channels."""
    check_pair(reference, images)
    return (reference.double() - images.double()).abs().mean(dim=(1, 2, 3))


def pooled_psnr(mse_N: Tensor, values_N: Tensor | None = None) -> float:
    """dB of the error of all images together: another and lower number than the mean over images.

    `values_N`: pixels times channels of every image, where they differ. Reported beside the mean, because some papers
    and older torchmetrics mean this one.
    """
    weights = torch.ones_like(mse_N, dtype=torch.float64) if values_N is None else values_N.double()
    return float(-10 * ((mse_N.double() * weights).sum() / weights.sum()).log10())


def capped(psnr_B: Tensor) -> Tensor:
    """PSNR values as they enter a mean: at most 100 dB."""
    return psnr_B.clamp(max=PSNR_CAP)


def ssim(reference: Tensor, images: Tensor) -> Tensor:
    """float64 [B]: structural similarity (Wang et al., IEEE TIP 13(4), 2004) of images [B, 3, H, W] in [0, 1].

    Gaussian window of 11 x 11 pixels with sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03, data range 1; the
    mean over RGB channels and all window positions wholly inside the image. Errors: ValueError below 11 pixels.
    """
    check_pair(reference, images)
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, got {list(images.shape[-2:])}")
    luminance, structure = _ssim_maps(reference.double(), images.double())
    return (luminance * structure).mean(dim=(1, 2, 3))


def ms_ssim(reference: Tensor, images: Tensor) -> Tensor:
    """float64 [B]: multi-scale SSIM (Wang et al., Asilomar 2003) of images [B, 3, H, W] in [0, 1].

    Five scales by 2 x 2 averaging (an odd side is padded by a row of zeros on both ends), windows as in `ssim`;
    contrast-structure of the four finer scales and full SSIM of the coarsest, negative means clipped to 0, multiplied
    with the exponents MS_WEIGHTS per channel, then averaged over channels. Errors: ValueError below 161 pixels.
    """
    check_pair(reference, images)
    if min(images.shape[-2:]) < MS_SMALLEST:
        raise ValueError(f"MS-SSIM needs images of at least {MS_SMALLEST} pixels, got {list(images.shape[-2:])}")
    a, b = reference.double(), images.double()
    product_BC = torch.ones(a.shape[:2], dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(MS_WEIGHTS):
        luminance, structure = _ssim_maps(a, b)
        last = scale == len(MS_WEIGHTS) - 1
        similarity_BC = (luminance * structure if last else structure).mean(dim=(2, 3))
        product_BC *= similarity_BC.clamp(min=0) ** weight
        a, b = _halved(a), _halved(b)
    return product_BC.mean(dim=1)


def ssim_uniform(reference: Tensor, images: Tensor, *, data_range: float = 1.0) -> Tensor:
    """float64 [B]: SSIM with a uniform 7 x 7 window and sample covariance, skimage's default.

    With `data_range=2` on images in [0, 1] it is what the scripts of LlamaGen, DetailFlow, Hita and NAR report, and
    higher than the canonical value (.87 against .68 on one golden pair). Errors: ValueError below 7 pixels.
    """
    check_pair(reference, images)
    if min(images.shape[-2:]) < 7:
        raise ValueError(f"SSIM needs images of at least 7x7 pixels, got {list(images.shape[-2:])}")
    a, b = reference.double(), images.double()
    mean_a, mean_b = F.avg_pool2d(a, 7, 1), F.avg_pool2d(b, 7, 1)
    sample = 49 / 48
    var_a = sample * (F.avg_pool2d(a * a, 7, 1) - mean_a**2)
    var_b = sample * (F.avg_pool2d(b * b, 7, 1) - mean_b**2)
    covariance = sample * (F.avg_pool2d(a * b, 7, 1) - mean_a * mean_b)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (var_a + var_b + c2)).mean(dim=(1, 2, 3))


def bits_per_pixel(tokens: Tokens, size: tuple[int, int]) -> Tensor:
    """float64 [B]: nominal bits of the tokens, the sum of log2(vocabulary), per pixel of the source image (H, W)."""
    return tokens.bits() / (size[0] * size[1])


def _ssim_maps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure terms at every window position."""
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, padding=(x.shape[-2] % 2, x.shape[-1] % 2))


def _blur(x: Tensor) -> Tensor:
    """Gaussian window over the valid region, one axis after the other."""
    offset = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = torch.exp(-(offset**2) / (2 * SIGMA**2))
    window = (window / window.sum()).expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, window, groups=x.shape[1]), window.mT, groups=x.shape[1])


def check_pair(reference: Tensor, images: Tensor) -> None:
    """A ValueError unless both are float [B, 3, H, W] of one shape."""
    for x in (reference, images):
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(f"got {x.dtype} {list(x.shape)}; allowed are float images [B, 3, H, W] in [0, 1]")
    if reference.shape != images.shape:
        raise ValueError(
            f"images to compare differ in shape: {list(reference.shape)} and {list(images.shape)}; "
            "they are compared as they are, never resized silently"
        )
