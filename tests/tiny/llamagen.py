"""LlamaGen's VQGAN and GPT at tiny size."""

import torch

from smalti.generators.llamagen.config import PUBLISHED, LlamaGenConfig
from smalti.generators.llamagen.model import LlamaGenGenerator
from smalti.generators.llamagen.objective import LlamaGenObjective
from smalti.nn.quantizers.config import LFQConfig, VQConfig
from smalti.nn.quantizers.residual import ResidualQuantizer
from smalti.tokenizers.llamagen.config import LlamaGenTokenizerConfig
from smalti.tokenizers.llamagen.model import LlamaGenTokenizer
from smalti.tokenizers.llamagen.objective import LlamaGenTokenizerObjective, LlamaGenTokenizerObjectiveConfig
from tests.tiny.generators import Generators, texts

TEXT = {"classes": 0, "text_features": 6, "text_tokens": 5}


def tiny_llamagen_tokenizer(**changes: object) -> LlamaGenTokenizer:
    """16 px, 4x4 tokens of 64 codes."""
    torch.manual_seed(1)
    settings = {
        "encoder_multipliers": (1, 1, 2),
        "decoder_multipliers": (1, 1, 2),
        "channels": 16,
        "res_blocks": 1,
        "norm_groups": 8,
        "features": 16,
        "vocab": 64,
        "code_channels": 4,
        "remembered": 128,
        "image_size": 16,
    }
    return LlamaGenTokenizer(LlamaGenTokenizerConfig(**{**settings, **changes})).eval()  # type: ignore[arg-type]


def tiny_llamagen_objective(model: LlamaGenTokenizer) -> LlamaGenTokenizerObjective:
    """Reconstruction, codebook, commitment and, where the quantizer has it, entropy."""
    entropy = 0.0 if isinstance(model.quantizer, ResidualQuantizer) else 0.1
    return LlamaGenTokenizerObjective(model, LlamaGenTokenizerObjectiveConfig(entropy=entropy))


RESIDUAL = VQConfig(vocab=64, width=4, depth=3, remembered=0)
TOKENIZERS = {
    "llamagen": tiny_llamagen_tokenizer,
    "llamagen residual": lambda: tiny_llamagen_tokenizer(quantizer=RESIDUAL),
    "llamagen bits": lambda: tiny_llamagen_tokenizer(quantizer=LFQConfig(bits=70, spherical=True)),
}
OBJECTIVES = {name: tiny_llamagen_objective for name in TOKENIZERS}


def tiny_llamagen_generator(**changes: object) -> LlamaGenGenerator:
    """2 blocks of width 32, 4x4 tokens, 5 classes."""
    torch.manual_seed(2)
    settings = {"depth": 2, "width": 32, "heads": 2, "hidden": 64, "side": 4, "vocab": 64, "classes": 5}
    model = LlamaGenGenerator(LlamaGenConfig(**{**settings, **changes})).eval()  # type: ignore[arg-type]
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def _generators(**changes: object) -> Generators:
    tokenizer = tiny_llamagen_tokenizer()
    return Generators(
        tokenizer=tokenizer,
        first=tiny_llamagen_generator(**changes),
        second=tiny_llamagen_generator(depth=1, width=24, heads=3, **changes),
        condition=texts(6) if "text_features" in changes else Generators.condition,
        objective=lambda model: LlamaGenObjective(model, tokenizer),  # type: ignore[arg-type]
    )


GENERATORS = {"llamagen": _generators, "llamagen text": lambda: _generators(**TEXT)}
KEY_LISTS = {
    "llamagen/vq-ds16-c2i": "llamagen_vq_ds16_c2i",
    "llamagen/vq-ds8-c2i": "llamagen_vq_ds8_c2i",
    "llamagen/vq-ds16-t2i": "llamagen_vq_ds16_t2i",
    **{f"llamagen/{variant}": f"llamagen_{variant.replace('-', '_')}" for variant in PUBLISHED},
}
