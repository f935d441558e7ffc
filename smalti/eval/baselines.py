"""Image codecs and quantized latents at the bits of a tokenizer: what the tokens buy, on the same axes.

Every baseline takes images [B, 3, H, W] in [0, 1] and gives images of the same shape, rounded to 8 bits, with the bits
really used. Shape suffixes: B batch, H W pixels, L tokens, C latent channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from smalti.eval.codec_files import FORMATS, Format, decode, encode, payload_bytes
from smalti.eval.latent_codes import fit_quantizers, present, rounded_latents
from smalti.eval.pixel import psnr
from smalti.eval.scalar_quantizer import DEPTHS
from smalti.eval.thumbnail import thumbnails
from smalti.images import check_images, enlarge, to_uint8
from smalti.tokenizers.base import Tokenizer

SHRINKS = (1, 2, 4, 8)
"""By how much a codec may shrink an image before coding it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """A batch as a baseline gives it back."""

    images: Tensor
    """float [B, 3, H, W] in [0, 1], multiples of 1/255."""
    bits: Tensor
    """float64 [B]: bits that count against the budget."""
    file_bits: Tensor
    """float64 [B]: bits of the whole file, headers included; equal to `bits` where there is no file."""
    fits: Tensor
    """bool [B]: False where even the coarsest setting needs more than the budget; that setting is given then."""
    settings: list[str]
    """What was chosen for each image."""


class Baseline(Protocol):
    """A reconstruction at a given rate; also callable as images -> images."""

    name: str
    bpp: float
    """Budget, bits per pixel of the source."""

    def code(self, images: Tensor) -> Coded:
        """Images through the baseline."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Only the images of `code`."""
        ...


class CodecBaseline:
    """JPEG, WebP or AVIF by Pillow, at most `bpp` bits per pixel.

    Per image and shrink factor the highest quality whose size fits is found by bisection (sizes grow with quality); the
    pair of highest PSNR is taken, so that the codec has every advantage. Shrinking: bicubic with antialiasing,
    enlarging: bicubic.

    `headers="free"`: only the entropy-coded data counts, as if sender and receiver had agreed on everything else (at
    tokenizer rates the headers alone would exceed the budget); "counted": the whole file counts.
    """

    def __init__(
        self,
        kind: Format,
        bpp: float,
        *,
        headers: Literal["free", "counted"] = "free",
        shrinks: tuple[int, ...] = SHRINKS,
    ) -> None:
        if kind not in FORMATS or bpp <= 0 or headers not in ("free", "counted") or min(shrinks, default=0) < 1:
            raise ValueError(
                f"got format {kind!r}, {bpp} bits per pixel, headers {headers!r}, shrinks {shrinks}; allowed are "
                f"{', '.join(FORMATS)}, more than 0 bits, 'free' or 'counted', and factors of at least 1"
            )
        self.name, self.bpp = f"{kind} ({headers} headers)", bpp
        self.kind: Format = kind
        self.headers, self.shrinks = headers, shrinks

    def code(self, images: Tensor) -> Coded:
        """Errors: ValueError for wrong images, ImportError if this Pillow was built without the format."""
        check_images(images)
        height, width = images.shape[-2:]
        coded = [self._one(image[None].cpu(), self.bpp * height * width) for image in images]
        return Coded(
            images=torch.cat([c.images for c in coded]),
            bits=torch.cat([c.bits for c in coded]),
            file_bits=torch.cat([c.file_bits for c in coded]),
            fits=torch.cat([c.fits for c in coded]),
            settings=[s for c in coded for s in c.settings],
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Only the images of `code`."""
        return self.code(images).images

    def _one(self, image: Tensor, budget: float) -> Coded:
        candidates = [c for shrink in self.shrinks for c in self._at(image, shrink, budget)]
        fitting = [c for c in candidates if bool(c.fits)]
        if not fitting:
            return min(candidates, key=lambda c: float(c.bits))
        return max(fitting, key=lambda c: float(psnr(image, c.images)))

    def _at(self, image: Tensor, shrink: int, budget: float) -> Iterator[Coded]:
        """The best quality that fits at one size, or the lowest one."""
        height, width = image.shape[-2:]
        small = (max(1, round(height / shrink)), max(1, round(width / shrink)))
        shrunk = image if shrink == 1 else F.interpolate(image, small, mode="bicubic", antialias=True).clamp(0, 1)
        low, high = FORMATS[self.kind]
        best = self._coded(image, shrunk, shrink, low, budget)
        while best.fits and low < high:
            middle = (low + high + 1) // 2
            trial = self._coded(image, shrunk, shrink, middle, budget)
            if trial.fits:
                best, low = trial, middle
            else:
                high = middle - 1
        yield best

    def _coded(self, image: Tensor, shrunk: Tensor, shrink: int, quality: int, budget: float) -> Coded:
        file = encode(shrunk, self.kind, quality)
        counted = len(file) if self.headers == "counted" else payload_bytes(file, self.kind)
        back = _rounded(enlarge(decode(file), (image.shape[-2], image.shape[-1])))
        return Coded(
            images=back,
            bits=torch.tensor([counted * 8.0], dtype=torch.float64),
            file_bits=torch.tensor([len(file) * 8.0], dtype=torch.float64),
            fits=torch.tensor([counted * 8 <= budget]),
            settings=[f"quality {quality}" + (f", 1/{shrink} size" if shrink > 1 else "")],
        )


class ThumbnailBaseline:
    """Plain downscaling: the best small bicubic copy within the budget (see `thumbnail`)."""

    def __init__(self, bpp: float) -> None:
        self.name, self.bpp = "thumbnail", bpp

    def code(self, images: Tensor) -> Coded:
        """Images too small for any thumbnail come back gray, at no bits."""
        check_images(images)
        small = thumbnails(images.cpu(), self.bpp * images.shape[-2] * images.shape[-1])
        bits = small.bits.double()
        settings = [f"{h}x{w}, {d} bits" for (h, w), d in zip(small.sides.tolist(), small.depths.tolist(), strict=True)]
        fits = torch.ones(len(images), dtype=torch.bool)
        return Coded(images=_rounded(small.images), bits=bits, file_bits=bits, fits=fits, settings=settings)

    def __call__(self, images: Tensor) -> Tensor:
        """Only the images of `code`."""
        return self.code(images).images


class LatentBaseline:
    """A continuous tokenizer (a KL autoencoder) whose latents are rounded to 2-8 bits a value.

    The largest depth whose bits fit the budget is taken. The limits of the quantizers are fitted once, to the latents
    of `calibration` images, and cost nothing, as codebooks do not.
    """

    def __init__(self, tokenizer: Tokenizer, bpp: float, calibration: Tensor) -> None:
        """`calibration`: images [B, 3, H, W] in [0, 1]. Errors: ValueError for a tokenizer with a codebook."""
        tokens = tokenizer.encode(calibration)
        if tokens.latents is None:
            raise ValueError(f"{tokenizer.name or 'this tokenizer'} has a codebook: its bits are known already")
        self.name, self.bpp, self.tokenizer = f"{tokenizer.name or 'latents'} quantized", bpp, tokenizer
        self.quantizers = fit_quantizers([present(tokens)], DEPTHS)

    def code(self, images: Tensor) -> Coded:
        """Encodes, rounds the latents, decodes, and enlarges to the size of the source where needed."""
        tokens = self.tokenizer.encode(images)
        assert tokens.latents is not None
        _, count, channels = tokens.latents.shape
        budget = self.bpp * images.shape[-2] * images.shape[-1]
        depth = max((d for d in DEPTHS if count * channels * d <= budget), default=DEPTHS[0])
        rounded, _ = rounded_latents(tokens, self.quantizers[depth])
        decoded = self.tokenizer.decode(rounded).cpu()
        bits = torch.full((len(images),), float(count * channels * depth), dtype=torch.float64)
        return Coded(
            images=_rounded(enlarge(decoded, (images.shape[-2], images.shape[-1]))),
            bits=bits,
            file_bits=bits,
            fits=bits <= budget,
            settings=[f"{depth} bits a value"] * len(images),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Only the images of `code`."""
        return self.code(images).images


def _rounded(images: Tensor) -> Tensor:
    return to_uint8(images).float() / 255
