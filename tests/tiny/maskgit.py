"""MaskGIT's VQGAN at tiny size."""

import torch

from smalti.tokenizers.maskgit.config import MaskGITTokenizerConfig
from smalti.tokenizers.maskgit.model import MaskGITTokenizer
from smalti.tokenizers.maskgit.objective import MaskGITTokenizerObjective, MaskGITTokenizerObjectiveConfig


def tiny_maskgit_tokenizer(**changes: object) -> MaskGITTokenizer:
    """16 px, 4x4 tokens of 64 codes."""
    torch.manual_seed(1)
    settings = {"image_size": 16, "vocab": 64, "latent_channels": 8, "channels": 32, "multipliers": (1, 1, 2)}
    config = MaskGITTokenizerConfig(**{**settings, "res_blocks": 1, **changes})  # type: ignore[arg-type]
    model = MaskGITTokenizer(config).eval()
    torch.nn.init.normal_(model.quantizer.codebook)
    return model


def tiny_maskgit_objective(model: MaskGITTokenizer) -> MaskGITTokenizerObjective:
    """Reconstruction, codebook, commitment."""
    return MaskGITTokenizerObjective(model, MaskGITTokenizerObjectiveConfig())


TOKENIZERS = {"maskgit": tiny_maskgit_tokenizer}
OBJECTIVES = {"maskgit": tiny_maskgit_objective}
KEY_LISTS = {"maskgit/vqgan-f16-256": "maskgit_vqgan_imagenet_f16_256"}
