"""Proves that DISTS is torchmetrics' own over one backbone, that LPIPS and DISTS are zero for equal images, and that a
ladder of JPEG, blur and noise on the packaged photographs is ordered by every metric that needs no network."""

import io

import pytest
import torch
import torchvision
from PIL import Image
from torch.nn import functional as F

from smalti.data.sample_images import samples
from smalti.eval.networks import expected_shapes
from smalti.eval.perceptual import Dists, Lpips
from smalti.eval.pixel import ms_ssim, psnr, ssim
from smalti.images import read_images, to_pil


def random_state(name: str) -> dict[str, torch.Tensor]:
    """Convolutions of a backbone, He-initialized."""
    rng = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in expected_shapes(name).items():
        scale = (2 / torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.05
        state[key] = torch.randn(shape, generator=rng) * scale
    return state


@pytest.fixture(scope="module")
def vgg() -> dict[str, torch.Tensor]:
    """Random VGG16 convolutions."""
    return random_state("lpips-vgg")


def ladder(kind: str, images: torch.Tensor) -> list[torch.Tensor]:
    """The images at four growing strengths of one damage."""
    if kind == "noise":
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        return [(images + s * noise).clamp(0, 1) for s in (0.01, 0.03, 0.08, 0.2)]
    if kind == "blur":
        return [torch.cat([_blur(image[None], s) for image in images]) for s in (0.6, 1.0, 2.0, 4.0)]
    return [torch.cat([_jpeg(image, q) for image in images]) for q in (90, 50, 20, 5)]


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    x = torch.arange(-15, 16, dtype=torch.float32)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    wide = F.pad(image, (15, 15, 15, 15), mode="replicate")
    return F.conv2d(F.conv2d(wide, kernel, groups=3), kernel.mT, groups=3).clamp(0, 1)


def _jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    file = io.BytesIO()
    to_pil(image).save(file, "JPEG", quality=quality)
    return read_images(Image.open(file))


@pytest.mark.parametrize("kind", ["JPEG", "blur", "noise"])
def test_a_ladder_is_ordered(kind: str) -> None:
    """More damage, a lower score: for the mean, and for every photograph."""
    images = read_images([s.path for s in samples("photo")][:2], size=192)
    steps = ladder(kind, images)
    for metric in (psnr, ssim, ms_ssim):
        values = torch.stack([metric(images, step) for step in steps])
        assert (values[1:] < values[:-1]).all(), (metric.__name__, values)


def test_dists_is_that_of_torchmetrics(vgg: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own network, with the same backbone put in where it would download one; to 1e-6."""
    from torchmetrics.functional.image import dists

    def backbone(weights: object) -> torch.nn.Module:
        with torch.device("meta"):
            network = torchvision.models.vgg16(weights=None)
        network.features.load_state_dict({k.removeprefix("features."): v for k, v in vgg.items()}, assign=True)
        return network

    monkeypatch.setattr(dists, "vgg16", backbone)
    a, b = torch.rand(3, 3, 40, 56), torch.rand(3, 3, 40, 56)
    ours = Dists(vgg)
    torch.testing.assert_close(ours(a, b), dists.DISTSNetwork()(a, b).detach().double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours(a, a), torch.zeros(3).double(), rtol=0, atol=1e-9)


def test_lpips_of_equal_images_and_batches() -> None:
    """Zero for equal images; a value does not depend on its batch; images below the network's depth are refused."""
    network = Lpips(random_state("lpips-alex"), "alex")
    a, b = torch.rand(3, 3, 40, 56), torch.rand(3, 3, 40, 56)
    whole = network(a, b)
    assert (network(a, a) == 0).all() and (whole > 0).all()
    alone = torch.cat([network(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="at least 31 pixels"):
        network(a[..., :30], b[..., :30])
    with pytest.raises(ValueError, match="differ in shape"):
        network(a, b[..., :50])


def test_a_wrong_backbone_is_refused(vgg: dict[str, torch.Tensor]) -> None:
    """Keys that are not all of the network's."""
    with pytest.raises(ValueError, match="convolutions of alex"):
        Lpips(vgg, "alex")
