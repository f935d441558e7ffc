"""Fourier ring correlation: to which spatial frequency two sets of images agree (Saxton, Baumeister, 1982).

Shape suffixes: B batch, H W pixels, R rings.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.signal import check_gray, first_crossing, hann

RINGS = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class RingSums:
    """Sums over Fourier rings, one row an image or one for a whole set; add them to pool images."""

    cross: Tensor
    """float64 [..., R]: Re sum X conj(Y)."""
    reference: Tensor
    """float64 [..., R]: sum |X|^2."""
    image: Tensor
    """float64 [..., R]: sum |Y|^2."""
    count: Tensor
    """int64 [R]: Fourier coefficients of one image in each ring."""

    @property
    def centers(self) -> Tensor:
        """float64 [R]: cycles per pixel in the middle of each ring."""
        rings = self.cross.shape[-1]
        return (torch.arange(rings, dtype=torch.float64, device=self.cross.device) + 0.5) / (2 * rings)

    @property
    def frc(self) -> Tensor:
        """float64 [..., R]: cross / sqrt(reference image); NaN for a ring in which one of the two has no power."""
        return self.cross / (self.reference * self.image).sqrt()

    @property
    def power_ratio(self) -> Tensor:
        """float64 [..., R]: power of the images over power of the reference."""
        return self.image / self.reference

    def resolution(self, threshold: float = 0.5) -> Tensor:
        """float64 [...]: cycles per pixel at which the correlation first falls below `threshold`; inf if never.

        The field uses 0.5 and 1/7. A ring without power in the images counts as 0.
        """
        return first_crossing(self.centers, self.frc.nan_to_num(0.0), threshold)

    def pooled(self) -> "RingSums":
        """The sums over the images."""
        return RingSums(
            cross=self.cross.sum(dim=0),
            reference=self.reference.sum(dim=0),
            image=self.image.sum(dim=0),
            count=self.count,
        )


def ring_sums(reference: Tensor, images: Tensor, rings: int = RINGS) -> RingSums:
    """Ring sums of each pair of [B, H, W] (luminance): rings of equal width up to the Nyquist frequency.

    Means removed, periodic Hann window. Errors: ValueError for different shapes, NaN, or less than 2 rings pixels a
    side, which would leave rings empty.
    """
    check_gray(reference, images, minimum=2 * rings, what=f"Fourier ring correlation in {rings} rings")
    height, width = images.shape[1:]
    window = hann(height, width).to(images.device)
    x, y = (
        torch.fft.fft2((t - t.mean(dim=(1, 2), keepdim=True)) * window) for t in (reference.double(), images.double())
    )
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64, device=images.device) for n in (height, width))
    ring = (torch.hypot(rows[:, None], columns) * 2 * rings).floor().long().clamp(max=rings).flatten()

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(len(values), rings + 1).index_add(1, ring, values.flatten(1))[:, :rings]

    return RingSums(
        cross=total((x * y.conj()).real),
        reference=total(x.abs().square()),
        image=total(y.abs().square()),
        count=torch.bincount(ring, minlength=rings + 1)[:rings],
    )


class RingCorrelation:
    """Pools ring sums over any number of images, of any sizes, in constant memory.

    >>> a = torch.rand(2, 64, 64)
    >>> correlation = RingCorrelation()
    >>> _ = correlation.update(a, a)
    >>> float(correlation.sums.frc.min()) > 0.999
    True
    """

    def __init__(self, rings: int = RINGS) -> None:
        self.rings = rings
        self.images = 0
        self._sums: RingSums | None = None

    def update(self, reference: Tensor, images: Tensor) -> RingSums:
        """Adds pairs [B, H, W]; returns the sums of each pair."""
        sums = ring_sums(reference, images, self.rings)
        pooled, before = sums.pooled(), self._sums
        if before is not None:
            pooled = RingSums(
                cross=before.cross + pooled.cross,
                reference=before.reference + pooled.reference,
                image=before.image + pooled.image,
                count=before.count,
            )
        self._sums, self.images = pooled, self.images + len(images)
        return sums

    @property
    def sums(self) -> RingSums:
        """The sums over all images so far; ValueError before the first."""
        if self._sums is None:
            raise ValueError("no images were given to the ring correlation: call update(reference, images) first")
        return self._sums
