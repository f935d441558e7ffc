"""Proves that protocols are whole, that each does to pixels and texts what its source does, that the faults of VTBench
are reproduced, and that results of different protocols are kept apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from smalti.eval.pixel import psnr, ssim
from smalti.eval.protocols.base import Protocol, protocol, protocols
from smalti.eval.protocols.columns import Stamp, check_column, meets
from smalti.eval.protocols.pixels import finish, pixel_means, pixel_values, prepare, rounded
from smalti.eval.protocols.texts import text_result, tokbench_result
from smalti.eval.strings import score
from smalti.images import read_images

NAMES = {"native", "llamagen", "titok", "adm-rfid", "vtbench", "omnidoc", "tokbench-text"}


@pytest.fixture
def picture() -> Image.Image:
    """A 643 x 531 RGB picture."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (531, 643, 3), dtype=np.uint8))


def test_all_protocols_are_there_and_differ() -> None:
    """Seven, with different digests; only VTBench's is legacy, and it says what is wrong."""
    assert set(protocols()) == NAMES
    assert len({p.digest for p in protocols().values()}) == len(NAMES)
    legacy = [p for p in protocols().values() if p.legacy]
    assert [p.label for p in legacy] == ["vtbench/1 (legacy)"]
    assert [f[:2] for f in legacy[0].faults] == ["V1", "V5", "V6", "V7", "V8", "V9"]
    with pytest.raises(ValueError, match=r"unknown protocol 'vq'.*adm-rfid, llamagen, native"):
        protocol("vq")
    data = {k: v for k, v in protocol("native").to_dict().items() if k != "digest"}
    assert Protocol(**data).digest == protocol("native").digest
    with pytest.raises(ValueError, match=r"crop is 'left'"):
        Protocol(**(data | {"crop": "left"}))


def test_crops_are_those_of_their_sources(picture: Image.Image) -> None:
    """ADM's halving, torchvision's resize, LANCZOS to cover: equal to an independent computation, level by level."""
    image = read_images(picture)
    halved = picture.resize((321, 265), Image.Resampling.BOX)
    scale = 140 / 265
    small = np.asarray(halved.resize((round(321 * scale), 140), Image.Resampling.BICUBIC))
    left = (small.shape[1] - 140) // 2
    assert torch.equal(_levels(_at(140, "llamagen", image)), torch.from_numpy(small[:, left : left + 140].copy()))
    steps = [
        transforms.Resize(200, interpolation=transforms.InterpolationMode.BICUBIC, antialias=True),
        transforms.CenterCrop(200),
        transforms.ToTensor(),
    ]
    assert torch.equal(_at(200, "titok", image)[0], transforms.Compose(steps)(picture))
    scale = 100 / 531
    wide = np.asarray(picture.resize((round(643 * scale), 100), Image.Resampling.LANCZOS))
    left = (wide.shape[1] - 100) // 2
    assert torch.equal(_levels(_at(100, "vtbench", image)), torch.from_numpy(wide[:, left : left + 100].copy()))
    assert prepare(protocol("omnidoc"), image) is image
    with pytest.raises(ValueError, match=r"tokenizer.preprocess"):
        prepare(protocol("native"), image)


def _at(size: int, name: str, image: torch.Tensor) -> torch.Tensor:
    return prepare(replace(protocol(name), size=size), image)


def _levels(image: torch.Tensor) -> torch.Tensor:
    return (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0)


def test_rounding_rules() -> None:
    """Over all 256 levels: cutting after [-1, 1] in float32 darkens 95 of them by one (V8), the others none."""
    levels = (torch.arange(256).float() / 255).view(1, 1, 1, 256).expand(1, 3, 1, 256)
    for rule, lost in (("none", 0), ("round", 0), ("truncate", 0), ("truncate-signed", 95)):
        left = (levels - rounded(levels, rule)) * 255  # type: ignore[arg-type]
        assert int((left[0, 0, 0].round() == 1).sum()) == lost and float(left.min()) > -0.5
    half = torch.full((1, 3, 1, 1), 100.5 / 255)
    assert [int((rounded(half, rule) * 255).round().max()) for rule in ("round", "truncate")] == [101, 100]


def test_vtbench_hides_detail_and_depends_on_batch_mates() -> None:
    """V1: a reconstruction without anything above 256 pixels is scored well; V6: SSIM changes with the batch."""
    rng = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, 3, 512, 512, generator=rng) * 0.4 + 0.3
    small = torch.nn.functional.interpolate(sharp, (256, 256), mode="area")
    soft = torch.nn.functional.interpolate(small, (512, 512), mode="nearest")
    rules = protocol("vtbench")
    squashed = finish(rules, sharp, soft)
    assert squashed[0].shape == (1, 3, 256, 256)
    native = finish(protocol("native"), sharp, soft)
    assert float(psnr(*squashed)) > float(psnr(*native)) + 5
    assert float(ssim(*squashed)) > 0.9 > 0.6 > float(ssim(*native))
    mate = torch.cat([torch.zeros(1, 3, 256, 128), torch.ones(1, 3, 256, 128)], dim=-1)
    alone = pixel_values(rules, *squashed)["ssim"][0]
    pair = torch.cat([squashed[0], mate]), torch.cat([squashed[1], mate])
    assert abs(float(pixel_values(rules, *pair)["ssim"][0] - alone)) > 0.01


def test_vtbench_pools_the_error_with_the_range_it_saw() -> None:
    """V7: one dB value for the whole set; the peak is the brightest target."""
    reference = torch.cat([torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)])
    images = reference + torch.tensor([0.1, 0.3]).view(2, 1, 1, 1)
    means = pixel_means(protocol("vtbench"), pixel_values(protocol("vtbench"), reference, images))
    assert means["psnr"] == pytest.approx(10 * np.log10(0.25 / ((0.01 + 0.09) / 2)), abs=1e-4)


def test_means_of_native_and_omnidoc() -> None:
    """Identical images are counted and capped natively, and read 80 dB in OmniDoc; absent networks leave no column."""
    x = torch.rand(3, 3, 24, 24)
    y = torch.cat([x[:1], (x[1:] + 0.1).clamp(0, 1)])
    columns = pixel_values(protocol("native"), x, y)
    assert set(columns) == {"mse", "values", "psnr", "ssim"}
    means = pixel_means(protocol("native"), columns)
    assert means["n_identical"] == 1 and means["n"] == 3 and means["psnr_pooled"] < means["psnr"]
    finite = psnr(x[1:], y[1:])
    assert means["psnr"] == pytest.approx(float((100 + finite.sum()) / 3))
    omnidoc = pixel_means(protocol("omnidoc"), pixel_values(protocol("omnidoc"), x, y))
    assert omnidoc["psnr"] == pytest.approx(float((80 + finite.sum()) / 3), abs=1e-4)
    with pytest.raises(ValueError, match="differ in shape"):
        finish(protocol("native"), x, y[..., :20])


def test_results_of_different_protocols_share_no_column() -> None:
    """Neither of another protocol nor version; metrics of sets also need one reference and one number of images."""
    native, llamagen = Stamp.of(protocol("native"), n=10), Stamp.of(protocol("llamagen"), n=10)
    check_column("psnr", {"a": native, "b": Stamp.of(protocol("native"), n=20)})
    with pytest.raises(
        ValueError, match=r"psnr .*one column, they differ in protocol .*native/1.*: a; llamagen/1.*: b"
    ):
        check_column("psnr", {"a": native, "b": llamagen})
    with pytest.raises(ValueError, match="number of images"):
        check_column("fid", {"a": native, "b": Stamp.of(protocol("native"), n=20)})
    other = Stamp.of(protocol("native"), n=10, reference_sha256="ab" * 32)
    with pytest.raises(ValueError, match="differ in reference"):
        check_column("fid", {"a": native, "b": other})
    assert meets(protocol("llamagen"), 50_000) is None and meets(protocol("native"), 3) is None
    assert meets(protocol("llamagen"), 10) == "llamagen/1 is of 50000 images, this is of 10"


def test_texts_by_protocol() -> None:
    """Corpus rates natively, characters over words in VTBench, pages without text skipped in OmniDoc."""
    references, hypotheses = ["The  Quick fox", "", "ab cd"], ["the quick fax", "x", "ab cd"]
    native = text_result(protocol("native"), references, hypotheses).values
    assert native["cer"] == pytest.approx((1 + 1 + 0) / (13 + 0 + 5)) and native["wer"] == pytest.approx(2 / 5)
    vtbench = text_result(protocol("vtbench"), references, hypotheses).values
    assert vtbench["wer"] == pytest.approx((3 + 1) / 5)
    omnidoc = text_result(protocol("omnidoc"), references, hypotheses)
    assert (omnidoc.n, omnidoc.skipped) == (2, 1)
    with pytest.raises(ValueError, match="no scores of whole texts"):
        text_result(protocol("adm-rfid"), references, hypotheses)


def test_tokbench_bins() -> None:
    """The mean over bins, not over words."""
    words = [score("a", "a"), score("ab", "ax"), score("ab", "ab"), score("ab", "xy")]
    result = tokbench_result(words, [0.025, 0.035, 0.035, 0.01], 256)
    assert (result.n, result.skipped) == (3, 1)
    assert result.values["t_acc"] == pytest.approx((1 + 0.5) / 2)
    assert result.values["t_ned"] == pytest.approx((1 + 0.75) / 2)
    with pytest.raises(ValueError, match="256, 512, 1024"):
        tokbench_result(words, [0.1] * 4, 300)
