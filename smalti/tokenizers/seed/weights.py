"""Key map of the authors' tokenizer files (AILab-CVC/seed-tokenizer-2: seed_quantizer.pt, a bare state dict).

The checkpoints of their training code hold the same keys under "model".
"""

import torch
from torch import Tensor

from smalti.nn.vit import BLOCK_KEYS, FEED_FORWARD_KEYS
from smalti.tokenizers.seed.config import SEEDTokenizerConfig

_BOTH = ("weight", "bias")
_BLOCK = {**BLOCK_KEYS, **FEED_FORWARD_KEYS["gelu"]}
_VIT = {
    "visual_encoder.cls_token": "vit.cls_token",
    "visual_encoder.pos_embed": "vit.pos_embed",
    **{f"visual_encoder.patch_embed.proj.{k}": f"vit.patch_embed.proj.{k}" for k in _BOTH},
    **{
        f"visual_encoder.blocks.{{}}.{key}": f"vit.blocks.{{}}.{key}"
        for key in ("attn.q_bias", "attn.v_bias", "attn.qkv.weight")
    },
    **{
        f"visual_encoder.blocks.{{}}.{layer}.{k}": f"vit.blocks.{{}}.{layer}.{k}"
        for layer in ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for k in _BOTH
    },
}
_ATTENTION = {
    "self.query": "query",
    "self.key": "key",
    "self.value": "value",
    "output.dense": "proj",
    "output.LayerNorm": "norm",
}
_QFORMER = {  # in front of .weight and .bias
    "bert.embeddings.LayerNorm": "norm",
    **{f"bert.encoder.layer.{{}}.attention.{a}": f"layers.{{}}.attention.{b}" for a, b in _ATTENTION.items()},
    **{
        f"bert.encoder.layer.{{}}.crossattention.{a}": f"layers.{{}}.cross_attention.{b}" for a, b in _ATTENTION.items()
    },
    "bert.encoder.layer.{}.intermediate_query.dense": "layers.{}.feed_forward.up",
    "bert.encoder.layer.{}.output_query.dense": "layers.{}.feed_forward.down",
    "bert.encoder.layer.{}.output_query.LayerNorm": "layers.{}.feed_forward.norm",
}
_CODES = {
    "ln_vision": "vit_norm",
    "encode_task_layer.0": "to_code.0",
    "encode_task_layer.2": "to_code.2",
    "decode_task_layer.0": "from_code.0",
    "decode_task_layer.2": "from_code.2",
}
_TRAINING_ONLY = (  # CLIP ViT-H/14, whose embeddings are the target
    "embeddings.class_embedding",
    "embeddings.position_ids",
    "embeddings.patch_embedding.weight",
    "embeddings.position_embedding.weight",
    *(f"{norm}.{k}" for norm in ("pre_layrnorm", "post_layernorm") for k in _BOTH),
    *(f"encoder.layers.{{}}.self_attn.{p}_proj.{k}" for p in ("q", "k", "v", "out") for k in _BOTH),
    *(
        f"encoder.layers.{{}}.{layer}.{k}"
        for layer in ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2")
        for k in _BOTH
    ),
)


def _qformer(official: str, ours: str) -> dict[str, str | None]:
    keys = {f"{official}.{a}.{k}": f"{ours}.{b}.{k}" for a, b in _QFORMER.items() for k in _BOTH}
    return {**keys, f"{official}.bert.embeddings.position_ids": None}


def key_map(config: SEEDTokenizerConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    sequences = {"blocks_image": "decoder", **({"blocks": "restore"} if config.restores else {})}
    if config.head == "projection":  # a Sequential whose every second module is a ReLU
        layers = {f"image_down.{2 * i}.weight": f"head.narrow.{i}.weight" for i in range(len(config.projection))}
        head: dict[str, str | None] = {**layers}
    else:
        head = {"reverse_tokens": "head.query", **_qformer("Reverse_Qformer", "head.qformer")}
    return {
        **_VIT,
        "query_tokens": "queries",
        **_qformer("Qformer", "qformer"),
        **{f"{a}.{k}": f"{b}.{k}" for a, b in _CODES.items() for k in _BOTH},
        "quantize.embedding.weight": "codebook",
        **{a.replace("blocks", "pos_embed"): f"{b}.positions" for a, b in sequences.items()},
        **{
            f"{a}.{{}}.{c}.{k}": f"{b}.blocks.{{}}.{d}.{k}"
            for a, b in sequences.items()
            for c, d in _BLOCK.items()
            for k in _BOTH
        },
        **head,
        **{f"distill_image_proj.{k}": f"head.out.{k}" for k in _BOTH},
        **{f"clip_model.vision_model.{key}": None for key in _TRAINING_ONLY},
        "clip_model.visual_projection.weight": None,
    }


def constants(config: SEEDTokenizerConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: the positions of BERT's text half, which was removed."""
    names = ["Qformer"] + ["Reverse_Qformer"] * (config.head == "qformer")
    return {f"{name}.bert.embeddings.position_ids": torch.arange(512)[None] for name in names}
