"""Proves, with the published networks, the numbers that others have published for them.

Slow, and only where the files are: `SMALTI_NETWORKS` names the folder of `smalti data prepare networks`, and
`SMALTI_LPIPS_IMAGES` a folder with ex_ref.png, ex_p0.png, ex_p1.png of the LPIPS authors' repository. `SMALTI_CIFAR10`
names the folder of `smalti data prepare cifar10`; the run is kept beside it and goes on where it was killed.
"""

import os
from pathlib import Path

import pytest
import torch

from smalti.data.sample_images import samples
from smalti.eval.classification import EfficientNetLite0
from smalti.eval.distances import frechet_distance
from smalti.eval.inception import Inception, features
from smalti.eval.kernel_distance import kid
from smalti.eval.moments import statistics_of
from smalti.eval.perceptual import Dists, Lpips
from smalti.eval.pixel import psnr
from smalti.eval.run.evaluate import Settings
from smalti.eval.run.generation import evaluate_generation
from smalti.eval.weights import load
from smalti.images import read_images, to_uint8
from tests.eval.test_perceptual import ladder

FOLDER = os.environ.get("SMALTI_NETWORKS", "")
IMAGES = os.environ.get("SMALTI_LPIPS_IMAGES", "")
CIFAR10 = os.environ.get("SMALTI_CIFAR10", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="SMALTI_NETWORKS names no folder of prepared networks"),
]


@pytest.mark.timeout(900)
def test_documented_fid_and_kid() -> None:
    """torchmetrics' docstrings: FID(feature=64) 12.6388; KID(subset_size=50) 0.0312, 0.0025.

    The seed is set before the network is built, as in its doctests; the network's own random start draws from it.
    """
    from torchmetrics.image.kid import poly_mmd

    weights = load("inception")
    assert weights.published
    torch.manual_seed(42)
    network = Inception(weights.state)
    real = torch.randint(0, 200, (100, 3, 299, 299), dtype=torch.uint8)
    fake = torch.randint(100, 255, (100, 3, 299, 299), dtype=torch.uint8)
    stream = torch.get_rng_state()
    a, b = (features(network, x.split(20), ("64", "2048")) for x in (real, fake))
    assert frechet_distance(statistics_of(a["64"]), statistics_of(b["64"])) == pytest.approx(12.6388, abs=5e-5)
    torch.set_rng_state(stream)
    draws = []
    for _ in range(100):
        x, y = a["2048"][torch.randperm(100)[:50]], b["2048"][torch.randperm(100)[:50]]
        draws.append(poly_mmd(x, y, 3, None, 1.0))
    values = torch.stack(draws)
    assert float(values.mean()) == pytest.approx(0.0312, abs=5e-5)
    assert float(values.std(correction=0)) == pytest.approx(0.0025, abs=5e-5)
    assert kid(b["2048"], a["2048"]) == pytest.approx(0.0315, abs=5e-4)


@pytest.mark.skipif(not IMAGES, reason="SMALTI_LPIPS_IMAGES names no folder")
def test_lpips_of_the_authors_example() -> None:
    """0.722 and 0.138 with AlexNet; 0.569 and 0.422 with VGG16."""
    reference, p0, p1 = (read_images(Path(IMAGES) / f"{name}.png") for name in ("ex_ref", "ex_p0", "ex_p1"))
    for backbone, expected in (("alex", (0.722, 0.138)), ("vgg", (0.569, 0.422))):
        network = Lpips(load(f"lpips-{backbone}").state, backbone)  # type: ignore[arg-type]
        found = float(network(reference, p0)), float(network(reference, p1))
        assert found == pytest.approx(expected, abs=5e-4)


def test_the_classifier_names_what_photographs_show() -> None:
    """EfficientNet-lite0, the five likeliest of ImageNet's classes: 281 tabby, 967 espresso, 970 alp."""
    network = EfficientNetLite0(load("efficientnet-lite0").state)
    shown = {"face of a tabby cat": 281, "cup of coffee on a wooden table": 967, "path in the Picos de Europa": 970}
    photographs = {sample.title: sample.path for sample in samples("photo")}
    for title, number in shown.items():
        with torch.inference_mode():
            assert number in network(read_images(photographs[title], size=256))[0].topk(5).indices


@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(not CIFAR10, reason="SMALTI_CIFAR10 names no folder")
def test_fid_of_the_halves_of_cifar10() -> None:
    """50,000 training images against 10,000 test images; published values lie near 3.1 to 3.2. Takes over an hour."""
    root = Path(CIFAR10)
    halves = root.parent / f"{root.name}-halves"
    for half in ("train", "heldout"):
        (halves / half).mkdir(parents=True, exist_ok=True)
        for image in root.glob(f"images/{half}-*.png"):
            if not (link := halves / half / image.name).exists():
                link.symlink_to(image.resolve())
    sets = {"samples": halves / "train", "reference": halves / "heldout"}
    result = evaluate_generation(**sets, out=halves / "fid", settings=Settings())
    summary = result.rows[0].summary
    assert summary["fid"].n == 50_000
    assert summary["fid"].value == pytest.approx(3.15, abs=0.1)


def test_documented_dists() -> None:
    """torchmetrics' docstring, seed 42."""
    torch.manual_seed(42)
    a, b = torch.rand(5, 3, 256, 256), torch.rand(5, 3, 256, 256)
    values = Dists(load("lpips-vgg").state)(a, b)
    assert values.tolist() == pytest.approx([0.1285, 0.1344, 0.1356, 0.1277, 0.1276], abs=5e-5)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["JPEG", "blur", "noise"])
def test_a_ladder_is_ordered(kind: str) -> None:
    """LPIPS, DISTS and the kernel distance of crops grow with the damage, where PSNR falls."""
    images = read_images([s.path for s in samples("photo")], size=256)
    steps = ladder(kind, images)
    vgg = load("lpips-vgg").state
    for metric in (Lpips(load("lpips-alex").state, "alex"), Lpips(vgg, "vgg"), Dists(vgg)):
        values = torch.stack([metric(images, step).mean() for step in steps])
        assert (values[1:] > values[:-1]).all(), (type(metric).__name__, values)
    means = torch.stack([psnr(images, step).mean() for step in steps])
    assert (means[1:] < means[:-1]).all()
    network = Inception(load("inception").state)
    whole = features(network, [_crops(images)])["2048"]
    distances = [kid(features(network, [_crops(step)])["2048"], whole) for step in steps]
    assert distances == sorted(distances) and distances[-1] > distances[0], distances


def _crops(images: torch.Tensor) -> torch.Tensor:
    """uint8 [4 B, 3, 128, 128]: the quarters."""
    parts = [images[..., y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128)]
    return to_uint8(torch.cat(parts))
