"""Key map of the authors' multi-scale VQVAE files (FoundationVision/var: vae_ch160v4096z32.pth, a bare state dict)."""

from torch import Tensor

from smalti.tokenizers.var.config import VARTokenizerConfig

_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "shortcut"}
_ATTENTION = {"norm": "norm", "qkv": "qkv", "proj_out": "proj"}
_PREFIXES = {
    **{f"encoder.down.{{}}.block.{{}}.{a}": f"encoder.levels.{{}}.blocks.{{}}.{b}" for a, b in _BLOCK.items()},
    **{f"encoder.down.{{}}.attn.{{}}.{a}": f"encoder.levels.{{}}.attentions.{{}}.{b}" for a, b in _ATTENTION.items()},
    **{f"decoder.up.{{}}.block.{{}}.{a}": f"decoder.levels.{{}}.blocks.{{}}.{b}" for a, b in _BLOCK.items()},
    **{f"decoder.up.{{}}.attn.{{}}.{a}": f"decoder.levels.{{}}.attentions.{{}}.{b}" for a, b in _ATTENTION.items()},
    "encoder.down.{}.downsample.conv": "encoder.levels.{}.resize.conv",
    "decoder.up.{}.upsample.conv": "decoder.levels.{}.resize.conv",
    **{f"{side}.mid.block_1.{a}": f"{side}.middle.0.{b}" for side in ("encoder", "decoder") for a, b in _BLOCK.items()},
    **{
        f"{side}.mid.attn_1.{a}": f"{side}.middle.1.{b}"
        for side in ("encoder", "decoder")
        for a, b in _ATTENTION.items()
    },
    **{f"{side}.mid.block_2.{a}": f"{side}.middle.2.{b}" for side in ("encoder", "decoder") for a, b in _BLOCK.items()},
    "encoder.conv_in": "encoder.stem",
    "encoder.norm_out": "encoder.norm",
    "encoder.conv_out": "encoder.head",
    "decoder.conv_in": "decoder.stem",
    "decoder.norm_out": "decoder.norm",
    "decoder.conv_out": "decoder.head",
    "quant_conv": "before_quantizer",
    "post_quant_conv": "after_quantizer",
}

_REFINERS = {  # the authors' module has another name for each way of sharing phi
    "spread": {"quantize.quant_resi.qresi_ls.{}": "quantizer.refiners.{}"},
    "one": {"quantize.quant_resi.qresi": "quantizer.refiners.0"},
    "per scale": {"quantize.quant_resi.{}": "quantizer.refiners.{}"},
}


def key_map(config: VARTokenizerConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    sharing = "one" if config.refiners == 1 else "spread" if config.refiners else "per scale"
    prefixes = {**_PREFIXES, **_REFINERS[sharing]}
    return {
        "quantize.embedding.weight": "quantizer.codebook",
        "quantize.ema_vocab_hit_SV": "quantizer.usage",
        **{f"{a}.{kind}": f"{b}.{kind}" for a, b in prefixes.items() for kind in ("weight", "bias")},
    }


def constants(config: VARTokenizerConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}
