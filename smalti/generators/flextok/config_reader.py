"""The authors' config.yaml of a FlexAR model, read as data: nothing in it is imported or called.

Known targets and arguments are turned into our config, everything else is an error, because it may change the numbers.
What matters in training alone (dropout, initialization) is passed over.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from smalti.generators.flextok.config import Activation, FlexARConfig, NormConfig, Positions, gated_width
from smalti.generators.flextok.config_tree import Node, Tree

_META, _TRUNKS, _LAYERS = "l3m.model.meta_models.", "l3m.model.trunks.", "l3m.model.layers."
_AR, _TEXT = "flextok_ar.model.", "flextok_ar.model.text_encoder."
_TRUNK = (
    "embed_dim num_blocks ffn_target act_layer block drop_path_rate drop_path_type norm_layer mlp_ratio "
    "mlp_hidden_dim ffn_dropout_rate weight_init_style gpt_proj_rescale use_bias post_trunk_norm "
)
_ATTENTION = "dim num_heads qkv_bias qk_scale proj_drop use_bias is_causal qk_norm "
_FROM_BLOCK = "in_features hidden_features act_layer drop use_bias "  # which passes its own

ALLOWED = {
    f"{_META}InSeriesMetaModels": "models order",
    f"{_META}MetaModel": "preprocessor trunk postprocessor head",
    f"{_AR}preprocessors.ARImageEmbedPreprocessor": (
        "token_grid_size codebook_size embed_dim pos_embed_type init_style num_classes cond_dropout_prob"
    ),
    f"{_AR}integration.ImageResamplerTokenizer": (
        "checkpoint_path model_id force_vae_encode sample_posterior image_dims del_decoders token_grid_size"
    ),
    f"{_TRUNKS}transformer.Transformer": _TRUNK + "attn_target self_attn_mask_read_key=null",
    f"{_TRUNKS}transformer_decoder.TransformerDecoder": (
        _TRUNK + "self_attn_target cross_attn_target self_attn_mask_read_key encoder_output_key"
    ),
    f"{_TRUNKS}transformer.Block": "",
    f"{_TRUNKS}transformer_decoder.DecoderBlock": "",
    f"{_LAYERS}attention.EfficientAttention": _ATTENTION + "attn_drop rope_pos_embed",
    f"{_LAYERS}attention.DCLMAttention": _ATTENTION + "attn_drop rope_pos_embed",
    f"{_LAYERS}attention.GenericAttention": (  # applies attn_drop in evaluation, too
        _ATTENTION + "head_dim attn_drop=0 num_kv_heads rope use_flex_attention"
    ),
    f"{_LAYERS}attention.HFAttention": (
        _ATTENTION + "head_dim attn_drop num_key_value_heads rope_pos_embed sdpa=true num_patches"
    ),
    f"{_AR}attention.GeneralizedAttentionWithMask": _ATTENTION + "attn_drop encoder_dim relative_pos_embed=null",
    f"{_LAYERS}ffn.MLP": _FROM_BLOCK + "norm_layer=null",
    f"{_LAYERS}ffn.GatedFFN": _FROM_BLOCK + "multiple_of",
    f"{_LAYERS}ffn.SwiGLUFFN": _FROM_BLOCK + "multiple_of",
    f"{_LAYERS}ffn.GeGELU": _FROM_BLOCK + "multiple_of",
    f"{_LAYERS}normalization.LayerNormFP32": "eps elementwise_affine bias",
    f"{_LAYERS}normalization.LPLayerNorm": "eps elementwise_gain elementwise_bias",
    f"{_LAYERS}normalization.RMSNorm": "eps",
    "torch.nn.LayerNorm": "eps elementwise_affine bias",
    "torch.nn.RMSNorm": "eps elementwise_affine",
    f"{_LAYERS}activation.QuickGELU": "",
    "torch.nn.GELU": "approximate",
    "torch.nn.SiLU": "inplace",
    "torch.nn.ReLU": "inplace",
    "torch.nn.Identity": "",
    "l3m.model.preprocessors.pos_embed.rope.RoPE": "context_length embed_dim num_heads head_dim theta",
    "l3m.model.heads.classifier.LinearClassifier": (
        "in_features out_features use_layernorm use_batchnorm=false weight_init_style encoder_num_blocks init_std "
        "use_bias"
    ),
    f"{_TEXT}T5EmbedderWithMLP": "t5_embedder mlp",
    f"{_TEXT}T5Embedder": (
        "hf_hub_path=google/flan-t5-xl encoder_seqlen_max decoder_seqlen cond_dropout_p text_embeddings_write_key "
        "text_embeddings_mask_write_key"
    ),
    f"{_TEXT}TextToEmbedMLP": "text_dim embed_dim act_layer use_bias",
}
"""Target -> the arguments it may have, some with the one value they must have."""

_POSITIONS: dict[str, Positions] = {"absolute": "learned", "sincos1d": "sincos", "sincos2d": "sincos"}
_EPS = {"torch.nn.LayerNorm": 1e-5, "torch.nn.RMSNorm": 2.0**-23, f"{_LAYERS}normalization.RMSNorm": 1e-6}
_LONGEST = 100_000  # characters of a config


def read_file(path: Path) -> FlexARConfig | None:
    """The config in the config.yaml beside a weight file; None if there is none.

    Errors: ValueError naming the file for a config that is damaged, or of something else.
    """
    beside = path.with_name("config.yaml")
    if not beside.is_file():
        return None
    try:
        if beside.stat().st_size > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST} characters")
        return read_config(yaml.safe_load(beside.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"the config {beside} cannot be used: {error}") from error


def read_config(data: Any) -> FlexARConfig:
    """Our config from the authors' whole config (`model.meta_model` in it). Errors: ValueError, by name."""
    if not isinstance(data, Mapping):
        raise ValueError("it is no mapping")
    tree = Tree(data, ALLOWED)
    series = tree.node(_inside(tree, data, "model", "meta_model"), "InSeriesMetaModels")
    models = tree.value(series.get("models", {}))
    if unknown := sorted(set(models) - {"text_encoder", "image_tokenizer", "ar_image_model"}):
        raise ValueError(f"it has a model {', '.join(map(repr, unknown))}, which no FlexAR is known to have")
    if "image_tokenizer" in models:  # a model of its own here
        tree.node(models["image_tokenizer"], "ImageResamplerTokenizer")
    model = tree.node(_inside(tree, models, "ar_image_model"), "MetaModel")
    if model.get("postprocessor") is not None:
        tree.node(model.get("postprocessor"), "Identity")
    inputs = tree.node(model.get("preprocessor"), "ARImageEmbedPreprocessor")
    trunk = tree.node(model.get("trunk"), "Transformer", "TransformerDecoder")
    head = tree.node(model.get("head"), "LinearClassifier")
    text = _text(tree, models, trunk)
    _same("vocabulary", inputs.count("codebook_size"), head.count("out_features"))
    _same("width", inputs.count("embed_dim"), trunk.count("embed_dim"), head.count("in_features"))
    return FlexARConfig(
        **_inputs(inputs),
        **_trunk(tree, trunk),
        **text,
        head_norm=head.flag("use_layernorm", False),
        head_bias=head.flag("use_bias", True),
    )


def _inside(tree: Tree, value: Any, *keys: str) -> Any:
    for key in keys:
        value = tree.value(value)
        if not isinstance(value, Mapping) or key not in value:
            raise ValueError(f"it has no {'.'.join(keys)}, as a config.yaml of FlexAR has")
        value = value[key]
    return value


def _same(what: str, *values: Any) -> None:
    if len(set(values)) > 1:
        raise ValueError(f"parts of the config differ in their {what}: {', '.join(map(str, values))}")


def _inputs(node: Node) -> dict[str, Any]:
    kind, grid = node.get("pos_embed_type"), node.get("token_grid_size")
    if kind is not None and kind not in _POSITIONS:
        raise ValueError(f"positions of type {kind!r} are not known; known: {', '.join(_POSITIONS)}")
    if not isinstance(grid, list) or not all(isinstance(n, int) for n in grid):
        raise ValueError(f"token_grid_size must be two numbers, got {grid!r}")
    return {
        "grid": tuple(grid),
        "vocab": node.count("codebook_size"),
        "classes": node.count("num_classes") if node.get("num_classes") is not None else 0,
        "positions": "none" if kind is None else _POSITIONS[kind],
    }


def _trunk(tree: Tree, node: Node) -> dict[str, Any]:
    width, crosses = node.count("embed_dim"), node.name == "TransformerDecoder"
    if node.get("block") is not None:
        tree.node(node.get("block"), "DecoderBlock" if crosses else "Block")
    fields = {
        "width": width,
        "depth": node.count("num_blocks"),
        "bias": node.flag("use_bias", True),
        "post_norm": node.flag("post_trunk_norm", False),
        "norm": NormConfig(eps=1e-6) if node.get("norm_layer") is None else _norm(tree, node.get("norm_layer")),
        **_attention(tree, node.get("self_attn_target" if crosses else "attn_target"), width, crosses),
        **_feed_forward(tree, node, width),
    }
    return fields | _cross(tree, node, width) if crosses else fields


def _norm(tree: Tree, value: Any) -> NormConfig:
    node = tree.node(value, "LayerNorm", "LayerNormFP32", "LPLayerNorm", "RMSNorm")
    gain, bias = ("elementwise_gain", "elementwise_bias") if node.name == "LPLayerNorm" else ("elementwise_affine", "")
    gained = node.flag(gain, True)
    return NormConfig(
        kind="rms" if node.name == "RMSNorm" else "layer",
        eps=node.number("eps", _EPS.get(node.target, 1e-5)),
        gain=gained,
        bias=node.flag(bias, True) if bias else gained and node.flag("bias", True),
    )


def _activation(tree: Tree, value: Any, default: Activation) -> Activation:
    if value is None:
        return default
    node = tree.node(value, "GELU", "SiLU", "ReLU", "QuickGELU")
    if node.name == "GELU":
        approximate = node.get("approximate", "none")
        if approximate not in ("none", "tanh"):
            raise ValueError(f"torch.nn.GELU with approximate = {approximate!r} is not supported, only none or tanh")
        return "gelu-tanh" if approximate == "tanh" else "gelu"
    names: dict[str, Activation] = {"SiLU": "silu", "ReLU": "relu", "QuickGELU": "quick-gelu"}
    return names[node.name]


def _attention(tree: Tree, value: Any, width: int, crosses: bool) -> dict[str, Any]:
    """The self-attention. Given a mask for the text, two of their classes would apply it to image tokens, or stop."""
    without_mask = () if crosses else ("GenericAttention", "DCLMAttention")
    node = tree.node(value, "EfficientAttention", "HFAttention", *without_mask)
    _same("width", node.count("dim"), width)
    if not node.flag("is_causal", False):
        raise ValueError(f"{node.target} without is_causal is not supported: FlexAR predicts one token after the other")
    fused = node.name in ("EfficientAttention", "DCLMAttention")
    heads = node.count("num_heads", 8)
    head = node.count("head_dim", width // heads)
    kv = next((node.count(n) for n in ("num_kv_heads", "num_key_value_heads") if node.get(n) is not None), heads)
    scaled = node.name == "EfficientAttention" and node.get("qk_scale") is not None  # the others do not use theirs
    rope = node.get("rope", node.get("rope_pos_embed"))
    return {
        "heads": heads,
        "head_width": None if head * heads == width else head,
        "kv_heads": None if kv == heads else kv,
        "fused_qkv": fused,
        "qkv_bias": node.flag("qkv_bias", False),
        "qk_norm": None if node.get("qk_norm") is None else _norm(tree, node.get("qk_norm")),
        "qk_norm_whole": node.name == "DCLMAttention",
        "attention_scale": node.number("qk_scale") if scaled else None,
        "rotary": None if rope is None else _rotary(tree, rope, head),
    }


def _rotary(tree: Tree, value: Any, head: int) -> float:
    node = tree.node(value, "RoPE")
    if node.get("head_dim") is None:
        _same("head width", node.count("embed_dim") // node.count("num_heads"), head)
    else:
        _same("head width", node.count("head_dim"), head)
    return node.number("theta", 10000.0)


def _cross(tree: Tree, trunk: Node, width: int) -> dict[str, Any]:
    node = tree.node(trunk.get("cross_attn_target"), "GeneralizedAttentionWithMask")
    _same("width", node.count("dim"), node.count("encoder_dim"), width)
    if node.flag("is_causal", False):
        raise ValueError(f"{node.target} with is_causal is not supported: every image token sees the whole text")
    return {
        "cross_heads": node.count("num_heads", 8),
        "cross_qkv_bias": node.flag("qkv_bias", False),
        "cross_qk_norm": None if node.get("qk_norm") is None else _norm(tree, node.get("qk_norm")),
    }


def _feed_forward(tree: Tree, trunk: Node, width: int) -> dict[str, Any]:
    node = Node("MLP", {}) if trunk.get("ffn_target") is None else tree.node(trunk.get("ffn_target"))
    hidden = trunk.get("mlp_hidden_dim")
    hidden = int(trunk.number("mlp_ratio", 4) * width) if hidden is None else trunk.count("mlp_hidden_dim")
    activation = _activation(tree, trunk.get("act_layer"), "gelu")
    if trunk.name == "TransformerDecoder":  # kept: their class takes act_layer and does not pass it on
        activation = "gelu"
    fixed: dict[str, Activation] = {"SwiGLUFFN": "silu", "GeGELU": "gelu"}
    if node.name not in ("MLP", "GatedFFN", *fixed):
        raise ValueError(f"{node.target} stands where only a feed-forward layer is supported")
    if node.name != "MLP":
        hidden = gated_width(hidden, node.count("multiple_of", 256))
    return {"hidden": hidden, "gated": node.name != "MLP", "activation": fixed.get(node.name, activation)}


def _text(tree: Tree, models: Mapping[str, Any], trunk: Node) -> dict[str, Any]:
    """The text MLP; how text and trunk are wired is checked, because padding must be masked."""
    if ("text_encoder" in models) != (trunk.name == "TransformerDecoder"):
        raise ValueError("a text encoder and a trunk with cross-attention go together: it has only one of them")
    if "text_encoder" not in models:
        return {}
    encoder = tree.node(models["text_encoder"], "T5EmbedderWithMLP")
    t5, mlp = tree.node(encoder.get("t5_embedder"), "T5Embedder"), tree.node(encoder.get("mlp"), "TextToEmbedMLP")
    _same("text features", t5.get("text_embeddings_write_key"), trunk.get("encoder_output_key"))
    _same("text mask", t5.get("text_embeddings_mask_write_key"), trunk.get("self_attn_mask_read_key"))
    _same("width", mlp.count("embed_dim"), trunk.count("embed_dim"))
    return {
        "text_features": mlp.count("text_dim"),
        "text_activation": _activation(tree, mlp.get("act_layer"), "gelu-tanh"),
        "text_bias": mlp.flag("use_bias", False),
    }
