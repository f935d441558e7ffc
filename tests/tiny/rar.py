"""RAR at tiny size, over the codes of MaskGIT's VQGAN."""

import torch

from smalti.generators.rar.config import PUBLISHED, RARConfig
from smalti.generators.rar.model import RARGenerator
from smalti.generators.rar.objective import RARObjective
from tests.tiny.generators import Generators
from tests.tiny.maskgit import tiny_maskgit_tokenizer


def tiny_rar(**changes: object) -> RARGenerator:
    """4x4 tokens, 5 classes; 2 blocks of width 32."""
    torch.manual_seed(2)
    sizes = {"depth": 2, "width": 32, "heads": 2, "hidden": 64, "grid": (4, 4), "vocab": 64, "classes": 5}
    model = RARGenerator(RARConfig(**{**sizes, **changes})).eval()  # type: ignore[arg-type]
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def _generators() -> Generators:
    return Generators(
        tokenizer=tiny_maskgit_tokenizer(),
        first=tiny_rar(),
        second=tiny_rar(depth=1, width=24, heads=3),
        objective=RARObjective,  # type: ignore[arg-type]
    )


GENERATORS = {"rar": _generators}
KEY_LISTS = {f"rar/{size}": f"rar_{size}" for size in PUBLISHED}
