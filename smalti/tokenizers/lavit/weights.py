"""Key map of LaVIT's files (rain1011/LaVIT-7B-v2, visual_tokenizer/): the three parts under the authors' names, the
vision transformer behind `encoder.` as in their tokenizer, the decoder behind `tokenizer_decoder.`."""

import torch
from torch import Tensor

from smalti.tokenizers.lavit.config import LaVITConfig

_VIT = ("patch_embed.proj", "blocks.{}.norm1", "blocks.{}.norm2", "blocks.{}.attn.proj", "blocks.{}.mlp.fc1",
        "blocks.{}.mlp.fc2")  # fmt: skip
_VIT_TENSORS = ("cls_token", "pos_embed", "blocks.{}.attn.qkv.weight", "blocks.{}.attn.q_bias",
                "blocks.{}.attn.v_bias")  # fmt: skip
_BLOCK = {"norm0": "norm1", "norm1": "norm2", "norm2": "norm3", "mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down"}
_MERGER_CROSS = {"query": "query", "key": "key", "value": "value", "proj": "cross_proj"}
_ENCODER = {
    **{f"encoder.{name}": f"vit.{name}" for name in _VIT},
    "token_predictor.in_conv.0": "selector.norm",
    "token_predictor.in_conv.1": "selector.stem",
    "token_predictor.out_conv.0": "selector.hidden1",
    "token_predictor.out_conv.2": "selector.hidden2",
    "token_predictor.out_conv.4": "selector.head",
    "causal_encoder.ln_vision": "merger.norm_source",
    "causal_encoder.norm": "merger.norm",
    **{f"causal_encoder.blocks.{{}}.{a}": f"merger.blocks.{{}}.{b}" for a, b in _BLOCK.items()},
    **{
        f"causal_encoder.blocks.{{}}.token_causal_attn.{name}": f"merger.blocks.{{}}.{name}" for name in ("qkv", "proj")
    },
    **{f"causal_encoder.blocks.{{}}.token_cross_attn.{a}": f"merger.blocks.{{}}.{b}" for a, b in _MERGER_CROSS.items()},
    "encode_task_layer.0": "to_code.0",
    "encode_task_layer.2": "to_code.2",
}
_DECODER = {
    "in_proj": "stem",
    "norm": "norm",
    **{f"blocks.{{}}.{a}": f"blocks.{{}}.{b}" for a, b in _BLOCK.items()},
    **{f"blocks.{{}}.self_attn.{name}": f"blocks.{{}}.attention.{name}" for name in ("qkv", "proj")},
    **{f"blocks.{{}}.cross_attn.{n}": f"blocks.{{}}.cross_attention.{n}" for n in ("query", "key", "value", "proj")},
    "decode_task_layer.0": "head.0",
    "decode_task_layer.2": "head.2",
}
_POOL = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "c_proj": "proj"}
_UNUSED = (
    "encoder.norm",
    "encoder.head",
)  # of the transformer's pre-training; the last block's output is used as it is


def key_map(config: LaVITConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    decoder: dict[str, str | None] = dict(_DECODER)
    if config.pooled:
        decoder |= {f"unet_proj_{i + 1}": f"to_context.{i}" for i in range(len(config.contexts))}
        decoder |= {f"unet_attnpool.{a}": f"pool.{b}" for a, b in _POOL.items()}
    else:
        decoder |= {"unet_proj": "to_context.0"}
    modules: dict[str, str | None] = {
        **_ENCODER,
        **{f"tokenizer_decoder.{a}": f"decoder.{b}" for a, b in decoder.items()},
    }
    modules |= {name: None for name in _UNUSED}
    # maps merged features into the language model; some files may lack it
    modules["vit_proj"] = "to_llm" if config.llm_width else None
    table = {f"{a}.{kind}": b and f"{b}.{kind}" for a, b in modules.items() for kind in ("weight", "bias")}
    table |= {f"encoder.{name}": f"vit.{name}" for name in _VIT_TENSORS}
    table |= {
        "quantize.embedding.weight": "codebook",
        "tokenizer_decoder.pos_embed": "decoder.positions",
        "tokenizer_decoder.query_embed": "decoder.queries",
    }
    if config.pooled:
        table["tokenizer_decoder.unet_attnpool.positional_embedding"] = "decoder.pool.positions"
    return table


def constants(config: LaVITConfig) -> dict[str, Tensor]:
    """Official keys that nothing reads, to write back: the authors' loader of the transformer is strict.

    1024 is the width of the image embedding of the CLIP model that the transformer was trained in.
    """
    width = config.width
    return {
        "encoder.norm.weight": torch.ones(width),
        "encoder.norm.bias": torch.zeros(width),
        "encoder.head.weight": torch.zeros(1024, width),
        "encoder.head.bias": torch.zeros(1024),
    }
