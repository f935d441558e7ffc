"""Key map of the authors' VQGAN files (FoundationVision/LlamaGen: vq_ds16_c2i.pt and others, in "model" or "ema")."""

from torch import Tensor

from smalti.tokenizers.llamagen.config import LlamaGenTokenizerConfig

_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "shortcut"}
_ATTENTION = {"norm": "norm", "q": "qkv.q", "k": "qkv.k", "v": "qkv.v", "proj_out": "proj"}
_PREFIXES = {
    **{
        f"{side}.mid.{i}.{a}": f"{side}.middle.{i}.{b}"
        for side in ("encoder", "decoder")
        for i, parts in enumerate((_BLOCK, _ATTENTION, _BLOCK))
        for a, b in parts.items()
    },
    **{
        f"{side}.{a}": f"{side}.{b}"
        for side in ("encoder", "decoder")
        for a, b in {"conv_in": "stem", "norm_out": "norm", "conv_out": "head"}.items()
    },
    "quant_conv": "before_quantizer",
    "post_quant_conv": "after_quantizer",
}


def _level(theirs: str, ours: str, resize: str) -> dict[str, str]:
    """The blocks of one resolution."""
    return {
        **{f"{theirs}.res.{{}}.{a}": f"{ours}.blocks.{{}}.{b}" for a, b in _BLOCK.items()},
        **{f"{theirs}.attn.{{}}.{a}": f"{ours}.attentions.{{}}.{b}" for a, b in _ATTENTION.items()},
        f"{theirs}.{resize}.conv": f"{ours}.resize.conv",
    }


def key_map(config: LlamaGenTokenizerConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number. The authors count the decoder's levels from the lowest one."""
    prefixes = dict(_PREFIXES)
    last = len(config.encoder_multipliers) - 1
    for i in range(last + 1):
        prefixes |= _level(f"encoder.conv_blocks.{i}", f"encoder.levels.{i}", "downsample")
        prefixes |= _level(f"decoder.conv_blocks.{i}", f"decoder.levels.{last - i}", "upsample")
    return {
        "quantize.embedding.weight": "quantizer.codebook",
        "quantize.codebook_used": "quantizer.recent",
        **{f"{a}.{kind}": f"{b}.{kind}" for a, b in prefixes.items() for kind in ("weight", "bias")},
    }


def constants(config: LlamaGenTokenizerConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}
