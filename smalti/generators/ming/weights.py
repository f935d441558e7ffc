"""Key map of Ming-UniVision's published file (inclusionAI/Ming-UniVision-16B-A3B), whose tokenizer is another model."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from smalti.generators.ming.config import MingConfig, from_authors

_LANGUAGE: dict[str, str | None] = {
    "model.model.word_embeddings.weight": "language.embedding.weight",
    "model.model.norm.weight": "language.norm.weight",
    "model.lm_head.weight": None,  # writes text
    "vision.*": None,  # the tokenizer, a model of its own
}
_BLOCK: dict[str, str | None] = {
    "input_layernorm": "attention_norm",
    "attention.query_key_value": "attention.qkv",
    "attention.dense": "attention.proj",
    "post_attention_layernorm": "experts_norm",
    "mlp.gate": "experts.router",
    "mlp.audio_gate": None,  # routes speech
    "mlp.experts.{}.gate_proj": "experts.experts.{}.gate",
    "mlp.experts.{}.up_proj": "experts.experts.{}.up",
    "mlp.experts.{}.down_proj": "experts.experts.{}.down",
    "mlp.shared_experts.gate_proj": "experts.shared.gate",
    "mlp.shared_experts.up_proj": "experts.shared.up",
    "mlp.shared_experts.down_proj": "experts.shared.down",
}
_HEAD = {
    "linear_proj.0": "feed.0",
    "linear_proj.2": "feed.2",
    "model.vis_head.0": "condition.0",
    "model.vis_head.1": "condition.1",
    "model.diffloss.net.time_embed.mlp.0": "head.time.0",
    "model.diffloss.net.time_embed.mlp.2": "head.time.2",
    "model.diffloss.net.cond_embed": "head.condition",
    "model.diffloss.net.input_proj": "head.input",
    "model.diffloss.net.res_blocks.{}.in_ln": "head.blocks.{}.norm",
    "model.diffloss.net.res_blocks.{}.mlp.w12": "head.blocks.{}.feed_forward.up",
    "model.diffloss.net.res_blocks.{}.mlp.w3": "head.blocks.{}.feed_forward.down",
    "model.diffloss.net.res_blocks.{}.adaLN_modulation.1": "head.blocks.{}.modulation",
    "model.diffloss.net.final_layer.adaLN_modulation.1": "head.modulation",
    "model.diffloss.net.final_layer.linear": "head.output",
}
_FREQUENCIES = "model.model.layers.{}.attention.rotary_emb.inv_freq"


def key_map(config: MingConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number, None for what is not used or computed here."""
    block = _BLOCK | ({"mlp.image_gate": "experts.image_router"} if config.image_router else {})
    blocks = {f"model.model.layers.{{}}.{a}.weight": b and f"language.blocks.{{}}.{b}.weight" for a, b in block.items()}
    head = {f"{a}.{kind}": f"{b}.{kind}" for a, b in _HEAD.items() for kind in ("weight", "bias")}
    return {**_LANGUAGE, **blocks, _FREQUENCIES: None, **head}


def constants(config: MingConfig) -> dict[str, Tensor]:
    """The official buffers that hold no information, to write back: the frequencies of the rotary positions."""
    exponents = torch.arange(0, config.head_width, 2).float() / config.head_width
    return {_FREQUENCIES.format(i): 1.0 / config.rotation_base**exponents for i in range(config.depth)}


def config_in(path: Path, config: MingConfig) -> MingConfig:
    """The config with what the authors' config.json beside the weights states; as it is where there is none.

    Errors: ValueError for an architecture that is not supported.
    """
    file = path.parent / "config.json"
    if not file.is_file():
        return config
    data = json.loads(file.read_text(encoding="utf-8"))
    language = data.get("llm_config") if isinstance(data, dict) else None
    if not isinstance(language, dict):
        return config
    return replace(config, **from_authors(language, data.get("vishead_diffloss_config") or {}))
