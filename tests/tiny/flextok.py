"""FlexTok at tiny size."""

import torch
from torch import Tensor, nn

from smalti.nn.kl_autoencoder import KLAutoencoderConfig
from smalti.tokenizers.flextok.config import FlexTokConfig, FlexTokDecode, StackConfig
from smalti.tokenizers.flextok.model import FlexTokTokenizer
from smalti.tokenizers.flextok.objective import FlexTokObjective, FlexTokObjectiveConfig

VAE = KLAutoencoderConfig(latent_channels=4, channels=(8, 16), res_blocks=1, norm_groups=4)


def tiny_flextok(**changes: object) -> FlexTokTokenizer:
    """16 px, 6 tokens of 120 codes, 3 steps with guidance."""
    torch.manual_seed(1)
    config = FlexTokConfig(
        **{
            "image_size": 16,
            "vae": VAE,
            "encoder": StackConfig(width=32, depth=2, head_width=16, position_side=4),
            "decoder": StackConfig(width=32, depth=2, head_width=16, position_side=4),
            "registers": 6,
            "levels": (8, 5, 3),
            "frequencies": 32,
            "decode": FlexTokDecode(steps=3, guidance_scale=2.0),
            **changes,
        }  # type: ignore[arg-type]
    )
    model = FlexTokTokenizer(config).eval()
    for name, p in model.named_parameters():
        if not name.startswith("vae."):
            nn.init.normal_(p, std=0.3)
    return model


def tiny_small_flextok() -> FlexTokTokenizer:
    """With everything that a small model of ours may have: shared modulation, running scale, regression."""
    return tiny_flextok(
        vae=KLAutoencoderConfig(**{**vars(VAE), "running_scale": True}),
        spatial_registers=True,
        shared_modulation=True,
        initial_gate=0.3,
        decode=FlexTokDecode(steps=1, noise=0.0, guidance_scale=1.0),
    )


class Colors(nn.Module):
    """Stands for a feature network: seven numbers per patch of 4 pixels."""

    width = 7

    def forward(self, images_B3HW: Tensor) -> Tensor:
        patches = nn.functional.pixel_unshuffle(images_B3HW, 4).flatten(2).transpose(1, 2)
        return patches[..., :7] - 0.5


def flow_objective(model: FlexTokTokenizer) -> FlexTokObjective:
    """The paper's: flow and nested dropout."""
    return FlexTokObjective(model, FlexTokObjectiveConfig(unconditional=0.4))


def small_objective(model: FlexTokTokenizer) -> FlexTokObjective:
    """Everything at once: flow, regression, pixels through the frozen autoencoder, alignment."""
    model.vae.requires_grad_(False)
    config = FlexTokObjectiveConfig(
        l1=1.0, unconditional=0.4, regression=0.4, unrounded=0.5, alignment=0.5, alignment_block=0
    )
    return FlexTokObjective(model, config, features=Colors())


TOKENIZERS = {"flextok": tiny_flextok, "flextok small": tiny_small_flextok}
OBJECTIVES = {"flextok": flow_objective, "flextok small": small_objective}
UNUSED = {"flextok": (r"vae\..*",)}  # trained before, and frozen when tokens are learned
KEY_LISTS = {
    f"flextok/{variant}": f"flextok_{variant.replace('-', '_')}"
    for variant in ("d12-d12-in1k", "d18-d18-in1k", "d18-d28-in1k", "d18-d28-dfn")
}
