"""A protocol applied to pixels: images in, rounded pairs out, and the values and means it asks for.

Shape suffixes: B batch, H W pixels, N images.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as TF

from smalti.eval.inception_resize import quantize
from smalti.eval.pixel import capped, ms_ssim, mse, pooled_psnr, psnr, ssim, ssim_uniform
from smalti.eval.protocols.base import Protocol, Rounding
from smalti.eval.stopwatch import Stopwatch
from smalti.images import check_images, to_uint8

EPS = 1e-8
"""What the piq library adds to the mean square error."""
_KERNELS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def prepare(protocol: Protocol, image: Tensor) -> Tensor:
    """One source image [1, 3, H, W] in [0, 1] as the protocol feeds it, 8-bit values; `size` None leaves its size.

    Errors: ValueError for the crop "tokenizer", which is `tokenizer.preprocess`'s.
    """
    check_images(image)
    if protocol.crop == "tokenizer":
        raise ValueError(f"protocol {protocol.label} leaves cropping to the family: use tokenizer.preprocess")
    if protocol.crop == "none" or protocol.size is None:
        return image
    picture = Image.fromarray(to_uint8(image[0]).permute(1, 2, 0).cpu().numpy())
    cut = {"adm": _adm, "shorter-side": _shorter_side, "cover": _cover}[protocol.crop]
    return TF.to_tensor(cut(picture, protocol.size, _KERNELS[protocol.kernel]))[None]


def finish(protocol: Protocol, reference: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Source and reconstruction [B, 3, H, W] in [0, 1] as the protocol scores them, float32.

    Errors: ValueError for different shapes, which no protocol of ours resizes silently.
    """
    if reference.shape != images.shape:
        raise ValueError(f"source {list(reference.shape)} and reconstruction {list(images.shape)} differ in shape")
    pair = rounded(reference, protocol.reference_uint8), rounded(images, protocol.uint8)
    if protocol.scored_side is None:
        return pair
    squashed = [torch.cat([_squash(image, protocol.scored_side) for image in batch]) for batch in pair]
    return squashed[0], squashed[1]


def rounded(images: Tensor, rule: Rounding) -> Tensor:
    """Images in [0, 1] after the rounding of a protocol, float32 multiples of 1/255 (rule "none": as they are)."""
    if rule == "none":
        return images.detach().float().clamp(0, 1)
    return quantize(images, rule).float() / 255


def pixel_values(
    protocol: Protocol,
    reference: Tensor,
    images: Tensor,
    lpips: Mapping[str, nn.Module] | None = None,
    watch: Stopwatch | None = None,
) -> dict[str, Tensor]:
    """Columns float64 [B] that the protocol's means are made of, of pairs as `finish` gives them.

    Under "batch-range" SSIM an image's value depends on its batch (8 in VTBench's own runs). `lpips`: by backbone,
    modules of `perceptual.Lpips`; absent backbones are left out. Metrics that an image is too small for are left out.
    `watch` gets the time of each metric.
    """
    watch, n = watch or Stopwatch(), len(images)
    with watch.measure("psnr", n):
        columns = _errors(protocol, reference, images)
    if protocol.ssim is not None:
        with watch.measure("ssim", n):
            columns["ssim"] = _SSIM[protocol.ssim](reference, images)
    if protocol.ms_ssim and min(images.shape[-2:]) > 160:
        with watch.measure("ms_ssim", n):
            columns["ms_ssim"] = ms_ssim(reference, images)
    for backbone in protocol.lpips:
        if lpips and backbone in lpips:
            with watch.measure(f"lpips_{backbone}", n):
                columns[f"lpips_{backbone}"] = lpips[backbone](reference, images)
    return columns


def _errors(protocol: Protocol, reference: Tensor, images: Tensor) -> dict[str, Tensor]:
    """Square error and what PSNR is made of."""
    columns = {"mse": mse(reference, images)}
    columns["values"] = torch.full((len(images),), float(images[0].numel()), dtype=torch.float64)
    if protocol.psnr == "mean":
        columns["psnr"] = psnr(reference, images)
    elif protocol.psnr == "mean-eps":
        columns["psnr"] = -10 * (columns["mse"] + EPS).log10()
    elif protocol.psnr == "pooled-range":
        columns["reference_max"] = reference.double().amax(dim=(1, 2, 3))
    return columns


def pixel_means(protocol: Protocol, columns: Mapping[str, Tensor]) -> dict[str, float]:
    """Values of a whole set from the columns [N] of all its images, by the protocol's forms."""
    means = {"n": float(len(columns["mse"]))}
    if protocol.psnr == "mean":
        means["psnr"] = float(capped(columns["psnr"]).mean())
        means["psnr_pooled"] = pooled_psnr(columns["mse"], columns["values"])
        means["n_identical"] = float((columns["mse"] == 0).sum())
    elif protocol.psnr == "mean-eps":
        means["psnr"] = float(columns["psnr"].mean())
    elif protocol.psnr == "pooled-range":
        peak = float(columns["reference_max"].max())
        means["psnr"] = pooled_psnr(columns["mse"], columns["values"]) + 20 * float(np.log10(peak))
    for name in columns:
        if name in ("ssim", "ms_ssim") or name.startswith("lpips_"):
            means[name] = float(columns[name].nanmean())  # NaN: not measured at this image's size
    return means


# ---- crops, as their sources do them ---------------------------------------------------------------------------------


def _adm(picture: Image.Image, size: int, kernel: Image.Resampling) -> Image.Image:
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), kernel)
    return _middle(picture, size)


def _shorter_side(picture: Image.Image, size: int, kernel: Image.Resampling) -> Image.Image:
    assert kernel == Image.Resampling.BICUBIC
    resized = TF.resize(picture, [size], TF.InterpolationMode.BICUBIC)  # type: ignore[arg-type]
    return TF.center_crop(resized, [size, size])  # type: ignore[return-value]


def _cover(picture: Image.Image, size: int, kernel: Image.Resampling) -> Image.Image:
    scale = max(size / picture.width, size / picture.height)
    return _middle(picture.resize((round(picture.width * scale), round(picture.height * scale)), kernel), size)


def _middle(picture: Image.Image, size: int) -> Image.Image:
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def _squash(image: Tensor, side: int) -> Tensor:
    picture = Image.fromarray(to_uint8(image).permute(1, 2, 0).cpu().numpy())
    return TF.to_tensor(picture.resize((side, side), Image.Resampling.BILINEAR))[None]


def _batch_range_ssim(reference: Tensor, images: Tensor) -> Tensor:
    from smalti.eval.weights import installed

    installed("torchmetrics")
    from torchmetrics.functional.image import structural_similarity_index_measure as theirs

    values = theirs(images.float(), reference.float(), reduction="none", data_range=None)
    assert isinstance(values, Tensor)
    return values.double().reshape(-1)


_SSIM: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gaussian": ssim,
    "uniform7-range2": partial(ssim_uniform, data_range=2.0),
    "batch-range": _batch_range_ssim,
}
