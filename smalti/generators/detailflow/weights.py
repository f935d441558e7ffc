"""Key map of the authors' transformer files (ByteVisionLab/DetailFlow-*-GPT-L: checkpoints/*.pt, under "ema")."""

import torch
from torch import Tensor

from smalti.generators.detailflow.config import DetailFlowConfig
from smalti.nn.gpt import BLOCK_KEYS
from smalti.nn.gpt_condition import CLASS_KEYS

_SPECIAL = "spe_tok_embeddings.special_embeddings.weight"


def key_map(config: DetailFlowConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number. A model without groups has an empty table of special tokens."""
    return {
        **BLOCK_KEYS,
        **CLASS_KEYS,
        "tok_embeddings.weight": "embedding.weight",
        _SPECIAL: "special" if config.group > 1 else None,
        "norm.weight": "norm.weight",
        "output.weight": "head.weight",
    }


def constants(config: DetailFlowConfig) -> dict[str, Tensor]:
    """Official tensors that hold no information, to write back."""
    return {} if config.group > 1 else {_SPECIAL: torch.zeros(0, config.width)}
