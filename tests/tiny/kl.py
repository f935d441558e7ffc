"""Continuous autoencoders at tiny size."""

import torch
from torch import nn

from smalti.nn.dc_autoencoder import DCAutoencoderConfig
from smalti.nn.kl_autoencoder import KLAutoencoderConfig
from smalti.tokenizers.kl.config import KLTokenizerConfig
from smalti.tokenizers.kl.model import KLTokenizer
from smalti.tokenizers.kl.objective import KLObjective, KLObjectiveConfig

KL = KLAutoencoderConfig(
    latent_channels=4, channels=(8, 16), res_blocks=1, norm_groups=4, scaling_factor=1.5, shift_factor=0.06
)
DC = DCAutoencoderConfig(
    latent_channels=8,
    channels=(8, 16, 32),
    encoder_blocks=(0, 1, 1),
    decoder_blocks=(0, 1, 1),
    attention_levels=1,
    head_width=8,
    batch_norm_levels=2,
    scaling_factor=0.3,
)
SANA = DCAutoencoderConfig(
    **{
        **vars(DC),
        "encoder_blocks": (1, 1, 1),
        "decoder_blocks": (1, 1, 1),
        "attention_kernel": 5,
        "batch_norm_levels": 0,
        "shuffle": False,
    }
)


def tiny_kl(autoencoder: KLAutoencoderConfig | DCAutoencoderConfig = KL) -> KLTokenizer:
    """16 px in cells of 2 (KL) or 4 (DC) pixels."""
    torch.manual_seed(1)
    model = KLTokenizer(KLTokenizerConfig(autoencoder=autoencoder, image_size=16)).eval()
    for name, p in model.named_parameters():
        if p.ndim == 1:  # norms and biases that are not all ones and zeros
            nn.init.normal_(p, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    return model


def tiny_kl_objective(model: KLTokenizer) -> KLObjective:
    """Reconstruction and divergence."""
    return KLObjective(model, KLObjectiveConfig(kl=0.1))


TOKENIZERS = {
    "kl": tiny_kl,
    "kl without quant": lambda: tiny_kl(KLAutoencoderConfig(**{**vars(KL), "quant_conv": False, "attention": False})),
    "kl dc-ae": lambda: tiny_kl(DC),
    "kl dc-ae sana": lambda: tiny_kl(SANA),
}
OBJECTIVES = {name: tiny_kl_objective for name in TOKENIZERS}
KEY_LISTS = {f"kl/flextok-vae-c{n}": f"flextok_vae_c{n}" for n in (4, 8, 16)}
