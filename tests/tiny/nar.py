"""NAR's transformers at tiny size, over the tokens of LlamaGen's VQGAN and of LARP."""

import torch

from smalti.generators.nar.config import NARConfig
from smalti.generators.nar.model import NARGenerator
from smalti.generators.nar.objective import NARObjective
from tests.tiny.generators import Generators, texts
from tests.tiny.larp import tiny_larp
from tests.tiny.llamagen import tiny_llamagen_tokenizer

CLIP = {"grid": (2, 4, 4), "positions": "learned", "vocab": 32}
TEXT = {"classes": 0, "text_features": 6, "text_tokens": 5}


def tiny_nar(**changes: object) -> NARGenerator:
    """2 blocks of width 32 and one more for the second head, 4x4 tokens of 64 codes, 5 classes."""
    sizes = {"depth": 2, "width": 32, "heads": 2, "hidden": 48, "grid": (4, 4), "vocab": 64, "classes": 5}
    torch.manual_seed(2)
    model = NARGenerator(NARConfig(**{**sizes, **changes})).eval()  # type: ignore[arg-type]
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def _generators(**changes: object) -> Generators:
    return Generators(
        tokenizer=tiny_larp(image_size=32, tokens=32) if "grid" in changes else tiny_llamagen_tokenizer(),
        first=tiny_nar(**changes),
        second=tiny_nar(depth=1, width=16, **changes),
        condition=texts(6) if "text_features" in changes else Generators.condition,
        objective=NARObjective,  # type: ignore[arg-type]
    )


GENERATORS = {
    "nar": _generators,
    "nar text": lambda: _generators(**TEXT),
    "nar clip": lambda: _generators(**CLIP),
}
KEY_LISTS = {
    **{f"nar/imagenet-256-{size}": f"nar_imagenet_256_{size}" for size in ("B", "M", "L", "XL", "XXL")},
    "nar/t2i-XL-stage1-256": "nar_t2i_XL_stage1",
    "nar/t2i-XL-stage2-512": "nar_t2i_XL_stage2",
    "nar/ucf101-L": "nar_ucf101_L",
    "nar/ucf101-LP": "nar_ucf101_LP",
}
