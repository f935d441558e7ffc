"""MingTok at tiny size."""

import torch

from smalti.tokenizers.mingtok.config import MingTokConfig
from smalti.tokenizers.mingtok.model import MingTok
from smalti.tokenizers.mingtok.objective import MingTokObjective, MingTokObjectiveConfig


def tiny_mingtok(**changes: object) -> MingTok:
    """16 px in 2 x 2 tokens of 8 channels, 2 blocks in every stage."""
    settings = {"image_size": 16, "patch": 8, "pixel_patch": 4, "latent_channels": 8, "mean": 0.1, "scale": 2.0}
    depths = {"encoder_depth": 2, "semantic_depth": 2, "pixel_depth": 2}
    widths = {"encoder_width": 64, "semantic_width": 128, "pixel_width": 64}
    torch.manual_seed(1)
    return MingTok(MingTokConfig(**{**settings, **depths, **widths, **changes})).eval()  # type: ignore[arg-type]


def tiny_mingtok_objective(model: MingTok) -> MingTokObjective:
    """Masked reconstruction."""
    return MingTokObjective(model, MingTokObjectiveConfig(hidden=0.5)).train()


TOKENIZERS = {"mingtok": tiny_mingtok, "mingtok gelu": lambda: tiny_mingtok(encoder_feed_forward="gelu")}
OBJECTIVES = {"mingtok": tiny_mingtok_objective}
KEY_LISTS = {"mingtok/vision": "MingTok-Vision"}
