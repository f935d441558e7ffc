"""Key map of the authors' FlexTok files (EPFL-VILAB/flextok_*: model.safetensors, a bare state dict)."""

from pathlib import Path

from torch import Tensor

from smalti.nn import kl_autoencoder
from smalti.tokenizers.flextok.config import FlexTokConfig
from smalti.tokenizers.flextok.config_reader import read_file

_BLOCK = {
    "attn.wq": "attention.q",
    "attn.wk": "attention.k",
    "attn.wv": "attention.v",
    "attn.proj": "attention.proj",
    "mlp.fc1": "mlp.gate",
    "mlp.fc2": "mlp.down",
    "mlp.fc3": "mlp.up",
}
_LAYERS = {
    "encoder.module_dict.enc_patch_emb.patch_proj": "encoder.patches",
    "encoder.module_dict.enc_to_latents.proj": "encoder.head",
    "decoder.module_dict.dec_from_latents.proj": "decoder.codes",
    "decoder.module_dict.dec_noise_patch_emb.patch_proj": "decoder.patches",
    "decoder.module_dict.dec_time_embedder.mlp.0": "decoder.time.up",
    "decoder.module_dict.dec_time_embedder.mlp.2": "decoder.time.down",
    "decoder.module_dict.dec_transformer.blocks.{}.adaLN_modulation.1": "decoder.modulations.{}",
    "decoder.module_dict.dec_to_patches.adaLN_modulation.1": "decoder.head_modulation",
    "decoder.module_dict.dec_to_patches.proj": "decoder.head",
    **{f"encoder.module_dict.enc_transformer.blocks.{{}}.{a}": f"encoder.blocks.{{}}.{b}" for a, b in _BLOCK.items()},
    **{f"decoder.module_dict.dec_transformer.blocks.{{}}.{a}": f"decoder.blocks.{{}}.{b}" for a, b in _BLOCK.items()},
}
_TENSORS = {
    "encoder.module_dict.enc_posemb_module.posembs": "encoder.positions.positions",
    "encoder.module_dict.enc_register_module.registers": "encoder.registers",
    "decoder.module_dict.dec_registers_posemb_module.posembs": "decoder.token_positions",
    "decoder.module_dict.dec_nested_dropout.dropout_mask_token": "decoder.dropped",
    "decoder.module_dict.dec_latent_dropout.nullcond": "decoder.null",
    "decoder.module_dict.dec_patches_posemb_module.posembs": "decoder.positions.positions",
}

ALIASES = {f"vae.vae.{old}": f"vae.vae.{new}" for old, new in kl_autoencoder.OLD_KEYS.items()}
"""Official names of the autoencoder's attention as older files have them -> those of newer ones."""


def key_map(config: FlexTokConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    return {
        **{f"vae.vae.{key}": f"vae.net.{key}" for key in kl_autoencoder.KEYS},
        "vae.logvar": None,  # weight of a training loss, in files whose autoencoder learned it
        **{f"{a}.{kind}": f"{b}.{kind}" for a, b in _LAYERS.items() for kind in ("weight", "bias")},
        **_TENSORS,
    }


def constants(config: FlexTokConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}


def config_in(path: Path, config: FlexTokConfig) -> FlexTokConfig:
    """The sizes that a published file states itself, in its header or in the config.json beside it, else `config`.

    The latents' scaling factor is known from there only.
    """
    return read_file(path) or config
