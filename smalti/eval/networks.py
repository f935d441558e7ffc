"""The networks that metrics need: what they are, where they are published, and the tensors their files must hold."""

import re
from dataclasses import dataclass
from functools import cache

import torch

CLASSIFIER_KEYS = ("fc.weight", "fc.bias")
"""Keys of Inception's classifier, which a file may lack; there is no Inception Score then."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network that a metric can ask for."""

    what: str
    """What it is, in words."""
    prepared: str
    """File in the folder of `smalti data prepare networks`; "" = no package has it."""
    url: str
    """Where the published file is; its name ends in the first digits of its sha256. "" = not published as a file."""
    fingerprint: str
    """sha256 over the tensors of the published network, without classifier; "" = unknown here."""
    dropped: str = ""
    """Pattern of keys of the published file that no metric needs."""

    @property
    def digest(self) -> str:
        """First digits of the published file's sha256, as its name tells them; "" if it does not."""
        match = re.search(r"-([0-9a-f]{8})\.pth$", self.url)
        return match[1] if match else ""


NETWORKS: dict[str, Network] = {
    "inception": Network(
        what="Inception v3 of 2015-12-05 (FID, sFID, KID, precision, recall; with its classifier also IS)",
        prepared="inception.safetensors",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        fingerprint="093e9f93850b190c9f84acfef7f7d599777658245de5130eafcc233ba7d31e12",
        dropped=r".*\.num_batches_tracked",
    ),
    "lpips-alex": Network(
        what="AlexNet's convolutions (LPIPS)",
        prepared="lpips_alex.safetensors",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        fingerprint="c2557a8e6b7022f25ff1d6606e812eb871e009cd051b1c8abdfe8e6ac1a2914c",
        dropped=r"classifier\..*",
    ),
    "lpips-vgg": Network(
        what="VGG16's convolutions (LPIPS, DISTS)",
        prepared="lpips_vgg.safetensors",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        fingerprint="4be6d54d8c61c9af354fabe5a7fcbf3de56e01145fc4ca7e359f9247ffaaf79e",
        dropped=r"classifier\..*",
    ),
    "lpips-squeeze": Network(
        what="SqueezeNet 1.1's convolutions (LPIPS)",
        prepared="",
        url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        fingerprint="",
        dropped=r"classifier\..*",
    ),
    "efficientnet-lite0": Network(
        what="EfficientNet-lite0, an ImageNet classifier (per-class accuracy)",
        prepared="efficientnet_lite0.safetensors",
        url="",
        fingerprint="4e8990397da2e1681ee90d2529fbb53acdae2794fafd87701f036ed6268179bb",
        dropped=r".*\.num_batches_tracked",
    ),
}


def network_named(name: str) -> Network:
    """An entry of NETWORKS; a ValueError that names them all for another name."""
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(NETWORKS)}")
    return NETWORKS[name]


@cache
def expected_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Every key a network's file must hold, with its shape; nothing is computed."""
    import torchvision

    with torch.device("meta"):
        if name == "inception":
            module: torch.nn.Module = torchvision.models.inception_v3(
                num_classes=1008, aux_logits=False, init_weights=False
            )
        elif name == "efficientnet-lite0":
            import timm

            module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        else:
            kind = {"lpips-alex": "alexnet", "lpips-vgg": "vgg16", "lpips-squeeze": "squeezenet1_1"}[name]
            module = getattr(torchvision.models, kind)(weights=None)
    dropped = NETWORKS[name].dropped
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    return {key: shape for key, shape in shapes.items() if not (dropped and re.fullmatch(dropped, key))}
