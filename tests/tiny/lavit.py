"""LaVIT at tiny size, with tiny random diffusion models in a temporary folder."""

import tempfile
from functools import cache
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from smalti.tokenizers.lavit.config import LaVITConfig
from smalti.tokenizers.lavit.model import LaVITTokenizer
from smalti.tokenizers.lavit.objective import LaVITObjective, LaVITObjectiveConfig

CONTEXTS = {"lowres": (12,), "highres": (12, 20)}
POOLED = {"lowres": None, "highres": 20}
EMPTY = 5
"""Tokens of the empty prompt; a context has 16."""


def tiny_unet(variant: str) -> UNet2DConditionModel:
    """Two levels of width 8 and 16, conditioned as SD-1.5's or SDXL's."""
    xl = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": (POOLED["highres"] or 0) + 6 * 4,
    }
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=sum(CONTEXTS[variant]),
        **(xl if variant == "highres" else {}),
    )


def tiny_vae() -> AutoencoderKL:
    """Two pixels per latent cell."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )


@cache
def tiny_pixels(variant: str) -> str:
    """A folder like the published ones."""
    torch.manual_seed(3)
    folder = Path(tempfile.mkdtemp(prefix="lavit-"))
    tiny_unet(variant).save_pretrained(folder / "unet", safe_serialization=False)
    tiny_vae().save_pretrained(folder / "vae")
    DDIMScheduler(
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    if variant == "lowres":
        torch.save(torch.randn(1, EMPTY, sum(CONTEXTS[variant])), folder / "uncond_embeddings.bin")
    return str(folder)


def tiny_lavit(variant: str = "highres", **changes: object) -> LaVITTokenizer:
    """16 px in 16 patches, 64 codes; decodes to 16 px."""
    settings: dict = {
        "image_size": 16,
        "patch": 4,
        "width": 32,
        "vit_depth": 2,
        "vit_heads": 4,
        "depth": 2,
        "heads": 4,
        "vocab": 64,
        "code_width": 8,
        "decoder_width": 32,
        "decoder_depth": 2,
        "decoder_heads": 4,
        "feature_width": 32,
        "contexts": CONTEXTS[variant],
        "pooled": POOLED[variant],
        "pixels": tiny_pixels(variant),
        "output_size": 16,
    }
    torch.manual_seed(1)
    model = LaVITTokenizer(LaVITConfig(**{**settings, **changes})).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name and name != "codebook":
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def images(count: int, side: int = 16, seed: int = 5) -> Tensor:
    """Random images."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def tiny_lavit_objective(model: LaVITTokenizer) -> LaVITObjective:
    """Equation 4 through the codes."""
    return LaVITObjective(model, LaVITObjectiveConfig())


TOKENIZERS = {"lavit": tiny_lavit, "lavit lowres": lambda: tiny_lavit("lowres")}
OBJECTIVES = {"lavit": tiny_lavit_objective, "lavit lowres": tiny_lavit_objective}
UNUSED = {name: (r"decoder\.(to_context|pool)\..*",) for name in OBJECTIVES}
"""Trained with the pixel decoder (LaVITPixelObjective, in tests/tokenizers/test_lavit.py)."""
KEY_LISTS = {
    "lavit/lowres": (
        "lavit_tokenizer_encoder",
        "lavit_eva_vitg_psz14",
        "lavit_tokenizer_decoder",
    ),
    "lavit/highres": (
        "lavit_tokenizer_encoder",
        "lavit_eva_vitg_psz14",
        "lavit_highres_tokenizer_decoder",
    ),
}
