"""Proves that our pixel and perceptual metrics give the values of the reference implementations, on the golden pairs of
`metrics/pixel` folders below the roots of `SMALTI_GOLDENS` (default: tests/goldens).

The other parts of `metrics` folders are replayed by tests/eval/test_goldens_*.py.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file

from smalti.eval.perceptual import Lpips
from smalti.eval.pixel import capped, mae, ms_ssim, mse, pooled_psnr, psnr, ssim, ssim_uniform
from smalti.eval.protocols.base import protocol
from smalti.eval.protocols.pixels import pixel_means, pixel_values
from tests.eval.account import Account, parts, require

BACKBONES = {"alex": "alexnet", "squeeze": "squeezenet1_1", "vgg": "vgg16"}


@pytest.fixture(params=require(parts("pixel")), scope="module")
def pixel(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor, Account]:
    """Reference and distorted images, float64 in [0, 1], and the account of the reference values."""
    folder: Path | None = request.param
    assert folder is not None, "no golden pairs were found"
    pairs = load_file(folder / "pairs.safetensors")
    return pairs["reference_u8"].double() / 255, pairs["distorted_u8"].double() / 255, Account(folder)


def test_every_value(pixel) -> None:
    """Each reference value is compared, or ignored with a reason."""
    reference, distorted, account = pixel
    account.ignore("versions/.*", "of other libraries")
    _psnr(account, reference, distorted)
    _ssim(account, reference, distorted)
    _lpips(account, reference, distorted)
    _edges(account, reference)
    _protocols(account, reference, distorted)
    account.ignore("(gmsd|vif_p|fsim|haarpsi)_piq", "not metrics of this suite")
    account.ignore("dists_note", "words; DISTS is compared with torchmetrics in test_perceptual")
    account.settle()


def _psnr(account: Account, reference: torch.Tensor, distorted: torch.Tensor) -> None:
    ours, error = psnr(reference, distorted), mse(reference, distorted)
    account.compare("psnr_db/numpy per-image", ours.tolist(), atol=1e-6)
    account.compare("psnr_db/numpy mean of per-image", float(ours.mean()), atol=1e-6)
    account.compare("psnr_db/skimage(uint8,data_range=255)", ours.tolist(), atol=1e-6)
    account.compare(account.one(r"psnr_db/torchmetrics per image.*"), ours.tolist(), atol=1e-5)
    for match in account.matching(r"psnr_db/torchmetrics dataset-level.*"):
        account.compare(match[0], pooled_psnr(error), atol=1e-5)
    eps = pixel_values(protocol("omnidoc"), reference, distorted)["psnr"]
    account.compare(account.one(r"psnr_db/piq.psnr.*"), eps.tolist(), atol=1e-6)
    account.compare(account.one(r"psnr_db/pyiqa.psnr\(test_y_channel=False.*"), eps.tolist(), atol=1e-6)
    account.ignore(r"psnr_db/pyiqa.psnr\(test_y_channel=True\)", "luma, which no protocol of ours takes")
    account.compare("mse_unit_range", error.tolist(), atol=1e-15)
    account.compare("mae_unit_range", mae(reference, distorted).tolist(), atol=1e-15)
    assert abs(float(ours.mean()) - pooled_psnr(error)) > 1


def _ssim(account: Account, reference: torch.Tensor, distorted: torch.Tensor) -> None:
    ours = ssim(reference, distorted)
    single = ssim(reference.float(), distorted.float())
    torch.testing.assert_close(single, ours, rtol=0, atol=2e-5)
    account.compare(account.one(r"ssim/skimage gaussian.*\(canonical\)"), ours.tolist(), atol=1e-6)
    account.compare(account.one(r"ssim/piq.ssim\(downsample=False.*"), ours.tolist(), atol=1e-7)
    account.compare(account.one(r"ssim/pytorch_msssim.ssim.*"), ours.tolist(), atol=1e-5)
    account.compare(account.one(r"ssim/skimage DEFAULT.*"), ssim_uniform(reference, distorted).tolist(), atol=1e-8)
    batch = pixel_values(protocol("vtbench"), reference, distorted)["ssim"]
    account.compare("ssim/torchmetrics(data_range=None,f32): range taken from the batch", batch.tolist(), atol=2e-5)
    account.ignore(r"ssim/torchmetrics\(data_range=1.*", "pads by reflection")
    account.ignore(r"ssim/piq.ssim\(DEFAULT.*", "shrinks images of 384 pixels and more, here none")
    account.ignore(r"ssim/pyiqa.*", "luma, or negative terms clipped")
    multi = ms_ssim(reference, distorted)
    account.compare("ms_ssim/piq.multi_scale_ssim(f64)", multi.tolist(), atol=1e-6)
    account.compare("ms_ssim/pytorch_msssim.ms_ssim(f64)", multi.tolist(), atol=1e-5)
    account.ignore("ms_ssim/(torchmetrics|pyiqa).*", "another padding")


def _lpips(account: Account, reference: torch.Tensor, distorted: torch.Tensor) -> None:
    for name in BACKBONES:
        path = f"lpips_random_backbone/{name}"
        state = _recipe(name, account.values["lpips_random_backbone"][name]["recipe_seed"])
        stream = b"".join(tensor.numpy().tobytes() for tensor in state.values())
        account.compare(f"{path}/weights_sha256", hashlib.sha256(stream).hexdigest())
        network = Lpips(state, name)  # type: ignore[arg-type]
        ours = network(reference, distorted)
        account.compare(f"{path}/lpips 0.1.4 f32", ours.tolist(), atol=2e-6)
        account.compare(f"{path}/lpips 0.1.4 f64", ours.tolist(), atol=2e-6)
        account.compare(account.one(f"{path}/torchmetrics f32.*"), ours.tolist(), atol=2e-6)
        network.signed_input = False
        wrong = network(reference, distorted)
        account.compare(account.one(f"{path}/WRONG RANGE.*"), wrong.tolist(), atol=2e-6)
        assert (ours > 2 * wrong).all()
        account.ignore(f"{path}/recipe_seed|{path}/per_layer.*", "an input; the parts of the sum that is compared")


def _recipe(name: str, seed: int) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        shapes = getattr(torchvision.models, BACKBONES[name])(weights=None).features.state_dict()
    stream, state = np.random.RandomState(seed), {}
    for key, like in shapes.items():
        z = stream.standard_normal(like.numel()).reshape(like.shape)
        scale = np.sqrt(2 / np.prod(like.shape[1:])) if like.ndim > 1 else 0.05
        state[f"features.{key}"] = torch.from_numpy((z * scale).astype(np.float32))
    return state


def _edges(account: Account, reference: torch.Tensor) -> None:
    same = psnr(reference, reference)
    assert same.isinf().all() and (capped(same) == 100).all()
    for library in ("skimage", "torchmetrics"):
        account.compare(f"edge_cases/identical pair/{library} psnr", float(same[0]))
    account.compare(
        "edge_cases/identical pair/piq psnr",
        float(pixel_values(protocol("omnidoc"), reference, reference)["psnr"][0]),
        atol=1e-9,
    )
    account.compare(account.one("edge_cases/identical pair/ssim.*"), float(ssim(reference, reference)[0]), atol=1e-12)
    black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    account.compare("edge_cases/black vs white/torchmetrics psnr", float(psnr(black, white)))
    for match in account.matching("edge_cases/black vs white/.*ssim.*"):
        account.compare(match[0], float(ssim(black, white)), atol=1e-6)


def _protocols(account: Account, reference: torch.Tensor, distorted: torch.Tensor) -> None:
    rules = protocol("llamagen")
    values = pixel_values(rules, reference.float(), distorted.float())
    account.compare("protocol_llamagen/psnr", values["psnr"].tolist(), atol=1e-5)
    account.compare("protocol_llamagen/ssim", values["ssim"].tolist(), atol=2e-6)
    assert pixel_means(rules, values)["ssim"] == pytest.approx(np.mean(account.values["protocol_llamagen"]["ssim"]))
    account.ignore("protocol_(llamagen|omnidoc)/what", "words")
