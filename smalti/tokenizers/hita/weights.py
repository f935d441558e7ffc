"""Key map of the authors' tokenizer files (yexiguafu/hita-gen, under "ema") and of Meta's DINOv2, which they leave out.

Both files together: DINOv2's keys bear the prefix that they have in the authors' module.
"""

from torch import Tensor

from smalti.tokenizers.hita.config import HitaTokenizerConfig

FOUNDATION_PREFIX = "encode_transformer.backbone.pretrained_encoder."

_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "shortcut"}
_ATTENTION = {"norm": "norm", "q": "qkv.q", "k": "qkv.k", "v": "qkv.v", "proj_out": "proj"}
_LAYER = {"norm1": "norm1", "norm2": "norm2", "ffnet.w12": "feed_forward.up", "ffnet.w3": "feed_forward.down"}
_QKV = {"q": "query", "k": "key", "v": "value"}
_FULL = {
    **_LAYER,
    **{f"attn1.to_{a}": f"attention.{b}" for a, b in _QKV.items()},
    "attn1.to_out.0": "attention.proj",
}
_CAUSAL = {
    **_LAYER,
    **{f"attn1.{a}_proj": f"attention.{b}" for a, b in _QKV.items()},
    "attn1.out_proj": "attention.proj",
}
_DINO = {
    "norm1": "norm1",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "norm2": "norm2",
    "mlp.fc1": "feed_forward.up",
    "mlp.fc2": "feed_forward.down",
}
_FOUNDATION = {
    **{f"blocks.{{}}.{a}": f"blocks.{{}}.{b}" for a, b in _DINO.items()},
    "patch_embed.proj": "patch_embed",
    "norm": "norm",
}
_PREFIXES = {
    **{f"{side}.mid.{i}.{a}": f"{side}.middle.{i}.{b}"
       for side in ("encoder", "decoder")
       for i, parts in enumerate((_BLOCK, _ATTENTION, _BLOCK))
       for a, b in parts.items()},
    **{f"{side}.{a}": f"{side}.{b}"
       for side in ("encoder", "decoder")
       for a, b in {"conv_in": "stem", "norm_out": "norm", "conv_out": "head"}.items()},
    **{f"encode_transformer.transformer1.layers.{{}}.{a}": f"holistic_encoder.full.{{}}.{b}" for a, b in _FULL.items()},
    **{f"encode_transformer.transformer2.layers.{{}}.{a}": f"holistic_encoder.causal.{{}}.{b}"
       for a, b in _CAUSAL.items()},
    **{f"decode_transformer.transformer.layers.{{}}.{a}": f"holistic_decoder.blocks.{{}}.{b}"
       for a, b in _CAUSAL.items()},
    **{f"{FOUNDATION_PREFIX}{a}": f"foundation.tower.{b}" for a, b in _FOUNDATION.items()},
    "encode_transformer.proj.mlp.{}": "holistic_encoder.project.{}",
    "encode_transformer.norm_pre1": "holistic_encoder.norm1",
    "encode_transformer.norm_pre2": "holistic_encoder.norm2",
    "decode_transformer.norm": "holistic_decoder.norm",
    "decode_transformer.norm_vfm": "holistic_decoder.norm_predicted",
    "decode_transformer.proj": "holistic_decoder.predict",
    "pre_slots_quant": "before_holistic",
    "post_slots_quant": "after_holistic",
    "quant_conv": "before_patches",
    "post_quant_conv": "after_patches",
}  # fmt: skip
_SINGLE = {
    "encode_transformer.carrier_tokens": "holistic_encoder.queries",
    "encode_transformer.pos_embed": "holistic_encoder.positions",
    "decode_transformer.position_embedding": "holistic_decoder.positions",
    "decode_transformer.slot_position_embedding": "holistic_decoder.holistic_positions",
    "decode_transformer.mask_embedding": "holistic_decoder.mask",
    "slot_quantize.embedding.weight": "holistic_quantizer.codebook",
    "slot_quantize.codebook_used": "holistic_quantizer.recent",
    "quantize.embedding.weight": "patch_quantizer.codebook",
    "quantize.codebook_used": "patch_quantizer.recent",
    f"{FOUNDATION_PREFIX}cls_token": "foundation.tower.class_token",
    f"{FOUNDATION_PREFIX}pos_embed": "foundation.tower.positions",
    f"{FOUNDATION_PREFIX}register_tokens": "foundation.tower.register_tokens",
    f"{FOUNDATION_PREFIX}mask_token": "foundation.tower.mask_token",
    f"{FOUNDATION_PREFIX}blocks.{{}}.ls1.gamma": "foundation.tower.blocks.{}.scale1",
    f"{FOUNDATION_PREFIX}blocks.{{}}.ls2.gamma": "foundation.tower.blocks.{}.scale2",
}


def _level(theirs: str, ours: str, resize: str) -> dict[str, str]:
    """The convolutional blocks of one resolution."""
    return {
        **{f"{theirs}.res.{{}}.{a}": f"{ours}.blocks.{{}}.{b}" for a, b in _BLOCK.items()},
        **{f"{theirs}.attn.{{}}.{a}": f"{ours}.attentions.{{}}.{b}" for a, b in _ATTENTION.items()},
        f"{theirs}.{resize}.conv": f"{ours}.resize.conv",
    }


def key_map(config: HitaTokenizerConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number. The authors count the decoder's levels from the lowest one."""
    prefixes = dict(_PREFIXES)
    last = len(config.encoder_multipliers) - 1
    for i in range(last + 1):
        prefixes |= _level(f"encoder.conv_blocks.{i}", f"encoder.levels.{i}", "downsample")
        prefixes |= _level(f"decoder.conv_blocks.{i}", f"decoder.levels.{last - i}", "upsample")
    return {**_SINGLE, **{f"{a}.{kind}": f"{b}.{kind}" for a, b in prefixes.items() for kind in ("weight", "bias")}}


def constants(config: HitaTokenizerConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}
