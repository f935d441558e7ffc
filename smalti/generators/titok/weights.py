"""Key map of the authors' generator files (yucornetto/generator_titok_*, fun-research/TiTok): bare state dicts."""

from torch import Tensor

from smalti.generators.titok.config import TiTokGeneratorConfig

_VIT: dict[str, str | None] = {
    "model.embeddings.word_embeddings.weight": "embedding.weight",
    "model.embeddings.position_embeddings.weight": "positions",
    "model.embeddings.token_type_embeddings.weight": "trunk.segments",
    "model.embeddings.LayerNorm.weight": "trunk.embedding_norm.weight",
    "model.embeddings.LayerNorm.bias": "trunk.embedding_norm.bias",
    "model.embeddings.position_ids": None,  # 0, 1, 2, ...: in files written with transformers before 4.31
    "model.lm_head.weight": "head.weight",
    "model.lm_head.bias": "head.bias",
}
_VIT_LAYERS = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "feed_forward.up",
    "output.dense": "feed_forward.down",
    "output.LayerNorm": "norm2",
}

_UVIT: dict[str, str | None] = {
    "embeddings.weight": "embedding.weight",
    "pos_embed": "positions",
    "norm.weight": "trunk.norm.weight",
    "norm.bias": "trunk.norm.bias",
    "lm_head.weight": "head.weight",
    "lm_head.bias": "head.bias",
    "out_blocks.{}.skip_linear.weight": "trunk.behind.{}.skip.weight",
    "out_blocks.{}.skip_linear.bias": "trunk.behind.{}.skip.bias",
}
_UVIT_BLOCKS = {
    "in_blocks.{}": "trunk.before.{}",
    "mid_block": "trunk.middle",
    "out_blocks.{}": "trunk.behind.{}.block",
}
_UVIT_LAYERS = {
    "norm1": "norm1",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "norm2": "norm2",
    "mlp.fc1": "feed_forward.up",
    "mlp.fc2": "feed_forward.down",
}


def key_map(config: TiTokGeneratorConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number, None for a constant that our model computes."""
    if config.kind == "vit":
        blocks, layers, rest = {"model.encoder.layer.{}": "trunk.blocks.{}"}, _VIT_LAYERS, _VIT
    else:
        blocks, layers, rest = _UVIT_BLOCKS, _UVIT_LAYERS, _UVIT
    return {
        f"{theirs}.{layer}.{kind}": f"{ours}.{name}.{kind}"
        for theirs, ours in blocks.items()
        for layer, name in layers.items()
        for kind in ("weight", "bias")
        if (layer, kind) != ("attn.qkv", "bias")
    } | rest


def constants(config: TiTokGeneratorConfig) -> dict[str, Tensor]:
    """The official files hold nothing that our model computes."""
    return {}
