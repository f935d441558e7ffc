"""Configs as the authors write them for FlexAR, of tiny models: class- and text-conditioned."""

import copy
from collections.abc import Mapping
from typing import Any

LAYERS, AR = "l3m.model.layers", "flextok_ar.model"
WIDTH, TOKENS, VOCAB, CLASSES, TEXT = 32, 6, 120, 5, 12


def part(target: str, **arguments: Any) -> dict[str, Any]:
    """A node that is called later, for every block anew."""
    return {"_target_": target, "_partial_": True, **arguments}


def attention(kind: str = "EfficientAttention", **arguments: Any) -> dict[str, Any]:
    """A causal self-attention with 4 heads."""
    return part(f"{LAYERS}.attention.{kind}", dim="${constants.width}", num_heads=4, is_causal=True, **arguments)


def cross(**arguments: Any) -> dict[str, Any]:
    """A cross-attention with 4 heads."""
    target, width = f"{AR}.attention.GeneralizedAttentionWithMask", "${constants.width}"
    return part(target, dim=width, encoder_dim=width, num_heads=4, **arguments)


def norm(kind: str, **arguments: Any) -> dict[str, Any]:
    """A normalization."""
    target = (
        f"{LAYERS}.normalization.{kind}" if kind in ("RMSNorm", "LayerNormFP32", "LPLayerNorm") else f"torch.nn.{kind}"
    )
    return part(target, **arguments)


def _models() -> dict[str, Any]:
    width = "${constants.width}"
    return {
        "image_tokenizer": {
            "_target_": f"{AR}.integration.ImageResamplerTokenizer",
            "model_id": "EPFL-VILAB/flextok_d18_d28_dfn",
            "read_key": "image",
            "write_key": "image_token_ids",
        },
        "ar_image_model": {
            "_target_": "l3m.model.meta_models.MetaModel",
            "preprocessor": {
                "_target_": f"{AR}.preprocessors.ARImageEmbedPreprocessor",
                "token_grid_size": [TOKENS, 1],
                "codebook_size": VOCAB,
                "embed_dim": width,
                "pos_embed_type": "absolute",
                "cond_dropout_prob": 0.1,
            },
            "trunk": {
                "embed_dim": width,
                "num_blocks": 2,
                "use_bias": False,
                "post_trunk_norm": True,
                "read_key": "input_embeddings",
                "write_key": "features",
            },
            "postprocessor": {"_target_": "torch.nn.Identity"},
            "head": {
                "_target_": "l3m.model.heads.classifier.LinearClassifier",
                "in_features": width,
                "out_features": VOCAB,
                "use_bias": False,
                "read_key": "features",
                "write_key": "logits",
            },
        },
    }


def authors_config(*, text: bool = False, **changes: Mapping[str, Any]) -> dict[str, Any]:
    """A whole config.yaml; `changes` are arguments of the parts: trunk, head, preprocessor, mlp, t5."""
    models = _models()
    model = models["ar_image_model"]
    if text:
        model["trunk"] |= {
            "_target_": "l3m.model.trunks.transformer_decoder.TransformerDecoder",
            "self_attn_target": attention(),
            "cross_attn_target": cross(),
            "encoder_output_key": "text_embeddings",
            "self_attn_mask_read_key": "text_mask",
        }
        embedder = {
            "hf_hub_path": "google/flan-t5-xl",
            "decoder_seqlen": TOKENS,
            "cond_dropout_p": 0.1,
            "read_key": "text",
        }
        written = {"text_embeddings_write_key": "text_embeddings", "text_embeddings_mask_write_key": "text_mask"}
        t5 = {"_target_": f"{AR}.text_encoder.T5Embedder", **embedder, **written, **changes.get("t5", {})}
        mlp = {"_target_": f"{AR}.text_encoder.TextToEmbedMLP", "text_dim": TEXT, "embed_dim": "${constants.width}"}
        mlp |= {"act_layer": part("torch.nn.GELU", approximate="tanh"), **changes.get("mlp", {})}
        target = f"{AR}.text_encoder.T5EmbedderWithMLP"
        models = {"text_encoder": {"_target_": target, "t5_embedder": t5, "mlp": mlp}, **models}
    else:
        model["preprocessor"]["num_classes"] = CLASSES
        model["trunk"] |= {"_target_": "l3m.model.trunks.transformer.Transformer", "attn_target": attention()}
    for name in ("trunk", "head", "preprocessor"):
        model[name] |= changes.get(name, {})
    series = {"_target_": "l3m.model.meta_models.InSeriesMetaModels", "models": models}
    config = {"constants": {"width": WIDTH}, "model": {"meta_model": series}, "generation": {"cfg_factor": 1.5}}
    return copy.deepcopy(config)
