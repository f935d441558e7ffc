"""Inception v3 as the FID literature uses it: torch-fidelity's network, every layer that a score is made of.

Shape suffixes: B batch, H W pixels, N images.
"""

import io
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smalti.eval.inception_resize import RESIZE, ResizeRule

LAYERS = ("64", "192", "768", "2048", "spatial", "logits_unbiased", "logits")
"""What `Inception` can return. 2048: FID, KID, precision, recall; spatial (2023 values): sFID; logits_unbiased: IS."""
WIDTHS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "spatial": 2023, "logits_unbiased": 1008, "logits": 1008}
SPATIAL_CHANNELS = 7
_TAPS = {"MaxPool_1": "64", "MaxPool_2": "192", "Mixed_6e": "768", "AvgPool": "2048"}
_ORDER = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)


class Inception(nn.Module):
    """uint8 images to features, frozen.

    `state`: tensors under torch-fidelity's names, without `fc.*` if the file had no classifier; the logits, and with
    them the Inception Score, are refused then. `dtype`: of everything inside; float64 makes the features independent
    of batch size and thread count to the last float32 digit.
    """

    def __init__(
        self, state: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32, resize: ResizeRule = "tf1"
    ) -> None:
        super().__init__()
        self.has_logits = "fc.weight" in state
        self.resize: ResizeRule = resize
        self.dtype = dtype
        self.net = _network(state).to(dtype).to(memory_format=torch.channels_last)  # a quarter faster on CPUs

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor, layers: Sequence[str] = ("2048",)) -> dict[str, Tensor]:
        """Features float32 [B, n] of uint8 images [B, 3, H, W], by layer.

        Errors: ValueError for images that are not uint8 (the rounding rule is the caller's), an unknown layer, or
        logits of a file without the classifier.
        """
        self.check(layers)
        if images_B3HW.dtype != torch.uint8 or images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3:
            raise ValueError(
                f"got {images_B3HW.dtype} {list(images_B3HW.shape)}; Inception takes uint8 [B, 3, H, W]: round with "
                "smalti.eval.inception_resize.quantize, whose rule is part of the protocol"
            )
        x = (RESIZE[self.resize](images_B3HW.to(self.dtype)) - 128) / 128
        x = x.contiguous(memory_format=torch.channels_last)
        found: dict[str, Tensor] = {}
        for name in _ORDER:
            if name == "Mixed_6d" and "spatial" in layers:
                branch = self.net.get_submodule("Mixed_6d.branch1x1")(x)
                found["spatial"] = branch[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
            x = self.net.get_submodule(name)(x)
            if name in _TAPS:
                found[_TAPS[name]] = F.adaptive_avg_pool2d(x, 1).flatten(1)
            if set(layers) <= set(found):
                break
        if not set(layers) <= set(found):
            weight, bias = self.net.get_parameter("fc.weight"), self.net.get_parameter("fc.bias")
            found["logits_unbiased"] = found["2048"] @ weight.T
            found["logits"] = found["logits_unbiased"] + bias
        return {layer: found[layer].float() for layer in layers}

    def check(self, layers: Sequence[str]) -> None:
        """A ValueError if a layer cannot be had from this network."""
        if unknown := [layer for layer in layers if layer not in LAYERS]:
            raise ValueError(f"Inception has no layer {', '.join(unknown)}; known are {', '.join(LAYERS)}")
        if not self.has_logits and any(layer.startswith("logits") for layer in layers):
            raise ValueError(
                "this Inception file has no classifier (fc.weight, fc.bias), so it has no logits and no Inception "
                "Score; FID, sFID, KID, precision and recall do not need it. Give a file that has it, such as "
                "weights-inception-2015-12-05-6726825d.pth, with --weights inception=PATH"
            )


def features(
    network: Inception, batches: Iterable[Tensor], layers: Sequence[str] = ("2048",), *, pad_to: int = 0
) -> dict[str, Tensor]:
    """Features of all uint8 batches, in order, by layer: float32 [N, n].

    `pad_to` fills every batch with black images to one size, so that kernels chosen by batch size stay the same.
    """
    parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for batch in batches:
        missing = max(0, pad_to - len(batch))
        filled = torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])]) if missing else batch
        for layer, values in network(filled, layers).items():
            parts[layer].append(values[: len(batch)].cpu())
    return {layer: torch.cat(values) for layer, values in parts.items()}


def _network(state: Mapping[str, Tensor]) -> nn.Module:
    """torch-fidelity's network with these tensors; keys and shapes must agree one by one."""
    from smalti.eval.weights import installed

    installed("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    full = dict(state)
    full.setdefault("fc.weight", torch.zeros(1008, 2048))  # never reached: `check` refuses logits without a classifier
    full.setdefault("fc.bias", torch.zeros(1008))
    file = io.BytesIO()  # the constructor reads a file and would download one otherwise; this one we have written
    torch.save(full, file)
    file.seek(0)
    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=file).eval()
