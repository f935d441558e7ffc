"""The authors' config of a FlexTok file, read as data: nothing in it is imported or called.

Their config.json is a tree of Hydra nodes: `_target_` names a class, the other entries are its arguments. The header of
model.safetensors repeats it, one text per top-level key. Known targets and arguments are turned into our config;
everything else is an error, because it may change the numbers.
"""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from smalti.nn.kl_autoencoder import KLAutoencoderConfig, from_diffusers
from smalti.tokenizers.flextok.config import FlexTokConfig, Positions, StackConfig

ALLOWED = {
    "flextok.flextok_wrapper.FlexTok": "vae encoder decoder regularizer flow_matching_noise_module pipeline",
    "flextok.flextok_wrapper.FlexTokFromHub": "config",
    "flextok.vae_wrapper.StableDiffusionVAE": (
        "latent_channels scaling_factor hf_hub_path sample_posterior learnable_logvar logvar_init compile_encode_fn "
        "force_vae_encode frozen dtype_override"
    ),
    "flextok.model.utils.wrappers.SequentialModuleDictWrapper": "module_dict",
    "flextok.model.utils.dict_ops.PerSampleOp": "per_sample_op",
    "flextok.model.utils.dict_ops.channels_first_to_last": "",
    "flextok.model.utils.dict_ops.channels_last_to_first": "",
    "flextok.model.utils.posembs.PositionalEmbeddingAdder": "dim max_sizes posemb_type posemb_scaling",
    "flextok.model.preprocessors.patching.PatchEmbedder": "dim channels_in patch_sizes flatten_patches",
    "flextok.model.preprocessors.registers.Registers1D": (
        "dim n_min n_max n_eval=null size_sampling_mode ordering_mode extra_registers_dim=null"
    ),
    "flextok.model.preprocessors.linear.LinearLayer": "dim dim_in dtype_override proj_bias=true",
    "flextok.model.preprocessors.token_dropout.MaskedNestedDropout": "dim size_sampling_mode",
    "flextok.model.preprocessors.nullcond.LearnedNullCond": "dim dropout_prob",
    "flextok.model.preprocessors.time_embedding.TimestepEmbedder": (
        "dim frequency_embedding_size max_timestep temb_as_tokens=false"
    ),
    "flextok.model.preprocessors.flex_seq_packing.BlockWiseSequencePacker": (
        "mask_mode per_subseq_embs max_seq_len pad_to_multiple compile_block_mask return_materialized_mask"
    ),
    "flextok.model.postprocessors.seq_unpacking.SequenceUnpacker": "",
    "flextok.model.postprocessors.heads.LinearHead": (
        "dim dim_out use_mup_readout=false norm_layer adaLN_bias=true proj_bias=true dtype_override"
    ),
    "flextok.model.postprocessors.heads.ToPatchesLinearHead": (
        "dim channels_out patch_sizes use_mup_readout=false norm_layer adaLN_bias=true proj_bias=true dtype_override"
    ),
    "flextok.model.trunks.transformers.FlexTransformer": (
        "dim depth head_dim mlp_ratio qkv_bias proj_bias mlp_bias gated_mlp qk_norm act_layer norm_layer "
        "adaLN_expansion drop drop_path_rate use_act_checkpoint zero_init_query_proj intermediate_layers"
    ),
    "flextok.model.layers.norm.Fp32LayerNorm": "bias=false elementwise_affine=false eps=1e-05",
    "flextok.regularizers.quantize_fsq.FSQ": (
        "levels drop_quant_p corrupt_tokens_p min_corrupt_tokens_p apply_corrupt_tokens_p packed_call"
    ),
    "flextok.flow_matching.noise_modules.MinRFNoiseModule": "ln stratisfied mode_scale",
    "flextok.flow_matching.pipelines.MinRFPipeline": "out_channels",
    "torch.nn.SiLU": "inplace",
    "torch.nn.modules.activation.SiLU": "inplace",
}
"""Target -> the arguments it may have, some with the one value they must have."""

_LAYERS = {
    "norm_layer": ("flextok.model.layers.norm.Fp32LayerNorm",),
    "act_layer": ("torch.nn.SiLU", "torch.nn.modules.activation.SiLU"),
}
_PARTS = ("vae", "encoder", "decoder", "regularizer")  # the others sample and train: their settings are ours to choose
_LONGEST = 100_000  # characters of a config
_POSITIONS: dict[str, Positions] = {"sincos": "sincos", "learnable_sum": "sum", "learnable_prod": "product"}


def read_file(path: Path) -> FlexTokConfig | None:
    """The config in a file's header, or in the config.json beside it; None if there is neither.

    Errors: ValueError naming the file for a config that is damaged or not FlexTok's.
    """
    texts: Mapping[str, str] = {}
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
    try:
        if set(texts) >= set(_PARTS):
            return read_config({key: _literal(texts[key]) for key in _PARTS})
        beside = path.with_name("config.json")
        if beside.is_file() and beside.stat().st_size < _LONGEST:
            data = json.loads(beside.read_text(encoding="utf-8"))
            data = data.get("config", data) if isinstance(data, dict) else {}
            if isinstance(data, dict) and set(data) >= set(_PARTS):
                return read_config(data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"the config of {path} cannot be used: {reason}") from error
    return None


def _literal(text: str) -> Any:
    """A Python literal: plain data, no code."""
    if len(text) > _LONGEST:
        raise ValueError(f"a header entry has {len(text)} characters, more than any config")
    try:
        return ast.literal_eval(text)
    except (SyntaxError, MemoryError) as error:
        raise ValueError(f"a header entry is no plain data: {text[:40]!r}...") from error


def read_config(
    data: Mapping[str, Any], *, image_size: int | None = None, vae: Mapping[str, Any] | None = None
) -> FlexTokConfig:
    """Our config from the authors' nodes; `vae` is the diffusers config of the autoencoder, if it is a file of its own.

    `image_size`: pixels; None = what the position tables cover. Errors: ValueError for an unknown target or argument.
    """
    check({key: data[key] for key in _PARTS})
    enc, dec = data["encoder"]["module_dict"], data["decoder"]["module_dict"]
    _expect(enc["enc_seq_packer"].get("mask_mode"), "causal_last", "the encoder's mask")
    _expect(dec["dec_seq_packer"].get("mask_mode", "full"), "full", "the decoder's mask")
    parts = dec["dec_transformer"].get("adaLN_expansion", 1)
    _expect(parts, 2 if dec["dec_seq_packer"].get("per_subseq_embs") else 1, "adaLN_expansion")
    registers = enc["enc_register_module"]["n_max"]
    _expect(dec["dec_registers_posemb_module"]["max_sizes"], [registers], "the decoder's register positions")
    time, autoencoder = dec["dec_time_embedder"], _autoencoder(data["vae"], vae)
    encoder = _stack(enc["enc_transformer"], enc["enc_patch_emb"], enc["enc_posemb_module"])
    decoder = _stack(dec["dec_transformer"], dec["dec_noise_patch_emb"], dec["dec_patches_posemb_module"])
    covered = min(s.position_side * s.patch for s in (encoder, decoder)) * autoencoder.stride
    return FlexTokConfig(
        image_size=image_size or covered,
        vae=autoencoder,
        encoder=encoder,
        decoder=decoder,
        registers=registers,
        levels=data["regularizer"]["levels"],
        frequencies=time.get("frequency_embedding_size", 256),
        time_scale=1000.0 / time.get("max_timestep", 1000.0),
        modulated_parts=parts,
    )


def check(node: Any) -> None:
    """ValueError for a target that is not on the list, or an argument that could change a number unseen."""
    if isinstance(node, (list, tuple)):
        for value in node:
            check(value)
    if not isinstance(node, Mapping):
        return
    if (target := node.get("_target_")) is not None:
        if target not in ALLOWED:
            raise ValueError(f"the config names {target!r}, which is no part of FlexTok known here")
        known = {name: value for name, _, value in (argument.partition("=") for argument in ALLOWED[target].split())}
        for key, value in node.items():
            if key in ("_target_", "_partial_", "weight_init_style") or key.endswith(("_key", "_keys")):
                continue
            if key not in known:
                raise ValueError(f"{target} has an argument {key!r} that is not known here; known: {', '.join(known)}")
            if key in _LAYERS and not (isinstance(value, Mapping) and value.get("_target_") in _LAYERS[key]):
                raise ValueError(f"{target} with {key} = {value!r} is not supported, only {_LAYERS[key][0]}")
            if known[key] and value != json.loads(known[key]):
                raise ValueError(f"{target} with {key} = {value!r} is not supported, only {known[key]}")
    for value in node.values():
        check(value)


def _expect(value: Any, allowed: Any, name: str) -> None:
    if value != allowed:
        raise ValueError(f"{name} is {value!r}; only {allowed!r} is supported")


def _autoencoder(node: Mapping[str, Any], diffusers: Mapping[str, Any] | None) -> KLAutoencoderConfig:
    published = {"latent_channels": node.get("latent_channels", 16), "scaling_factor": None}
    config = from_diffusers({**published, **(diffusers or {})})
    factor = node.get("scaling_factor") or config.scaling_factor
    return KLAutoencoderConfig(**{**vars(config), "scaling_factor": factor})


def _stack(transformer: Mapping[str, Any], patches: Mapping[str, Any], positions: Mapping[str, Any]) -> StackConfig:
    side, patch = set(positions["max_sizes"]), set(patches["patch_sizes"])
    if len(side) != 1 or len(patch) != 1:
        raise ValueError(f"only square grids and patches are supported, got {positions['max_sizes']} of {patch}")
    kind, scaling = positions.get("posemb_type", "sincos"), positions.get("posemb_scaling", "absolute")
    if kind not in _POSITIONS or scaling not in ("absolute", "interpolate"):
        raise ValueError(f"positions of type {kind!r}, scaled by {scaling!r}, are not known")
    ours = {"head_width": "head_dim", "normalize_qk": "qk_norm"}
    same = ("mlp_ratio", "gated_mlp", "qkv_bias", "proj_bias", "mlp_bias")
    given = {name: transformer[ours.get(name, name)] for name in (*ours, *same) if ours.get(name, name) in transformer}
    return StackConfig(
        width=transformer.get("dim", 768),
        depth=transformer.get("depth", 12),
        patch=patch.pop(),
        positions=_POSITIONS[kind],
        position_side=side.pop(),
        resize_positions=scaling == "interpolate",
        **given,
    )
