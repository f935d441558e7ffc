"""Modulation transfer function from a slanted edge (e-SFR of ISO 12233).

Shape suffixes: B batch, H W pixels, K bins of a quarter pixel, F frequencies.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.signal import check_gray, first_crossing

BINS_PER_PIXEL = 4
HALF_WIDTH = 32
"""Pixels on either side of the edge that are read."""
TRANSFORM = 1024
NEAR = 16
"""Pixels around the edge in which overshoot is looked for; the plateaus are read outside of them."""
LOST = 0.1
"""An edge with less than this share of its contrast is lost: its response is 0."""
READABLE = 0.1
"""The response is a ratio: it is given where the chart itself keeps this much."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """The straight edge x = middle + slope (y - (H - 1) / 2) of each image, pixel centers at whole numbers."""

    slope: Tensor
    """float64 [B]."""
    middle: Tensor
    """float64 [B]: x in pixels at half the height."""

    @property
    def angle(self) -> Tensor:
        """float64 [B]: degrees from the vertical, positive to the right going down."""
        return torch.rad2deg(torch.atan(self.slope))


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeResponse:
    """What the slanted edges of a batch say."""

    line: Line
    profile: Tensor
    """float64 [B, K]: the edge spread function at (k - K // 2) / 4 pixels from the edge along its normal."""
    frequency: Tensor
    """float64 [F]: cycles per pixel along the normal."""
    sfr: Tensor
    """float64 [B, F]: spatial frequency response, 1 at frequency 0."""

    @property
    def contrast(self) -> Tensor:
        """float64 [B]: difference of the plateaus, signed."""
        low, high = _plateaus(self.profile)
        return high - low

    @property
    def overshoot(self) -> Tensor:
        """float64 [B]: per cent of the contrast by which the profile leaves the plateaus within 16 px of the edge."""
        low, high = _plateaus(self.profile)
        scaled = (self.profile - low[:, None]) / (high - low)[:, None]
        near = scaled[:, _distance(self.profile).abs() <= NEAR]
        return 100 * torch.maximum(near.amax(dim=1) - 1, -near.amin(dim=1)).clamp(min=0)

    def at(self, frequencies: Tensor) -> Tensor:
        """float64 [B, n]: the response at frequencies [n] in cycles per pixel, linearly interpolated."""
        return interpolate(self.frequency, self.sfr, frequencies)

    def mtf(self, level: float) -> Tensor:
        """float64 [B]: the first frequency with a response below `level`; inf if there is none below 1."""
        readable = self.frequency < 1
        return first_crossing(self.frequency[readable], self.sfr[:, readable], level)


@dataclass(frozen=True, kw_only=True, eq=False)
class TransferredEdges:
    """Edges of reconstructions against those of the charts."""

    frequency: Tensor
    """float64 [F]: cycles per pixel, below 1."""
    response: Tensor
    """float64 [B, F]: SFR of the reconstruction over SFR of the chart; 0 where the edge is lost, else NaN from where
    the chart itself keeps less than a tenth."""
    overshoot: Tensor
    """float64 [B]: per cent; NaN where lost."""
    shift: Tensor
    """float64 [B]: pixels along the normal by which the edge moved to the right; NaN where lost."""
    angle_error: Tensor
    """float64 [B]: degrees; NaN where lost."""
    lost: Tensor
    """bool [B]."""

    def at(self, frequencies: Tensor) -> Tensor:
        """float64 [B, n]: the response at frequencies [n]; NaN beyond what the charts show."""
        values = interpolate(self.frequency, self.response, frequencies)
        return torch.where(frequencies <= self.frequency[-1], values, math.nan)

    def mtf(self, level: float) -> Tensor:
        """float64 [B]: the first frequency with a response below `level`; inf if none; 0 for a lost edge."""
        return first_crossing(self.frequency, self.response, level)


def edge_response(images: Tensor) -> EdgeResponse:
    """The e-SFR of images [B, H, W], each with one edge nearer to the vertical than to the horizontal.

    Central differences along the rows; their Hamming-weighted centroids, the window re-centered twice on the straight
    line through them; distances d = (x - line) cos(angle); the mean of all pixels in each bin round(4 d), empty bins
    interpolated; central differences; Hamming window; transform of length 1024; divided by its value at 0 and by
    sinc(2 f / 4) sinc(f / 4) for difference and bins (not the factor printed in ISO 12233:2014). Within .01 of the
    analytic MTF of ideal edges. Errors: ValueError below 16 pixels or for NaN; an edge without contrast gives NaN.
    """
    check_gray(images, minimum=16, what="the slanted edge")
    images = images.double()
    line = fit_line(images)
    profile = _edge_profile(images, line)
    spread = torch.gradient(profile, dim=1)[0]
    window = torch.hamming_window(spread.shape[1], periodic=False, dtype=torch.float64, device=images.device)
    spectrum = torch.fft.rfft(spread * window, TRANSFORM).abs()
    frequency = torch.fft.rfftfreq(TRANSFORM, 1 / BINS_PER_PIXEL, dtype=torch.float64, device=images.device)
    loss = torch.sinc(2 * frequency / BINS_PER_PIXEL) * torch.sinc(frequency / BINS_PER_PIXEL)
    return EdgeResponse(line=line, profile=profile, frequency=frequency, sfr=spectrum / spectrum[:, :1] / loss)


def transferred(reference: Tensor, images: Tensor) -> TransferredEdges:
    """What became of the edges of `reference` [B, H, W] in their reconstructions `images` [B, H, W]."""
    check_gray(reference, images, minimum=16, what="the slanted edge")
    before, after = edge_response(reference), edge_response(images)
    lost = ~(after.contrast / before.contrast >= LOST)  # NaN is lost too
    lost |= ~after.sfr.isfinite().all(dim=1)
    below_1 = before.frequency < 1
    readable = (before.sfr[:, below_1] >= READABLE).long().cumprod(dim=1).bool()
    ratio = (after.sfr[:, below_1] / before.sfr[:, below_1]).where(readable, math.nan)
    cosine = torch.cos(torch.atan(before.line.slope))
    nan = torch.where(lost, math.nan, 0.0)
    return TransferredEdges(
        frequency=before.frequency[below_1],
        response=torch.where(lost[:, None], 0.0, ratio),
        overshoot=after.overshoot + nan,
        shift=(after.line.middle - before.line.middle) * cosine + nan,
        angle_error=after.line.angle - before.line.angle + nan,
        lost=lost,
    )


def fit_line(images: Tensor) -> Line:
    """The edge of each image [B, H, W]: a least-squares line through the centroids of its rows."""
    height, width = images.shape[1:]
    slope = torch.zeros_like(images[:, 0, 0])
    middle = torch.full_like(slope, (width - 1) / 2)
    difference_BHW = torch.zeros_like(images)
    difference_BHW[:, :, 1:-1] = (images[:, :, 2:] - images[:, :, :-2]) / 2
    x = torch.arange(width, dtype=images.dtype, device=images.device)
    y = torch.arange(height, dtype=images.dtype, device=images.device) - (height - 1) / 2
    for _ in range(3):
        from_edge_BHW = x - (middle[:, None] + slope[:, None] * y)[:, :, None]
        window_BHW = 0.54 + 0.46 * torch.cos(2 * math.pi * from_edge_BHW / width)
        weight_BHW = difference_BHW * window_BHW * (from_edge_BHW.abs() <= width / 2)
        mass_BH = weight_BHW.sum(dim=2)
        # a row without an edge has a centroid anywhere
        clear_BH = mass_BH.abs() >= LOST * mass_BH.abs().mean(dim=1, keepdim=True)
        centroid_BH = torch.where(clear_BH, (weight_BHW * x).sum(dim=2) / mass_BH, 0.0)
        slope, middle = _least_squares(y, centroid_BH, clear_BH.to(images))
    return Line(slope=slope, middle=middle)


def _least_squares(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and value at x = 0, two [B], of the line through points x [H], y [B, H]."""
    total = weight.sum(dim=1)
    x_mean, y_mean = (weight * x).sum(dim=1) / total, (weight * y).sum(dim=1) / total
    from_mean = weight * (x - x_mean[:, None])
    slope = (from_mean * y).sum(dim=1) / (from_mean * x).sum(dim=1)
    return slope, y_mean - slope * x_mean


def interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """float64 [B, n]: y [B, F] over ascending x [F], linearly interpolated at [n]; the ends go on."""
    at = at.to(x)
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    share = ((at - x[right - 1]) / (x[right] - x[right - 1])).clamp(0, 1)
    return y[:, right - 1] + (y[:, right] - y[:, right - 1]) * share


def _edge_profile(images: Tensor, line: Line) -> Tensor:
    """float64 [B, K]: means of the pixels by their distance from the line."""
    batch, height, width = images.shape
    x = torch.arange(width, dtype=images.dtype, device=images.device)
    y = torch.arange(height, dtype=images.dtype, device=images.device) - (height - 1) / 2
    edge_BH = line.middle[:, None] + line.slope[:, None] * y
    distance_BHW = (x - edge_BH[:, :, None]) * torch.cos(torch.atan(line.slope))[:, None, None]
    half = HALF_WIDTH * BINS_PER_PIXEL
    bin_BHW = torch.nan_to_num((distance_BHW * BINS_PER_PIXEL).round(), nan=math.inf)
    count = 2 * half + 1
    index = torch.where(bin_BHW.abs() <= half, bin_BHW + half, count).long().flatten(1)
    zeros = images.new_zeros(batch, count + 1)
    total = zeros.scatter_add(1, index, images.flatten(1))[:, :count]
    number = zeros.scatter_add(1, index, torch.ones_like(images).flatten(1))[:, :count]
    return _fill(total / number)


def _fill(values: Tensor) -> Tensor:
    """Values [B, K] with NaN replaced by linear interpolation between their neighbors, at the ends by the nearest."""
    positions = torch.arange(values.shape[1], device=values.device).expand_as(values)
    known = ~values.isnan()
    left = torch.where(known, positions, -1).cummax(dim=1).values
    right = torch.where(known, positions, values.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    left, right = torch.where(left < 0, right, left), torch.where(right >= values.shape[1], left, right)
    left, right = (t.clamp(0, values.shape[1] - 1) for t in (left, right))
    share = (positions - left) / (right - left).clamp(min=1)
    return values.gather(1, left) * (1 - share) + values.gather(1, right) * share


def _distance(profile: Tensor) -> Tensor:
    count = profile.shape[1]
    return (torch.arange(count, device=profile.device) - count // 2) / BINS_PER_PIXEL


def _plateaus(profile: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the profile more than 16 px left and right of the edge, two [B]."""
    distance = _distance(profile)
    return profile[:, distance < -NEAR].mean(dim=1), profile[:, distance > NEAR].mean(dim=1)
