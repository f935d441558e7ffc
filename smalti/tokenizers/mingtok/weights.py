"""Key map of MingTok's published file (inclusionAI/MingTok-Vision, a bare state dict)."""

from torch import Tensor

from smalti.nn.vit import BLOCK_KEYS, FEED_FORWARD_KEYS
from smalti.tokenizers.mingtok.config import MingTokConfig

_TABLES = {"low_level_encoder.cls_token": "encoder.class_token", "low_level_encoder.pos_embed": "encoder.positions"}

_LAYERS = {
    "low_level_encoder.patch_embed.proj": "encoder.patches",
    "low_level_encoder.out_norm": "encoder.norm",
    "low_level_encoder.out_proj": "encoder.head",
    "semantic_decoder.in_proj": "semantic.stem",
    "semantic_decoder.norm": "semantic.norm",
    "sem_to_pix": "decoder.stem",
    "pixel_decoder.norm": "decoder.norm",
    "pixel_decoder.head": "decoder.head",
}


def key_map(config: MingTokConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number. The authors put all blocks into one chunk, number 0."""
    stages = {
        "low_level_encoder": ("encoder", config.encoder_feed_forward),
        "semantic_decoder": ("semantic", config.semantic_feed_forward),
        "pixel_decoder": ("decoder", "gelu"),
    }
    blocks = {
        f"{official}.blocks.0.{{}}.{a}": f"{ours}.blocks.{{}}.{b}"
        for official, (ours, kind) in stages.items()
        for a, b in (BLOCK_KEYS | FEED_FORWARD_KEYS[kind]).items()
    }
    layers = {f"{a}.{kind}": f"{b}.{kind}" for a, b in (_LAYERS | blocks).items() for kind in ("weight", "bias")}
    return {**_TABLES, **layers}


def constants(config: MingTokConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}
