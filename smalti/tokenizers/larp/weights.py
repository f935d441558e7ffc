"""Key map of LARP's tokenizer file (hywang66/LARP-L-long-tokenizer, a bare state dict).

The file also holds the autoregressive prior that shaped the codes in training (`prior_model.*`), which is dropped.
"""

from torch import Tensor

from smalti.nn.vit import BLOCK_KEYS, FEED_FORWARD_KEYS
from smalti.tokenizers.larp.config import LARPConfig

_TABLES = {
    "encoder_latent_query_embed": "encoder.queries",
    "decoder_latent_pe": "decoder.token_positions",
    "bottleneck.regularizer.embedding.weight": "quantizer.codebook",
}
_TYPES = {
    "patch_type": {"encoder_patch_token_type_embed": "encoder.patch_type"},
    "query_type": {"encoder_latent_query_token_type_embed": "encoder.query_type"},
    "token_type": {"decoder_latent_token_type_embed": "decoder.token_type"},
    "patch_query_type": {"decoder_patch_query_token_type_embed": "decoder.patch_query_type"},
}
_POSITIONS: dict[str, dict[bool, dict[str, str]]] = {  # config field -> learned or not -> names
    "learned_patch_positions": {
        False: {"encoder_patch_pe": "encoder.positions.table"},
        True: {
            "encoder_t_embed": "encoder.positions.times",
            "encoder_h_embed": "encoder.positions.rows",
            "encode_w_embed": "encoder.positions.columns",  # the authors' spelling
        },
    },
    "learned_patch_queries": {
        False: {"decoder_patch_query_embed": "decoder.patch_queries.table"},
        True: {
            "decoder_t_embed": "decoder.patch_queries.times",
            "decoder_h_embed": "decoder.patch_queries.rows",
            "decoder_w_embed": "decoder.patch_queries.columns",
        },
    },
}
_LAYERS = {
    "x_embedder.proj": "encoder.patches",
    "bottleneck.in_linear": "before_quantizer",
    "bottleneck.out_linear": "after_quantizer",
    "final_layer.norm_final": "decoder.norm",
    "final_layer.linear": "decoder.head",
    **{
        f"{side}.blocks.{{}}.{a}": f"{side}.blocks.{{}}.{b}"
        for side in ("encoder", "decoder")
        for a, b in (BLOCK_KEYS | FEED_FORWARD_KEYS["gelu"]).items()
    },
}
_PRIOR = [
    *("prior_model.input_proj", "prior_model.ln_f", "prior_model.head"),
    *(f"prior_model.blocks.{{}}.{layer}" for layer in ("ln{}", "mlp.{}")),
    *(f"prior_model.blocks.{{}}.attn.{layer}" for layer in ("key", "query", "value", "proj")),
]
_NO_BIAS = {f"{side}.blocks.{{}}.attn.qkv.bias" for side in ("encoder", "decoder")}


def key_map(config: LARPConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    layers = {f"{a}.{kind}": f"{b}.{kind}" for a, b in _LAYERS.items() for kind in ("weight", "bias")}
    names: dict[str, str | None] = {**_TABLES, **{a: b for a, b in layers.items() if a not in _NO_BIAS}}
    for field, types in _TYPES.items():
        names |= types if getattr(config, field) else {}
    for field, positions in _POSITIONS.items():
        names |= positions[getattr(config, field)]
    prior = {f"{layer}.{kind}": None for layer in _PRIOR for kind in ("weight", "bias")}
    return {**names, **prior, "prior_model.pos_emb": None}


def constants(config: LARPConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}
