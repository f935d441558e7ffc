"""DetailFlow at tiny size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.detailflow.config import DetailFlowConfig
from smalti.generators.detailflow.model import DetailFlowGenerator
from smalti.generators.detailflow.objective import DetailFlowObjective
from smalti.tokenizers.detailflow.config import DetailFlowTokenizerConfig, TowerConfig
from smalti.tokenizers.detailflow.model import DetailFlowTokenizer
from smalti.tokenizers.detailflow.objective import DetailFlowTokenizerObjective, DetailFlowTokenizerObjectiveConfig
from tests.tiny.generators import Generators


def tiny_detailflow(**changes: object) -> DetailFlowTokenizer:
    """32 px, 16 tokens in groups of 4, 64 codes; smaller images get fewer tokens."""
    torch.manual_seed(1)
    tower: dict[str, Any] = {"depth": 2, "heads": 2, "mlp": 64, "patch": 8, "grid": 4}
    settings: dict[str, Any] = {
        "image_size": 32,
        "min_image_size": 8,
        "tokens": 16,
        "group": 4,
        "vocab": 64,
        "code_dim": 4,
    }
    settings |= {"alignment": (8, 3), "usage_window": 256}
    settings["encoder"] = TowerConfig(width=32, causal=True, **tower)
    settings["decoder"] = TowerConfig(width=24, **tower)
    model = DetailFlowTokenizer(DetailFlowTokenizerConfig(**{**settings, **changes})).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model


class PatchColors(nn.Module):
    """Stands for the model whose patch features the first token predicts."""

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Mean color of every patch [B, n, 3]."""
        return F.avg_pool2d(x_B3HW, 8).flatten(2).transpose(1, 2)


def tiny_detailflow_objective(model: DetailFlowTokenizer) -> DetailFlowTokenizerObjective:
    """Reconstruction, quantization, and alignment with the colors of patches."""
    config = DetailFlowTokenizerObjectiveConfig(degradation=0.5, alignment=1.0)
    return DetailFlowTokenizerObjective(model, config, features=PatchColors())


def tiny_detailflow_generator(**changes: object) -> DetailFlowGenerator:
    """2 blocks of width 32, 5 classes, for `tiny_detailflow`."""
    torch.manual_seed(2)
    settings: dict[str, Any] = {"depth": 2, "width": 32, "heads": 2, "hidden": 88, "tokens": 16, "group": 4}
    settings |= {"vocab": 64, "classes": 5}
    model = DetailFlowGenerator(DetailFlowConfig(**{**settings, **changes})).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def tiny_detailflow_pair(**changes: object) -> Generators:
    """A tokenizer and two generators; `changes` are of how the sequence is cut into groups."""
    return Generators(
        tokenizer=tiny_detailflow(**changes),
        first=tiny_detailflow_generator(**changes),
        second=tiny_detailflow_generator(**changes, depth=1, width=16),
        objective=lambda model: DetailFlowObjective(model),  # type: ignore[arg-type]
    )


TOKENIZERS = {"detailflow": tiny_detailflow}
OBJECTIVES = {"detailflow": tiny_detailflow_objective}
GENERATORS = {
    "detailflow": tiny_detailflow_pair,
    "detailflow long head": lambda: tiny_detailflow_pair(head=8),
    "detailflow one by one": lambda: tiny_detailflow_pair(group=1),
}
KEY_LISTS = {
    **{f"detailflow/{n}": f"DetailFlow-{n}" for n in (16, 32, 64)},
    **{f"detailflow/{n}-gpt-l": f"DetailFlow-{n}-GPT-L" for n in (16, 32, 64)},
}
