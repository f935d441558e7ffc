"""Key map of the authors' tokenizer files (ByteVisionLab/DetailFlow-{16,32,64}: checkpoints/*.pt, under "model")."""

from torch import Tensor

from smalti.tokenizers.detailflow.config import DetailFlowTokenizerConfig

_BLOCK = {
    "layer_norm1": "norm1",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "up",
    "mlp.fc2": "down",
}
_LAYERS = {
    **{
        f"{tower}.visual_model.encoder.layers.{{}}.{a}": f"{tower}.blocks.{{}}.{b}"
        for tower in ("encoder", "decoder")
        for a, b in _BLOCK.items()
    },
    "encoder.visual_model.embeddings.patch_embedding": "encoder.patches",
    "encoder.visual_model.post_layernorm": "encoder.norm",
    "decoder.visual_model.post_layernorm": "decoder.norm",
    "decoder.to_pixel.model": "decoder.pixels",
    "quant_conv": "before_quantizer",
    "post_quant_conv": "after_quantizer",
}
_TABLES = {
    "encoder.visual_model.embeddings.position_embedding.weight": "encoder.positions",
    "encoder.latent_pos_embed": "encoder.token_positions",
    "encoder.latent_tokens": "encoder.queries",
    "encoder.refined_tokens": "encoder.refined",
    "decoder.visual_model.embeddings.position_embedding.weight": "decoder.positions",
    "decoder.latent_pos_embed": "decoder.token_positions",
    "decoder.mask_token": "decoder.mask_token",
    "quantize.embedding.weight": "quantizer.codebook",
}
_TEACHER = "repa_model.visual_model"  # a frozen SigLIP2, which some files carry along: training only


def key_map(config: DetailFlowTokenizerConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number, None for what is dropped on loading."""
    layers: dict[str, str | None] = dict(_LAYERS)
    if config.self_correction:
        layers["refine_conv"] = "refine"
    layers["global_token_proj.{}"] = "alignment.{}" if config.alignment else None
    layers |= {f"{_TEACHER}.encoder.layers.{{}}.{name}": None for name in _BLOCK}
    layers |= {f"{_TEACHER}.embeddings.patch_embedding": None, f"{_TEACHER}.post_layernorm": None}
    layers["projection.{}"] = None  # between the decoder and that teacher, in trainings that align both
    return {
        **_TABLES,
        "quantize.codebook_used": "quantizer.recent" if config.usage_window else None,
        f"{_TEACHER}.embeddings.position_embedding.weight": None,
        **{
            f"{official}.{kind}": None if ours is None else f"{ours}.{kind}"
            for official, ours in layers.items()
            for kind in ("weight", "bias")
        },
    }


def constants(config: DetailFlowTokenizerConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none (what is dropped is not needed to load a file)."""
    return {}
