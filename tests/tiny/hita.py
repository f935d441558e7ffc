"""Hita at tiny size."""

import torch

from smalti.generators.hita.config import HitaConfig
from smalti.generators.hita.model import HitaGenerator
from smalti.generators.hita.objective import HitaObjective
from smalti.tokenizers.hita.config import FoundationConfig, HitaTokenizerConfig
from smalti.tokenizers.hita.model import HitaTokenizer
from smalti.tokenizers.hita.objective import HitaTokenizerObjective, HitaTokenizerObjectiveConfig
from tests.tiny.generators import Generators


def tiny_hita_tokenizer(**changes: object) -> HitaTokenizer:
    """16 px, 6 holistic and 4x4 patch tokens of 64 codes each."""
    torch.manual_seed(1)
    settings = {
        "image_size": 16,
        "grid": 4,
        "holistic_tokens": 6,
        "vocab": 64,
        "holistic_width": 6,
        "patch_width": 4,
        "channels": 16,
        "encoder_multipliers": (1, 1, 2),
        "decoder_multipliers": (1, 1, 2),
        "res_blocks": 1,
        "norm_groups": 8,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "head_width": 16,
        "mlp_width": 48,
        "remembered": 128,
        "foundation": FoundationConfig(width=24, depth=1, heads=2, grid=3, registers=2),
    }
    model = HitaTokenizer(HitaTokenizerConfig(**{**settings, **changes})).eval()  # type: ignore[arg-type]
    for part in (model.foundation, model.holistic_encoder, model.holistic_decoder):
        for p in part.parameters():
            if p.ndim > 1:  # wide enough that all tokens differ between images
                torch.nn.init.normal_(p, std=0.4)
    return model


def tiny_hita_ultra_tokenizer() -> HitaTokenizer:
    """The same, predicting foundation features."""
    return tiny_hita_tokenizer(predicted_width=24)


def tiny_hita_objective(model: HitaTokenizer) -> HitaTokenizerObjective:
    """Reconstruction, quantization and, where they are predicted, foundation features."""
    return HitaTokenizerObjective(model, HitaTokenizerObjectiveConfig())


def tiny_hita_generator(**changes: object) -> HitaGenerator:
    """2 blocks of width 32, 5 classes, for `tiny_hita_tokenizer`."""
    torch.manual_seed(2)
    settings = {"depth": 2, "width": 32, "heads": 2, "hidden": 88, "holistic_tokens": 6, "side": 4, "vocab": 64}
    config = HitaConfig(**{**settings, "classes": 5, **changes})  # type: ignore[arg-type]
    model = HitaGenerator(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def tiny_hita_pair(**changes: object) -> Generators:
    """A tokenizer and two generators."""
    return Generators(
        tokenizer=tiny_hita_tokenizer(),
        first=tiny_hita_generator(**changes),
        second=tiny_hita_generator(**changes, depth=1, width=16),
        objective=lambda model: HitaObjective(model),  # type: ignore[arg-type]
    )


TOKENIZERS = {"hita": tiny_hita_tokenizer, "hita ultra": tiny_hita_ultra_tokenizer}
OBJECTIVES = {name: tiny_hita_objective for name in TOKENIZERS}
GENERATORS = {"hita": tiny_hita_pair, "hita fixed": lambda: tiny_hita_pair(quirks="fixed")}
_DINO = "Hita_backbone_dinov2_vitl14_reg"
_EPOCHS = {
    "vanilla": {"b": (50, 300), "l": (50, 300), "xl": (50,), "xxl": (50,), "2b": (50,)},
    "ultra": {"b": (50, 250), "l": (50, 250), "xl": (50, 100), "xxl": (50, 100), "2b": (50, 100)},
}
KEY_LISTS = {
    "hita/vanilla": ("Hita-V_tokenizer", _DINO),
    "hita/ultra": ("Hita-U_tokenizer", _DINO),
    **{
        f"hita/{variant}-gpt-{size}-{n}e": f"Hita-GPT-{size.upper()}"
        for variant, epochs in _EPOCHS.items()
        for size, counts in epochs.items()
        for n in counts
    },
}
