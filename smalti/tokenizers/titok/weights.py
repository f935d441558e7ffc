"""Key map of the authors' TiTok and TA-TiTok files (bare state dicts)."""

from torch import Tensor

from smalti.nn.maskgit import DECODER_KEYS
from smalti.tokenizers.titok.config import TiTokConfig

_BLOCK = {
    "ln_1.weight": "norm1.weight",
    "ln_1.bias": "norm1.bias",
    "attn.in_proj_weight": "attention.qkv.weight",
    "attn.in_proj_bias": "attention.qkv.bias",
    "attn.out_proj.weight": "attention.proj.weight",
    "attn.out_proj.bias": "attention.proj.bias",
    "ln_2.weight": "norm2.weight",
    "ln_2.bias": "norm2.bias",
    "mlp.c_fc.weight": "feed_forward.up.weight",
    "mlp.c_fc.bias": "feed_forward.up.bias",
    "mlp.c_proj.weight": "feed_forward.down.weight",
    "mlp.c_proj.bias": "feed_forward.down.bias",
}
_LAYERS = {
    "encoder.patch_embed": "encoder.patches",
    "encoder.conv_out": "encoder.head",
    "decoder.decoder_embed": "decoder.embed",
    **{f"{side}.ln_pre": f"{side}.norm_in" for side in ("encoder", "decoder")},
    **{f"{side}.ln_post": f"{side}.norm_out" for side in ("encoder", "decoder")},
}
_HEAD = {
    True: {"decoder.ffn.0": "decoder.head.up", "decoder.ffn.2": "decoder.head.down"},
    False: {"decoder.ffn.0": "decoder.head.pixels", "decoder.conv_out": "decoder.head.smooth"},
}


def key_map(config: TiTokConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    layers = _LAYERS | _HEAD[config.legacy]
    single: dict[str, str | None] = {
        "latent_tokens": "encoder.latents",
        "decoder.mask_token": "decoder.mask",
        **{f"{side}.class_embedding": f"{side}.start" for side in ("encoder", "decoder")},
        **{f"{side}.positional_embedding": f"{side}.grid_positions" for side in ("encoder", "decoder")},
        **{f"{side}.latent_token_positional_embedding": f"{side}.latent_positions" for side in ("encoder", "decoder")},
        **{
            f"{side}.transformer.{{}}.{a}": f"{side}.blocks.{{}}.{b}"
            for side in ("encoder", "decoder")
            for a, b in _BLOCK.items()
        },
    }
    if config.vocab is not None:
        single["quantize.embedding.weight"] = "quantizer.codebook"
        single["quantize.embed_prob"] = None  # training state of the clustering, in files of unfinished training
    if config.text_tokens:
        layers["decoder.text_guidance_proj"] = "decoder.text_embed"
        single["decoder.text_guidance_positional_embedding"] = "decoder.text_positions"
    if config.legacy:
        layers |= {f"pixel_decoder.{a}": f"pixel_decoder.{b}" for a, b in DECODER_KEYS.items()}
        single["pixel_quantize.embedding.weight"] = "pixel_codebook"
    return single | {f"{a}.{kind}": f"{b}.{kind}" for a, b in layers.items() for kind in ("weight", "bias")}


def constants(config: TiTokConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}
