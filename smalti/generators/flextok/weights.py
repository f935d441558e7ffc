"""Key map of the authors' FlexAR files (EPFL-VILAB/FlexAR-*: model.safetensors, a bare state dict).

They may repeat the tokenizer and the text encoder, which are models of their own here. The factors of the authors' muP
parametrization are multiplied into the published weights.
"""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from smalti.generators.flextok.config import FlexARConfig
from smalti.generators.flextok.config_reader import read_file

_MODEL = "models.ar_image_model"
_BLOCK = f"{_MODEL}.trunk.blocks.{{}}"

_TENSORS: dict[str, str | None] = {
    f"{_MODEL}.preprocessor.embedding.weight": "tokens.weight",
    f"{_MODEL}.preprocessor.sos_token_embed": "start",
    f"{_MODEL}.preprocessor.positional_embedding": "positions",
    f"{_MODEL}.preprocessor.cls_embedding.weight": "class_embedding.weight",
    "models.text_encoder.t5_embedder.*": None,
    "models.image_tokenizer.*": None,
}
_LAYERS = {
    f"{_MODEL}.trunk.post_trunk_norm": "norm",
    f"{_MODEL}.head.norm": "head_norm",
    f"{_MODEL}.head.linear": "head",
    "models.text_encoder.mlp.fc1": "text_projection.up",
    "models.text_encoder.mlp.fc2": "text_projection.down",
}
_SELF = {"qkv": "qkv", "q_proj": "q", "k_proj": "k", "v_proj": "v", "proj": "proj"}
_CROSS = {"Wq": "q", "Wk": "k", "Wv": "v", "proj": "proj"}
_QK_NORMS = {"q_norm": "q_norm", "k_norm": "k_norm"}
_PLAIN = {"fc1": "up", "fc2": "down"}
_GATED = {"fc1": "gate", "fc2": "down", "fc3": "up"}

ALIASES = {
    f"{_BLOCK}.{name}.o_proj.{kind}": f"{_BLOCK}.{name}.proj.{kind}"
    for name in ("attn", "self_attn")
    for kind in ("weight", "bias")
}
"""One of their attention classes calls its output projection differently."""


def key_map(config: FlexARConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number, `*` for anything, None for what is loaded elsewhere."""
    attention, norms = ("attn", ("attention_norm", "feed_forward_norm"))
    parts = {}
    if config.text_features:
        attention, norms = "self_attn", ("attention_norm", "cross_norm", "feed_forward_norm")
        parts = {f"cross_attn.{a}": f"cross.{b}" for a, b in (_CROSS | _QK_NORMS).items()}
    parts |= {f"{attention}.{a}": f"attention.{b}" for a, b in (_SELF | _QK_NORMS).items()}
    parts |= {f"norm_{i}": name for i, name in enumerate(norms, start=1)}
    parts |= {f"mlp.{a}": f"feed_forward.{b}" for a, b in (_GATED if config.gated else _PLAIN).items()}
    layers = _LAYERS | {f"{_BLOCK}.{a}": f"blocks.{{}}.{b}" for a, b in parts.items()}
    return _TENSORS | {f"{a}.{kind}": f"{b}.{kind}" for a, b in layers.items() for kind in ("weight", "bias")}


def constants(config: FlexARConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}


def config_in(path: Path, config: FlexARConfig) -> FlexARConfig:
    """What the config.yaml beside a published file says, else `config`; `quirks` stays as it was asked for."""
    stated = read_file(path)
    return config if stated is None else replace(stated, quirks=config.quirks)
