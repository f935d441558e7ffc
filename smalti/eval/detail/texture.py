"""Noise on flat fields; with Fourier ring correlation (`frc.py`), what is read from textures.

Shape suffixes: B batch, H W pixels.
"""

from torch import Tensor

from smalti.eval.detail.signal import check_gray
from smalti.images import check_images


def noise_floor(images: Tensor, border: int = 0) -> Tensor:
    """float64 [B]: standard deviation in 8-bit levels that was added to flat fields [B, 3, H, W] in [0, 1].

    Root mean square over RGB of the deviation from each channel's own mean, so that a wrong color counts elsewhere
    (`color.py`). `border` pixels at each side are left out. 0 for a flat image.
    """
    check_images(images)
    height, width = images.shape[-2:]
    if min(height, width) - 2 * border < 2:
        raise ValueError(f"a border of {border} px leaves nothing of {height}x{width} pixels: use a smaller one")
    inner = images[..., border : height - border, border : width - border].double()
    return 255 * inner.var(dim=(2, 3), correction=0).mean(dim=1).sqrt()


def contrast_ratio(reference: Tensor, images: Tensor) -> Tensor:
    """float64 [B]: standard deviation of images [B, H, W] over that of their reference; NaN for a flat reference."""
    check_gray(reference, images, what="the contrast ratio")
    before, after = (t.double().std(dim=(1, 2), correction=0) for t in (reference, images))
    return (after / before).where(before > 0, float("nan"))
