"""Key map of the authors' files: images (last_version.pt and others, under "model", XXL bare) and clips (files of their
trainer, under ["model"]["sd"]).
"""

from torch import Tensor

from smalti.generators.nar.config import NARConfig
from smalti.nn.gpt import BLOCK_KEYS
from smalti.nn.gpt_condition import CAPTION_KEYS, CLASS_KEYS

_IMAGE: dict[str, str | None] = {
    "tok_embeddings.weight": "token_embedding.weight",
    "norm.weight": "norms.0.weight",  # the token to the right
    "output.weight": "heads.0.weight",
    "medusa_norm.weight": "norms.1.weight",  # the token below
    "medusa_output.weight": "heads.1.weight",
}

_CLIP: dict[str, str | None] = {
    "abs_pe": "positions",
    "tok_embeddings.weight": "token_embedding.weight",
    "norm_R.weight": "norms.0.weight",  # right
    "output_R.weight": "heads.0.weight",
    "norm_D.weight": "norms.1.weight",  # down
    "output_D.weight": "heads.1.weight",
    "norm_B.weight": "norms.2.weight",  # the same place in the next frame; the authors call it back
    "output_B.weight": "heads.2.weight",
}


def key_map(config: NARConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    condition = CAPTION_KEYS if config.text_features else CLASS_KEYS
    return {**BLOCK_KEYS, **condition, **(_IMAGE if config.positions == "rotary" else _CLIP)}


def constants(config: NARConfig) -> dict[str, Tensor]:
    """The authors' code writes none."""
    return {}
