"""TiTok in its three kinds, TA-TiTok, and the masked generators, at tiny size."""

import torch

from smalti.generators.titok.config import PUBLISHED, TiTokGeneratorConfig
from smalti.generators.titok.model import TiTokGenerator
from smalti.generators.titok.objective import TiTokGeneratorObjective
from smalti.tokenizers.titok.config import TiTokConfig, ViTSize
from smalti.tokenizers.titok.model import TiTok
from smalti.tokenizers.titok.objective import TiTokObjective, TiTokObjectiveConfig
from tests.tiny.generators import Generators

SIZE = ViTSize(width=32, depth=2, heads=2)
KINDS: dict[str, dict[str, object]] = {
    "titok legacy": {"vocab": 64, "latent_channels": 6, "legacy": True},
    "titok": {"vocab": 64, "latent_channels": 8, "normalize": False},
    "titok kl": {"vocab": None, "latent_channels": 4, "normalize": False},
    "titok text": {"vocab": 64, "latent_channels": 8, "normalize": False, "text_tokens": 5, "text_width": 12},
}


def tiny_titok(kind: str = "titok", **changes: object) -> TiTok:
    """16 px, 6 tokens; transformers of two blocks."""
    torch.manual_seed(1)
    pixels = {"pixel_vocab": 16, "pixel_features": 8, "pixel_channels": 32, "pixel_multipliers": (1, 1, 1)}
    sizes = {"image_size": 16, "tokens": 6, "encoder": SIZE, "decoder": SIZE, "encoder_patch": 4, "decoder_patch": 4}
    settings = {**sizes, "legacy": False, **pixels, "pixel_res_blocks": 1, **KINDS[kind]}
    model = TiTok(TiTokConfig(**{**settings, **changes})).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        if weight.ndim > 1:  # wider than torch's choice, so that images differ in tokens
            torch.nn.init.normal_(weight, std=2 * weight[0].numel() ** -0.5)
    if model.config.vocab is not None:
        torch.nn.init.normal_(model.quantizer.codebook)
    if model.config.legacy:
        torch.nn.init.normal_(model.pixel_codebook)
    return model


def tiny_titok_objective(model: TiTok) -> TiTokObjective:
    """Reconstruction and bottleneck; the weight of the divergence is high enough to be seen."""
    return TiTokObjective(model, TiTokObjectiveConfig(kl=0.01))


def tiny_titok_generator(**changes: object) -> TiTokGenerator:
    """6 tokens in 4 steps, 5 classes; 2 blocks of width 32."""
    torch.manual_seed(2)
    sizes = {"depth": 2, "width": 32, "heads": 2, "hidden": 64, "tokens": 6, "vocab": 64, "classes": 5, "steps": 4}
    model = TiTokGenerator(TiTokGeneratorConfig(**{**sizes, **changes})).eval()  # type: ignore[arg-type]
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def _generators(**changes: object) -> Generators:
    return Generators(
        tokenizer=tiny_titok(),
        first=tiny_titok_generator(**changes),
        second=tiny_titok_generator(width=24, heads=3, **changes),
        objective=TiTokGeneratorObjective,  # type: ignore[arg-type]
    )


GENERATORS = {"titok vit": _generators, "titok uvit": lambda: _generators(kind="uvit")}
TOKENIZERS = {kind: lambda kind=kind: tiny_titok(kind) for kind in KINDS}
OBJECTIVES = dict.fromkeys(KINDS, tiny_titok_objective)
UNUSED = {"titok text": (r"decoder\.text_.*",)}  # read only when a batch brings text
NAMES = {"vit": "ViT", "uvit": "UViT"}
KEY_LISTS = {
    **{f"titok/generator-{name}": f"generator_titok_{name}_{NAMES[config.kind]}" for name, config in PUBLISHED.items()},
    **{
        f"titok/{name}": f"tokenizer_titok_{name.replace('-', '_')}"
        for name in ("l32", "b64", "s128", "bl64-vq8k", "bl128-vq8k", "sl256-vq8k")
    },
    **{
        f"titok/{name}": f"tokenizer_titok_{name.replace('-', '_')}"
        for name in ("ll32-vae-c16", "bl64-vae-c16", "bl128-vae-c16")
    },
    **{
        f"titok/ta-{name}": f"tokenizer_tatitok_{name.replace('-', '_')}"
        for name in ("bl32-vq", "bl64-vq", "bl128-vq", "bl32-vae", "bl64-vae", "sl128-vae")
    },
}
