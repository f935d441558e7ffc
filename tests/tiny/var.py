"""VAR at tiny size."""

import torch

from smalti.generators.var.config import VARConfig
from smalti.generators.var.model import VARGenerator
from smalti.tokenizers.var.config import VARTokenizerConfig
from smalti.tokenizers.var.model import VARTokenizer
from smalti.tokenizers.var.objective import VARTokenizerObjective, VARTokenizerObjectiveConfig

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
KEY_LISTS = {"var/vqvae-256": "vae_ch160v4096z32", "var/vqvae-512": "vae_ch160v4096z32"}
