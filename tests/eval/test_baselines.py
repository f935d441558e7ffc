"""Proves that every baseline keeps to its bits, uses most of them, gives back what it says, and improves with more."""

import io

import pytest
import torch
from PIL import Image

from smalti.data.sample_images import samples
from smalti.eval.baselines import Baseline, CodecBaseline, LatentBaseline, ThumbnailBaseline
from smalti.eval.codec_files import FORMATS, encode, payload_bytes
from smalti.eval.pixel import psnr
from smalti.eval.scalar_quantizer import ScalarQuantizer
from smalti.images import read_images
from tests.toys import GridTokenizer, LatentTokenizer


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Two packaged photographs at 96 x 80 pixels."""
    return read_images([s.path for s in samples("photo")][:2], size=96)[..., :80]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("headers", ["free", "counted"])
def test_a_codec_keeps_to_its_bits_and_uses_them(photos: torch.Tensor, kind, headers) -> None:
    """At 2 bits per pixel: nothing above the budget, at least four fifths of it used; real 8-bit images."""
    baseline: Baseline = CodecBaseline(kind, 2.0, headers=headers, shrinks=(1,))
    coded = baseline.code(photos)
    bpp = coded.bits / (96 * 80)
    assert coded.fits.all() and (bpp <= 2.0).all() and (bpp > 1.6).all(), bpp
    assert (coded.file_bits >= coded.bits).all() and (coded.file_bits == coded.bits).all() == (headers == "counted")
    assert torch.equal((coded.images * 255).round() / 255, coded.images) and coded.images.shape == photos.shape
    assert (psnr(photos, coded.images) > 25).all()


def test_more_bits_are_better_and_shrinking_helps_few_bits(photos: torch.Tensor) -> None:
    """PSNR grows with the rate; at a low rate a shrunk image beats the full one."""
    values = [psnr(photos, CodecBaseline("WebP", bpp)(photos)) for bpp in (0.15, 0.5, 2.0)]
    assert (values[0] < values[1]).all() and (values[1] < values[2]).all()
    few = CodecBaseline("JPEG", 0.2).code(photos)
    assert few.fits.all() and all("size" in setting for setting in few.settings)
    assert not CodecBaseline("JPEG", 0.2, shrinks=(1,)).code(photos).fits.all()


def test_what_cannot_fit_is_marked(photos: torch.Tensor) -> None:
    """A whole JPEG of a few bytes does not exist: the smallest one is given, with its bits and fits=False."""
    coded = CodecBaseline("JPEG", 0.01, headers="counted").code(photos[:1])
    assert not coded.fits.any() and float(coded.bits) > 0.01 * 96 * 80
    assert coded.settings == ["quality 1, 1/8 size"]


def test_bits_are_those_of_a_real_file(photos: torch.Tensor) -> None:
    """The file is a valid one of its size, and its payload is most, not all, of a large file."""
    for kind in FORMATS:
        file = encode(photos[:1], kind, 80)
        with Image.open(io.BytesIO(file)) as image:
            assert image.size == (80, 96) and image.format == kind.upper()
        assert 0.5 * len(file) < payload_bytes(file, kind) < len(file)
    small, large = (encode(photos[:1], "JPEG", q) for q in (30, 90))
    headers = {len(f) - payload_bytes(f, "JPEG") for f in (small, large)}
    assert len(headers) == 1  # the same tables and markers at every quality: free headers hide nothing of the picture


def test_thumbnails_and_latents_state_their_bits() -> None:
    """The thumbnail's own count; latents at the largest depth that fits, below 2 bits marked."""
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    small = ThumbnailBaseline(3.0).code(images)
    assert (small.bits <= 3.0 * 64).all() and (small.bits > 0).all()
    tokenizer = LatentTokenizer()
    values = []
    for bpp, depth, fits in ((1.0, 2, False), (1.5, 2, True), (4.0, 5, True), (99.0, 8, True)):
        coded = LatentBaseline(tokenizer, bpp, images).code(images)
        assert coded.bits.tolist() == [16 * 3 * depth] * 6 and coded.fits.all() == fits
        assert coded.settings == [f"{depth} bits a value"] * 6
        values.append(float(psnr(images, coded.images).mean()))
    assert values[1] < values[2] < values[3]
    unrounded = psnr(images, tokenizer.decode(tokenizer.encode(images)))
    assert values[3] == pytest.approx(float(unrounded.mean()), abs=0.05)
    with pytest.raises(ValueError, match="has a codebook"):
        LatentBaseline(GridTokenizer(), 1.0, images)


def test_scalar_quantizer_halves_its_error_with_every_bit() -> None:
    """6 dB a bit, for normal values; codes stay in range, also for values outside the limits."""
    z = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 0.1]) + 5
    errors = []
    for depth in (4, 6, 8):
        quantizer = ScalarQuantizer.fit(z, depth)
        codes = quantizer.codes(z * 3)
        assert codes.min() >= 0 and codes.max() == 2**depth - 1
        errors.append(((quantizer(z) - z).square().mean(dim=0) / z.var(dim=0)).sqrt())
    assert (errors[0] / errors[1] > 2.8).all() and (errors[1] / errors[2] > 2.8).all()
    for bad in (1, 9):
        with pytest.raises(ValueError, match="2 to 8 bits"):
            ScalarQuantizer.fit(z, bad)


def test_what_is_refused(photos: torch.Tensor) -> None:
    """Unknown formats, no bits, images out of range."""
    with pytest.raises(ValueError, match="'PNG'"):
        CodecBaseline("PNG", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than 0 bits"):
        CodecBaseline("JPEG", 0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        CodecBaseline("JPEG", 1.0)(photos * 255)
