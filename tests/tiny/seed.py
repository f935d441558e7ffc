"""SEED's tokenizer at tiny size, with a tiny random unCLIP pipeline in a temporary folder."""

import tempfile
from functools import cache
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_unclip_img2img import StableUnCLIPImg2ImgPipeline
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from smalti.tokenizers.seed.config import SEEDTokenizerConfig
from smalti.tokenizers.seed.model import SEEDTokenizer
from smalti.tokenizers.seed.objective import SEEDTokenizerObjective, SEEDTokenizerObjectiveConfig

EMBEDDING = 20
SIDE = 16


def tiny_unclip() -> StableUnCLIPImg2ImgPipeline:
    """A random pipeline with all parts of the published one; images of 16 px."""
    torch.manual_seed(3)
    towers: Any = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>"]
    text = CLIPTextConfig(**towers, vocab_size=len(words), max_position_embeddings=6, bos_token_id=0, eos_token_id=1)
    vision = CLIPVisionConfig(**towers, projection_dim=EMBEDDING, image_size=SIDE, patch_size=8)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=12,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * EMBEDDING,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=EMBEDDING)
    nn.init.normal_(normalizer.mean)
    nn.init.uniform_(normalizer.std, 0.5, 1.5)
    for part in (unet, vae):
        for parameter in part.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.2)
    return StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(crop_size=SIDE, size=SIDE),
        image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        image_normalizer=normalizer.eval(),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),  # type: ignore[arg-type]
        tokenizer=CLIPTokenizer({word: i for i, word in enumerate(words)}, [], model_max_length=6),
        text_encoder=CLIPTextModel(text).eval(),
        unet=unet.eval(),
        scheduler=DDIMScheduler(  # type: ignore[arg-type]
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        vae=vae.eval(),
    )


@cache
def tiny_pixels() -> str:
    """A folder like the published pipeline."""
    folder = tempfile.mkdtemp(prefix="seed-")
    tiny_unclip().save_pretrained(folder)
    return folder


def tiny_seed(**changes: Any) -> SEEDTokenizer:
    """16 px in 16 patches, 8 tokens of 32 codes."""
    settings: dict[str, Any] = {
        "image_size": SIDE,
        "patch": 4,
        "vit_width": 32,
        "vit_depth": 2,
        "vit_heads": 4,
        "queries": 8,
        "width": 24,
        "depth": 2,
        "heads": 4,
        "mlp_width": 48,
        "dropout": 0.0,
        "code_channels": 8,
        "vocab": 32,
        "decoder_depth": 1,
        "decoder_heads": 4,
        "projection": (16, 8),
        "reverse_depth": 2,
        "embedding_channels": EMBEDDING,
        "pixels": tiny_pixels(),
    }
    torch.manual_seed(1)
    model = SEEDTokenizer(SEEDTokenizerConfig(**{**settings, **changes})).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter, std=1.0 if name == "codebook" else 0.3)
    return model


def tiny_seed_objective(model: SEEDTokenizer) -> SEEDTokenizerObjective:
    """All terms; the target is the tiny pipeline's CLIP."""
    return SEEDTokenizerObjective(model, SEEDTokenizerObjectiveConfig())


TOKENIZERS = {"seed": tiny_seed, "seed reverse": lambda: tiny_seed(head="qformer")}
OBJECTIVES = {"seed": tiny_seed_objective, "seed reverse": tiny_seed_objective}
UNUSED = {"seed reverse": (r"head\.qformer\.layers\.\d+\.attention\.(query|key)\..*",)}
"""The reverse Q-Former has one query, which can only look at itself."""
KEY_LISTS = {
    "seed/tokenizer-2": "seed_quantizer",
    "seed/tokenizer-2-reverse": "seed_quantizer_reverse_qformer_variant",
}
