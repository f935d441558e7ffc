"""Key map of the authors' files (FoundationVision/LlamaGen: c2i_*.pt; peizesun/llamagen_t2i: t2i_*.pt).

They hold the state dict under "model", "module" (DeepSpeed) or "state_dict", or bare (FSDP).
"""

from torch import Tensor

from smalti.generators.llamagen.config import LlamaGenConfig
from smalti.nn.gpt import BLOCK_KEYS
from smalti.nn.gpt_condition import CAPTION_KEYS, CLASS_KEYS

_COMMON: dict[str, str | None] = {
    "tok_embeddings.weight": "token_embedding.weight",
    "norm.weight": "norm.weight",
    "output.weight": "head.weight",
    # constants: the rotation of every position (in older files), and what is left of a generation
    "freqs_cis": None,
    "layers.{}.attention.kv_cache.k_cache": None,
    "layers.{}.attention.kv_cache.v_cache": None,
}


def key_map(config: LlamaGenConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number, None for what our model computes."""
    return {**BLOCK_KEYS, **(CAPTION_KEYS if config.text_features else CLASS_KEYS), **_COMMON}


def constants(config: LlamaGenConfig) -> dict[str, Tensor]:
    """The authors' current code writes none."""
    return {}
