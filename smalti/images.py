"""Reading and writing images: path, PIL, array or tensor -> float [B, 3, H, W], RGB in [0, 1], and back.

What is lossless and usual is converted (grayscale, 16-bit grayscale, palette, alpha, EXIF orientation); everything
else is an error that says what was got, what is allowed and what to do. Shape suffixes: B batch, H W pixels.
"""

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

Source = str | Path | Image.Image | np.ndarray | Tensor
Color = tuple[float, float, float]

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "QOI")
"""Formats that are read; those whose reader starts another program (EPS) or that hold no picture are left out."""

CLIP_RATE = 25
"""Frames per second of written clips."""

_RANGE_TOLERANCE = 1e-4
_PLAIN_MODES = ("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV")


@dataclass(frozen=True, kw_only=True)
class Resize:
    """How an image is brought to a square of another size; part of what a token file records."""

    kernel: Literal["bicubic", "bilinear", "lanczos", "area"] = "bicubic"
    """Resampling kernel."""
    crop: Literal["center", "none"] = "center"
    """center: cut the largest centered square first; none: stretch the whole image to a square."""
    antialias: bool = True
    """Widen the kernel when shrinking; area and lanczos always do."""

    def __post_init__(self) -> None:
        if self.kernel not in ("bicubic", "bilinear", "lanczos", "area"):
            raise ValueError(f"Resize.kernel is {self.kernel!r}; allowed: bicubic, bilinear, lanczos, area")
        if self.crop not in ("center", "none"):
            raise ValueError(f"Resize.crop is {self.crop!r}; allowed: center, none")
        if not self.antialias and self.kernel in ("area", "lanczos"):
            raise ValueError(f"Resize.antialias=False has no effect with {self.kernel}: use bicubic or bilinear")

    def __str__(self) -> str:
        crop = "center crop to square" if self.crop == "center" else "stretched to a square"
        widened = self.kernel in ("bicubic", "bilinear") and self.antialias
        return f"{crop}, {self.kernel}{' (antialias)' if widened else ''}"


def read_images(
    source: Source | Sequence[Source],
    *,
    size: int | None = None,
    resize: Resize = Resize(),
    background: Color = (1, 1, 1),
    frame: int | None = None,
    max_pixels: int = 100_000_000,
) -> Tensor:
    """Images as float32 [B, 3, H, W], RGB in [0, 1].

    `source` is a path, a PIL image, an array ([H, W], [H, W, 1|3|4] or [B, H, W, 1|3|4]; uint8, uint16 or float in
    [0, 1]), a tensor (the same with channels first) or a sequence of those. `size` asks for a square by `resize`;
    without it all images must have one size. Alpha is composited on `background`; `frame` picks one of an animation.

    Errors: FileNotFoundError; ValueError naming the file for what is not an image, damaged, animated, CMYK, deeper
    than 8 bit per color channel, or larger than `max_pixels` (checked before decoding).
    """
    if size is not None and not 1 <= size <= math.isqrt(max_pixels):
        raise ValueError(f"size={size}: allowed are 1 to {math.isqrt(max_pixels)} pixels (the root of max_pixels)")
    if len(background) != 3 or not all(0 <= v <= 1 for v in background):
        raise ValueError(f"background={background}: three values in [0, 1] are needed, such as (1, 1, 1) for white")
    sources = [source] if isinstance(source, (str, Path, Image.Image, np.ndarray, Tensor)) else list(source)
    if not sources:
        raise ValueError("no images: the sequence is empty")
    parts = []
    for item in sources:
        images = _read(item, background, frame, max_pixels)
        parts.append(images if size is None else resize_images(images, size, resize))
    shapes = sorted({tuple(p.shape[-2:]) for p in parts})
    if len(shapes) > 1:
        listed = ", ".join(f"{h}x{w}" for h, w in shapes[:4]) + (", ..." if len(shapes) > 4 else "")
        raise ValueError(f"images of different sizes ({listed}) do not fit one batch: pass size=, such as size=256")
    return torch.cat(parts)


def check_images(images: Tensor, *, frames: int = 0) -> None:
    """A ValueError unless `images` is float [B, 3, H, W], finite and within [0, 1] (tolerance 1e-4).

    With `frames` > 0: clips [B, 3, frames, H, W].
    """
    allowed = f"allowed is a float tensor [B, 3, {f'{frames} frames, ' if frames else ''}H, W], RGB in [0, 1]"
    if not isinstance(images, Tensor):
        raise ValueError(f"got {type(images).__name__}; {allowed}: use smalti.read_images(...)")
    if not images.is_floating_point():
        fix = "images.float() / 255" if images.dtype == torch.uint8 else "smalti.read_images(...)"
        raise ValueError(f"got dtype {images.dtype}; {allowed}: use {fix}")
    shape = list(images.shape)
    if frames and (images.ndim != 5 or shape[1:3] != [3, frames] or 0 in shape):
        raise ValueError(f"got shape {shape}; {allowed}: frames are the third axis, cut or repeat them to {frames}")
    if not frames and (images.ndim != 4 or shape[1] != 3 or 0 in shape):
        raise ValueError(f"got shape {shape}; {allowed}{_shape_hint(shape)}")
    low, high = (float(v) for v in images.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"got NaN or infinite values; {allowed}")
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        fix = ": use images / 255" if low >= 0 and high > 2 else ": use (images + 1) / 2" if -1.01 <= low < 0 else ""
        raise ValueError(f"got values in [{low:.4g}, {high:.4g}]; {allowed}{fix}")


def enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [B, 3, H, W] in [0, 1] at (height, width), by bicubic interpolation where that is not their size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bicubic").clamp(0, 1)


def resize_images(images: Tensor, size: int, resize: Resize = Resize()) -> Tensor:
    """Images [B, 3, H, W] as [B, 3, size, size], clamped to [0, 1]; same dtype."""
    height, width = images.shape[-2:]
    if resize.crop == "center":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        images = images[..., top : top + side, left : left + side]
    if images.shape[-2:] == (size, size):
        return images.clamp(0, 1)
    if resize.kernel == "lanczos":
        return _lanczos(images, size).clamp(0, 1)
    if resize.kernel == "area":
        return F.interpolate(images, (size, size), mode="area").clamp(0, 1)
    return F.interpolate(images, (size, size), mode=resize.kernel, antialias=resize.antialias).clamp(0, 1)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 of the same shape: floor(255 x + 0.5), so halves go up."""
    return (images.detach().float().clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    """One image [3, H, W] or [1, 3, H, W] in [0, 1] as an 8-bit PIL image."""
    one = image[None] if image.ndim == 3 else image
    check_images(one)
    if one.shape[0] != 1:
        raise ValueError(f"got {one.shape[0]} images where one is needed: pass images[i], or use image_grid")
    return Image.fromarray(to_uint8(one[0]).permute(1, 2, 0).cpu().numpy())


def write_image(image: Tensor, path: str | Path) -> Path:
    """Writes one image [3, H, W] in [0, 1] as PNG, a clip [3, T, H, W] as animated PNG; never leaves a partial file."""
    from smalti.files import whole

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"images are written as PNG (lossless), got {path}: use {path.with_suffix('.png')}")
    clip = image.ndim == 4 and image.shape[0] == 3
    first, *rest = (to_pil(frame) for frame in (image.unbind(1) if clip else [image]))
    moving = {"save_all": True, "append_images": rest, "duration": 1000 / CLIP_RATE, "loop": 0} if rest else {}
    with whole(path) as temporary:
        first.save(temporary, format="PNG", **moving)
    return path


def write_images(
    images: Tensor, paths: str | Path | Sequence[str | Path], *, names: Sequence[str] | None = None
) -> list[Path]:
    """Writes images [B, 3, H, W] in [0, 1] as PNG: into a folder (0000.png, ... or `names`), or to a list of paths.

    Clips [B, 3, T, H, W] become animated PNG.
    """
    check_images(images, frames=images.shape[2] if isinstance(images, Tensor) and images.ndim == 5 else 0)
    if isinstance(paths, str | Path):
        names = names or [f"{i:04d}" for i in range(len(images))]
        for name in names:
            if Path(name).name != name or "\\" in name:
                raise ValueError(f"image name {name!r} is not a plain file name: leave out folders, pass paths instead")
        paths = [Path(paths) / (name if name.lower().endswith(".png") else f"{name}.png") for name in names]
    elif names is not None:
        raise ValueError("names= goes with a folder: pass either a folder and names, or a list of paths")
    if len(paths) != len(images) or len({str(p) for p in paths}) != len(images):
        raise ValueError(f"{len(images)} images need as many different paths or names, got {len(paths)}")
    return [write_image(image, path) for image, path in zip(images, paths, strict=True)]


def image_grid(images: Tensor, columns: int, *, pad: int = 2) -> Tensor:
    """Images [B, 3, H, W] side by side, row after row, white in between: [3, rows (H + pad) + pad, ...]."""
    batch, channels, height, width = images.shape
    if batch < 1 or columns < 1 or pad < 0:
        raise ValueError(f"image_grid needs images, columns >= 1 and pad >= 0, got {batch}, {columns}, {pad}")
    columns = min(columns, batch)
    rows = -(-batch // columns)
    grid = images.new_ones(channels, rows * (height + pad) + pad, columns * (width + pad) + pad)
    for i, image in enumerate(images):
        top, left = pad + i // columns * (height + pad), pad + i % columns * (width + pad)
        grid[:, top : top + height, left : left + width] = image
    return grid


# ---- reading one source ----------------------------------------------------------------------------------------------


def _read(source: Source, background: Color, frame: int | None, max_pixels: int) -> Tensor:
    if isinstance(source, str | Path):
        return _read_file(Path(source), background, frame, max_pixels)
    if isinstance(source, Image.Image):
        name = f"the {source.mode} PIL image"
        _check_pixels(source, name, max_pixels)
        return _decode(source, name, background, frame)
    if isinstance(source, np.ndarray):
        return _from_array(source, background)
    if isinstance(source, Tensor):
        return _from_tensor(source, background)
    raise ValueError(
        f"cannot read an image from {type(source).__name__}; allowed are a path, a PIL image, an array, a tensor, or a "
        "sequence of those"
    )


def _read_file(path: Path, background: Color, frame: int | None, max_pixels: int) -> Tensor:
    if path.is_dir():
        raise ValueError(f"{path} is a folder: pass its files, such as sorted(Path({str(path)!r}).glob('*.png'))")
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.init()
            image = Image.open(path, formats=[f for f in FORMATS if f in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large ({error}): not decoded; shrink it first") from error
    except Exception as error:  # the format readers of PIL raise OSError, SyntaxError, struct.error and others
        raise ValueError(f"{path} is not an image that can be read ({error}); formats: {', '.join(FORMATS)}") from error
    with image:
        _check_pixels(image, str(path), max_pixels)
        return _decode(image, str(path), background, frame)


def _check_pixels(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(
            f"{name} is {width}x{height} = {width * height / 1e6:.0f} megapixels, more than max_pixels={max_pixels}: "
            "not decoded; shrink it, or raise max_pixels if you trust it"
        )


def _decode(image: Image.Image, name: str, background: Color, frame: int | None) -> Tensor:
    """float32 [1, 3, H, W] of an opened PIL image."""
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photo with previews behind it
    if frames > 1 and frame is None:
        raise ValueError(f"{name} is animated or has several pages ({frames} frames): pass frame=0 for the first")
    if frame is not None and not 0 <= frame < frames:
        raise ValueError(f"{name} has frames 0 to {frames - 1}, got frame={frame}")
    wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))
    try:
        if frame:
            image.seek(frame)
        deep = _too_deep(image)
        image.load()
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # as above; a truncated file is an OSError
        raise ValueError(f"{name} cannot be decoded, it is damaged or truncated ({error})") from error
    if deep:
        raise ValueError(f"{name} has more than 8 bit per color channel, which would be cut off: convert it to 8 bit")
    return _composite(torch.from_numpy(_pixels(image, name, wide))[None], background)


def _too_deep(image: Image.Image) -> bool:
    """True for a color image with more than 8 bits per channel, which PIL cuts to 8 without a word."""
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;"):
        return False
    for tile in getattr(image, "tile", None) or []:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(a, str) and re.search(r";16[BLNS]", a) for a in arguments):
            return True
        if tile[0] in ("ppm", "ppm_plain") and any(isinstance(a, int) and a > 255 for a in arguments):
            return True
    name = getattr(image, "filename", "")
    if image.format not in ("AVIF", "JPEG2000") or not name:
        return False
    with open(name, "rb") as file:  # these two decoders do not report the depth: it is in the header
        head = file.read(1 << 16)
    if image.format == "AVIF":
        at = head.find(b"av1C")  # AV1 codec configuration: bit 6 of the third byte is high_bitdepth
        return at >= 0 and bool(head[at + 6] & 0x40)
    at = head.find(b"\xff\x4f\xff\x51")  # JPEG 2000 codestream and SIZ marker; Ssiz + 1 = depth
    return at >= 0 and (head[at + 42] & 0x7F) + 1 > 8


def _pixels(image: Image.Image, name: str, wide: bool) -> np.ndarray:
    """float32 [1|3|4, H, W] in [0, 1] of a loaded PIL image; `wide`: 16-bit grayscale."""
    mode = image.mode
    if mode == "CMYK":
        raise ValueError(
            f"{name} is CMYK, whose colors need a profile: convert it to sRGB in an image editor, or accept a rough "
            "conversion with PIL.Image.open(path).convert('RGB')"
        )
    if wide:
        gray = np.asarray(image).astype(np.float32)
        clear = image.info.get("transparency")
        scaled = gray / np.float32(65535)
        return scaled[None] if clear is None else np.stack([scaled, scaled, scaled, (gray != clear).astype(np.float32)])
    if mode == "F":
        gray = np.asarray(image, np.float32)
        if not (np.isfinite(gray).all() and gray.min() >= 0 and gray.max() <= 1):
            raise ValueError(f"{name} holds float values outside [0, 1]: scale them first")
        return gray[None]
    if mode not in _PLAIN_MODES:
        raise ValueError(f"{name} has PIL mode {mode}; allowed: {', '.join(_PLAIN_MODES)}, I;16, and F in [0, 1]")
    clear = mode in ("PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info
    if mode in ("La", "RGBa"):
        image = image.convert(mode[:-1] + "A")
    array = np.asarray(image.convert("RGBA" if clear else "RGB"), np.float32) / np.float32(255)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _from_array(array: np.ndarray, background: Color) -> Tensor:
    shape = list(array.shape)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3, 4) or 0 in shape:
        hint = ": channels go last, use array.transpose(1, 2, 0)" if shape[:1] in ([1], [3], [4]) else ""
        raise ValueError(f"got an array {shape}; allowed are [H, W], [H, W, 1|3|4] and [B, H, W, 1|3|4]{hint}")
    batch = array if array.ndim == 4 else array[None]
    return _composite(torch.from_numpy(_scaled(batch.transpose(0, 3, 1, 2))), background)


def _from_tensor(tensor: Tensor, background: Color) -> Tensor:
    shape = list(tensor.shape)
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3, 4) or 0 in shape:
        hint = ": channels go first, use tensor.movedim(-1, -3)" if shape[-1:] in ([1], [3], [4]) else ""
        raise ValueError(f"got a tensor {shape}; allowed are [H, W], [1|3|4, H, W] and [B, 1|3|4, H, W]{hint}")
    values = tensor.detach().cpu()
    array = values.float().numpy() if values.is_floating_point() else values.numpy()
    return _composite(torch.from_numpy(_scaled(array if array.ndim == 4 else array[None])), background)


def _scaled(array: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] from uint8, uint16 or float in [0, 1]."""
    if array.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(array, np.float32) / np.float32(np.iinfo(array.dtype).max)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"got pixels of type {array.dtype}; allowed are uint8, uint16 and float in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):  # false for NaN too
        fix = "(x + 1) / 2 if the range is [-1, 1]" if -1.01 <= low < 0 else "x / 255 if the range is [0, 255]"
        raise ValueError(f"got float pixels in [{low:.4g}, {high:.4g}]; allowed is [0, 1]: use {fix}")
    return np.array(array, np.float32, order="C").clip(0, 1)


def _composite(images: Tensor, background: Color) -> Tensor:
    """[B, 3, H, W] of [B, 1|3|4, H, W], alpha over the background."""
    if images.shape[1] == 4:
        alpha = images[:, 3:]
        return images[:, :3] * alpha + torch.tensor(background, dtype=torch.float32)[:, None, None] * (1 - alpha)
    return images.expand(-1, 3, -1, -1).contiguous()


def _lanczos(images: Tensor, size: int) -> Tensor:
    flat = images.detach().float().cpu().flatten(0, 1).numpy()
    planes = [Image.fromarray(plane).resize((size, size), Image.Resampling.LANCZOS) for plane in flat]
    resized = torch.from_numpy(np.stack([np.asarray(p) for p in planes]))
    return resized.view(*images.shape[:2], size, size).to(images)


def _shape_hint(shape: list[Any]) -> str:
    if len(shape) == 3 and shape[0] == 3:
        return ": use images[None]"
    if len(shape) == 4 and shape[1] == 1:
        return ": grayscale, use images.expand(-1, 3, -1, -1)"
    if len(shape) == 4 and shape[1] == 4:
        return ": composite the alpha channel first, smalti.read_images(images) does"
    if len(shape) == 4 and shape[-1] == 3:
        return ": channels go second, use images.permute(0, 3, 1, 2)"
    return ""
