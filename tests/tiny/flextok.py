"""FlexTok at tiny size."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.flextok.config import FlexARConfig, NormConfig
from smalti.generators.flextok.model import FlexARGenerator
from smalti.generators.flextok.objective import FlexARObjective, FlexARObjectiveConfig
from smalti.nn.kl_autoencoder import KLAutoencoderConfig
from smalti.nn.mixture import MixtureConfig
from smalti.tokenizers.flextok.config import FlexTokConfig, FlexTokDecode, StackConfig
from smalti.tokenizers.flextok.model import FlexTokTokenizer
from smalti.tokenizers.flextok.objective import FlexTokObjective, FlexTokObjectiveConfig
from tests.tiny.generators import Generators, texts

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


def tiny_flexar(**changes: object) -> FlexARGenerator:
    """2 blocks of width 32 over 6 tokens of 120 codes, 5 classes."""
    settings = {"depth": 2, "width": 32, "heads": 4, "grid": (6, 1), "vocab": 120, "classes": 5}
    torch.manual_seed(2)
    model = FlexARGenerator(FlexARConfig(**{**settings, **changes})).eval()  # type: ignore[arg-type]
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model


def captions(numbers: Sequence[int]) -> Condition:
    """Conditions of random text features, with those of the empty text."""
    condition = texts(WITH_TEXT["text_features"])(numbers)  # type: ignore[arg-type]
    assert condition.text is not None
    rng = torch.Generator().manual_seed(9)
    empty, mask = torch.randn(1, *condition.text.shape[1:], generator=rng), torch.arange(condition.text.shape[1]) < 1
    return replace(condition, empty_text=empty, empty_mask=mask[None])


def flexar_objective(model: FlexARGenerator, **mixture: float) -> FlexARObjective:
    """Half of the conditions dropped."""
    config = FlexARObjectiveConfig(condition_dropout=0.5, mixture=MixtureConfig(**mixture))  # type: ignore[arg-type]
    return FlexARObjective(model, None, config)


def _generators(
    condition: Callable[[Sequence[int]], Condition], mixture: dict[str, float], **changes: object
) -> Generators:
    return Generators(
        tokenizer=tiny_flextok(),
        first=tiny_flexar(**changes),
        second=tiny_flexar(**{**changes, "depth": 1, "width": 16}),
        condition=condition,
        objective=lambda model: flexar_objective(model, **mixture),  # type: ignore[arg-type]
    )


WITH_TEXT: dict[str, object] = {"classes": 0, "text_features": 12}
RMS = NormConfig(kind="rms", eps=1e-5)
VARIANTS: dict[str, dict[str, object]] = {
    "flextok": {},
    "flextok swiglu rms": {"gated": True, "activation": "silu", "norm": RMS, "qk_norm": RMS, "positions": "sincos"},
    "flextok split rotary": {
        "fused_qkv": False,
        "kv_heads": 2,
        "bias": True,
        "qkv_bias": True,
        "qk_norm": NormConfig(),
        "qk_norm_whole": True,
        "rotary": 100.0,
        "positions": "none",
        "post_norm": False,
        "head_norm": True,
        "head_bias": True,
    },
    "flextok text": {**WITH_TEXT, "cross_heads": 2},
    "flextok text norms": {
        **WITH_TEXT,
        "cross_qk_norm": NormConfig(),
        "cross_qkv_bias": True,
        "text_bias": True,
        "fused_qkv": False,
        "attention_scale": 0.5,
        "norm": NormConfig(bias=False),
    },
}
GENERATORS: dict[str, Callable[[], Generators]] = {
    **{name: partial(_generators, captions if "text_features" in c else Condition.of_classes, {}, **c)
       for name, c in VARIANTS.items()},
    "flextok mixture": partial(_generators, Condition.of_classes, {"masked": 0.5, "next_all": 0.5}),
}  # fmt: skip
