"""LlamaGen's VQGAN at tiny size."""

import torch

from smalti.nn.quantizers.config import LFQConfig, VQConfig
from smalti.nn.quantizers.residual import ResidualQuantizer
from smalti.tokenizers.llamagen.config import LlamaGenTokenizerConfig
from smalti.tokenizers.llamagen.model import LlamaGenTokenizer
from smalti.tokenizers.llamagen.objective import LlamaGenTokenizerObjective, LlamaGenTokenizerObjectiveConfig


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
KEY_LISTS = {
    "llamagen/vq-ds16-c2i": "llamagen_vq_ds16_c2i",
    "llamagen/vq-ds8-c2i": "llamagen_vq_ds8_c2i",
    "llamagen/vq-ds16-t2i": "llamagen_vq_ds16_t2i",
}
