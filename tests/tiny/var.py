"""VAR at tiny size."""

from dataclasses import replace

import torch

from smalti.generators.var.config import VARConfig
from smalti.generators.var.model import VARGenerator
from smalti.generators.var.objective import VARObjective, VARObjectiveConfig
from smalti.tokenizers.var.config import VARTokenizerConfig
from smalti.tokenizers.var.model import VARTokenizer
from smalti.tokenizers.var.objective import VARTokenizerObjective, VARTokenizerObjectiveConfig
from tests.tiny.generators import Generators, texts

SIDES = (1, 2, 3, 4)


def tiny_var_tokenizer(**changes: object) -> VARTokenizer:
    """16 px, 4 scales, 32 codes."""
    torch.manual_seed(1)
    settings = {"sides": SIDES, "vocab": 32, "latent_channels": 8, "channels": 16, "multipliers": (1, 1, 2)}
    config = VARTokenizerConfig(**{**settings, "res_blocks": 1, "norm_groups": 8, **changes})  # type: ignore[arg-type]
    model = VARTokenizer(config).eval()
    torch.nn.init.normal_(model.quantizer.codebook)
    return model


def tiny_var_generator(**changes: object) -> VARGenerator:
    """2 blocks of width 32, 5 classes."""
    settings = {"depth": 2, "width": 32, "heads": 2, "sides": SIDES, "vocab": 32, "latent_channels": 8, "classes": 5}
    torch.manual_seed(2)
    model = VARGenerator(VARConfig(**{**settings, **changes})).eval()  # type: ignore[arg-type]
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def tiny_var_objective(model: VARTokenizer) -> VARTokenizerObjective:
    """Reconstruction and quantization, half of the images cut."""
    return VARTokenizerObjective(model, VARTokenizerObjectiveConfig(truncation=0.5))


TOKENIZERS = {
    "var": tiny_var_tokenizer,
    "var one phi": lambda: tiny_var_tokenizer(refiners=1),
    "var phi per scale": lambda: tiny_var_tokenizer(refiners=0),
    "var cosine codes": lambda: tiny_var_tokenizer(normalize=True),
}
OBJECTIVES = dict.fromkeys(TOKENIZERS, tiny_var_objective)


def _generators(**changes: object) -> Generators:
    tokenizer = tiny_var_tokenizer()
    return Generators(
        tokenizer=tokenizer,
        first=tiny_var_generator(**changes),
        second=tiny_var_generator(depth=1, width=16, **changes),
        objective=lambda model: VARObjective(model, tokenizer, VARObjectiveConfig()),  # type: ignore[arg-type]
    )


def _with_text() -> Generators:
    return replace(_generators(text_features=6), condition=texts(6))


GENERATORS = {
    "var": _generators,
    "var shared modulation": lambda: _generators(shared_modulation=True),
    "var plain attention": lambda: _generators(normalize_attention=False),
    "var text": _with_text,
}
_SIZES = ("d16", "d20", "d24", "d30", "d36")
_STEPS = (6, 7, 8, 9)
KEY_LISTS = {
    "var/vqvae-256": "vae_ch160v4096z32",
    "var/vqvae-512": "vae_ch160v4096z32",
    **{f"var/{size}": f"var_{size}" for size in _SIZES},
    **{f"code/{kind}{n}": "var_d30" for kind in ("drafter-", "", "training-free-") for n in _STEPS},
    **{f"code/refiner-{n}": "var_d16" for n in _STEPS},
}
