"""Key map of the authors' files (yucornetto/RAR: rar_*.bin): bare state dicts."""

from torch import Tensor

from smalti.generators.rar.config import RARConfig

_LAYERS: dict[str, str] = {
    "norm1": "norm1",
    "attn.qkv": "attention.qkv",
    "attn.q_norm": "attention.q_norm",
    "attn.k_norm": "attention.k_norm",
    "attn.proj": "attention.proj",
    "norm2": "norm2",
    "mlp.fc1": "up",
    "mlp.fc2": "down",
    "adaLN_modulation.1": "modulation",
}

_KEYS: dict[str, str | None] = {
    "cls_token": "start",
    "embeddings.weight": "embedding.weight",
    "pos_embed": "positions",
    "target_aware_pos_embed": "next_positions",
    "timesteps_embeddings": "steps",
    "adaln_before_head.adaLN_modulation.1.weight": "head_modulation.weight",
    "adaln_before_head.adaLN_modulation.1.bias": "head_modulation.bias",
    "lm_head.weight": "head.weight",
    "lm_head.bias": "head.bias",
    **{
        f"blocks.{{}}.{theirs}.{kind}": f"blocks.{{}}.{ours}.{kind}"
        for theirs, ours in _LAYERS.items()
        for kind in ("weight", "bias")
    },
}


def key_map(config: RARConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number, None for a constant that our model computes."""
    return _KEYS


def constants(config: RARConfig) -> dict[str, Tensor]:
    """The official files hold nothing that our model computes."""
    return {}
