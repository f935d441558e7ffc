"""LlamaGen's VQGAN at tiny size."""

import torch

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
    """Reconstruction, codebook, commitment and entropy."""
    return LlamaGenTokenizerObjective(model, LlamaGenTokenizerObjectiveConfig(entropy=0.1))


TOKENIZERS = {"llamagen": tiny_llamagen_tokenizer}
OBJECTIVES = {"llamagen": tiny_llamagen_objective}
KEY_LISTS = {
    "llamagen/vq-ds16-c2i": "llamagen_vq_ds16_c2i",
    "llamagen/vq-ds8-c2i": "llamagen_vq_ds8_c2i",
    "llamagen/vq-ds16-t2i": "llamagen_vq_ds16_t2i",
}
