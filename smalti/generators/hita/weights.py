"""Key map of the authors' transformer files (yexiguafu/hita-gen: {vanilla,ultra}/GPT-*/*.pt, under "ema")."""

from torch import Tensor

from smalti.generators.hita.config import HitaConfig
from smalti.nn.gpt import BLOCK_KEYS
from smalti.nn.gpt_condition import CLASS_KEYS

_KEYS: dict[str, str | tuple[str, ...] | None] = {
    **BLOCK_KEYS,
    **CLASS_KEYS,
    "slot_embeddings.weight": "holistic_embedding.weight",
    "tok_embeddings.weight": "patch_embedding.weight",
    "slot_pos.weight": "holistic_positions",
    "norm.weight": "norm.weight",
    "output.weight": ("holistic_head.weight", "patch_head.weight"),
    # only in files written after sampling
    "layers.{}.attention.kv_cache.k_cache": None,
    "layers.{}.attention.kv_cache.v_cache": None,
}


def key_map(config: HitaConfig) -> dict[str, str | tuple[str, ...] | None]:
    """Official key -> ours; `{}` stands for a number. Their output layer is both of ours in one."""
    return _KEYS


def constants(config: HitaConfig) -> dict[str, Tensor]:
    """Official tensors that hold no information, to write back: none."""
    return {}
