"""LARP's tokenizer at tiny size."""

import torch

from smalti.tokenizers.larp.config import LARPConfig
from smalti.tokenizers.larp.discriminator import ClipDiscriminator
from smalti.tokenizers.larp.model import LARPTokenizer
from smalti.tokenizers.larp.objective import LARPObjective, LARPObjectiveConfig

WIDTHS = {"encoder_width": 64, "decoder_width": 32, "encoder_depth": 2, "decoder_depth": 2}


def tiny_larp(**changes: object) -> LARPTokenizer:
    """4 frames of 16 px in 2 x 2 x 2 tokens, 32 codes."""
    settings = {"frames": 4, "image_size": 16, "frame_patch": 2, "tokens": 8, "vocab": 32, "latent_channels": 8}
    heads = {"encoder_heads": 4, "decoder_heads": 2}
    torch.manual_seed(1)
    return LARPTokenizer(LARPConfig(**{**settings, **WIDTHS, **heads, **changes})).eval()  # type: ignore[arg-type]


def tiny_larp_objective(model: LARPTokenizer) -> LARPObjective:
    """All terms but LPIPS."""
    torch.manual_seed(2)
    config = LARPObjectiveConfig(perceptual=0, prior_width=32, prior_depth=1, prior_heads=2)
    discriminator = ClipDiscriminator(model.config, width=32, depth=1, heads=2)
    return LARPObjective(model, config, discriminator=discriminator).train()


def tiny_larp_of_switches() -> LARPTokenizer:
    """Single frames as patches, more tokens than patches, learned tables, types everywhere, matching by distance."""
    tables = {f"learned_{name}": True for name in ("patch_positions", "token_positions", "patch_queries")}
    types = {name: True for name in ("patch_type", "query_type", "token_type")}
    matching = {"normalize": False, "temperature": 0.0}
    return tiny_larp(frame_patch=1, tokens=20, learned_queries=False, **tables, **types, **matching)


TOKENIZERS = {"larp": tiny_larp, "larp switches": tiny_larp_of_switches}
OBJECTIVES = {"larp": tiny_larp_objective}
KEY_LISTS = {"larp/l-long": "larp_l_long_tokenizer"}
