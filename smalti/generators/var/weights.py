"""Key map of the authors' transformer files (FoundationVision/var: var_dNN.pth; Zigeng/VAR_CoDe): bare state dicts."""

import torch
from torch import Tensor

from smalti.generators.var.config import VARConfig
from smalti.tokens import TokenLayout

_COMMON: dict[str, str | None] = {
    "class_emb.weight": "class_embedding.weight",
    "lvl_embed.weight": "level_embedding.weight",
    "word_embed.weight": "input.weight",
    "word_embed.bias": "input.bias",
    "pos_start": "start",
    "pos_1LC": "positions",
    "blocks.{}.attn.mat_qkv.weight": "blocks.{}.attention.qkv.weight",
    "blocks.{}.attn.q_bias": "blocks.{}.attention.q_bias",
    "blocks.{}.attn.v_bias": "blocks.{}.attention.v_bias",
    "blocks.{}.attn.proj.weight": "blocks.{}.attention.proj.weight",
    "blocks.{}.attn.proj.bias": "blocks.{}.attention.proj.bias",
    "blocks.{}.ffn.fc1.weight": "blocks.{}.up.weight",
    "blocks.{}.ffn.fc1.bias": "blocks.{}.up.bias",
    "blocks.{}.ffn.fc2.weight": "blocks.{}.down.weight",
    "blocks.{}.ffn.fc2.bias": "blocks.{}.down.bias",
    "head_nm.ada_lin.1.weight": "head_modulation.weight",
    "head_nm.ada_lin.1.bias": "head_modulation.bias",
    "head.weight": "head.weight",
    "head.bias": "head.bias",
    # constants: level of every position, block-causal mask, the keys' zero bias
    "lvl_1L": None,
    "attn_bias_for_masking": None,
    "blocks.{}.attn.zero_k_bias": None,
}


_MODULATION: dict[bool, dict[str, str | None]] = {
    False: {  # a layer per block
        "blocks.{}.ada_lin.1.weight": "blocks.{}.modulation.weight",
        "blocks.{}.ada_lin.1.bias": "blocks.{}.modulation.bias",
    },
    True: {  # one layer for all blocks, a table per block
        "blocks.{}.ada_gss": "blocks.{}.modulation_table",
        "shared_ada_lin.1.weight": "shared_modulation.weight",
        "shared_ada_lin.1.bias": "shared_modulation.bias",
    },
}


def key_map(config: VARConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number, None for a constant that our model computes."""
    scale = {"blocks.{}.attn.scale_mul_1H11": "blocks.{}.attention.log_scale"} if config.normalize_attention else {}
    return {**_COMMON, **_MODULATION[config.shared_modulation], **scale}


def constants(config: VARConfig) -> dict[str, Tensor]:
    """The official buffers that hold no information, to write back."""
    level = TokenLayout.scales(config.sides, config.vocab).segment_of()
    hidden = torch.zeros(len(level), len(level)).masked_fill(level[:, None] < level[None, :], -torch.inf)
    zeros = {f"blocks.{i}.attn.zero_k_bias": torch.zeros(config.width) for i in range(config.depth)}
    return {"lvl_1L": level[None], "attn_bias_for_masking": hidden[None, None], **zeros}
