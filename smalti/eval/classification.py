"""Does a generated image show its class? Accuracy by a given classifier, in all and class by class.

Shape suffixes: B batch, N images, C classes, H W pixels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class."""

    n: int
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """All classes that were asked for."""

    n: int
    top1: float
    """Share of images whose most likely class is the one asked for."""
    top5: float
    per_class: dict[int, ClassScore]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def class_accuracy(logits_NC: Tensor, labels_N: Tensor) -> ClassAccuracy:
    """Accuracy of logits [N, C] against the classes int64 [N] that were asked for, in the classifier's numbering."""
    if logits_NC.ndim != 2 or labels_N.shape != logits_NC.shape[:1] or not len(labels_N):
        raise ValueError(
            f"needed are logits [N, classes] and labels [N], got {list(logits_NC.shape)}, {list(labels_N.shape)}"
        )
    low, high, classes = int(labels_N.min()), int(labels_N.max()), logits_NC.shape[1]
    if low < 0 or high >= classes:
        raise ValueError(f"labels lie in {low}..{high}, the classifier knows 0..{classes - 1}")
    best = logits_NC.topk(min(5, logits_NC.shape[1]), dim=1).indices == labels_N[:, None]
    hit_N = best[:, 0].double()
    per_class = {}
    for label in labels_N.unique().tolist():
        hits = hit_N[labels_N == label]
        per_class[label] = ClassScore(n=len(hits), accuracy=float(hits.mean()))
    return ClassAccuracy(
        n=len(labels_N), top1=float(hit_N.mean()), top5=float(best.any(dim=1).double().mean()), per_class=per_class
    )


class EfficientNetLite0(nn.Module):
    """The ImageNet classifier of `smalti data prepare networks`: images in [0, 1] to logits of 1000 classes."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """`state`: timm's keys of tf_efficientnet_lite0."""
        super().__init__()
        import timm

        self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        counters = {k: v for k, v in self.net.state_dict().items() if k.endswith("num_batches_tracked")}
        self.net.load_state_dict(counters | dict(state))  # the counters of training are no weights
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor) -> Tensor:
        """float [B, 1000]; the shorter side is brought to 256 pixels (bicubic, antialias), 224 x 224 are cut out."""
        height, width = images_B3HW.shape[-2:]
        scale = 256 / min(height, width)
        size = (max(224, round(height * scale)), max(224, round(width * scale)))
        x = F.interpolate(images_B3HW.float(), size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
        return self.net(2 * x[..., top : top + 224, left : left + 224] - 1)
