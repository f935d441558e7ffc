"""Replays the golden cases of TiTok and TA-TiTok through the public API and the key map."""

import re

import torch
from torch import Tensor

from smalti.hub.keymap import to_official, to_ours
from smalti.tokenizers.titok.config import BASE, LARGE, SMALL, TiTokConfig, ViTSize
from smalti.tokenizers.titok.model import TextOptions, TiTok
from smalti.tokenizers.titok.objective import TiTokObjective, TiTokObjectiveConfig, kl_divergence
from smalti.tokenizers.titok.weights import key_map
from smalti.tokens import Tokens
from tests.replay.case import Case

SIZES = {"small": SMALL, "base": BASE, "large": LARGE}


def vit_size(name: str, patched: str) -> ViTSize:
    """A published size, or one that the case has patched in under a new name."""
    found = re.search(rf'size name "{name}": width (\d+), (\d+) layers, heads (\d+)', patched)
    if found is None:
        return SIZES[name]
    width, depth, heads = map(int, found.groups())
    return ViTSize(width=width, depth=depth, heads=heads)


def pixel_sizes(patched: str, weights: dict[str, Tensor]) -> dict[str, object]:
    """Sizes of the VQGAN's decoder, where there is one."""
    sizes: dict[str, object] = {}
    if found := re.search(r"hidden_channels (\d+)", patched):
        sizes["pixel_channels"] = int(found[1])
    if found := re.search(r"channel_mult \[([\d, ]+)\]", patched):
        sizes["pixel_multipliers"] = tuple(map(int, found[1].split(",")))
    if found := re.search(r"num_res_blocks (\d+)", patched):
        sizes["pixel_res_blocks"] = int(found[1])
    if "pixel_quantize.embedding.weight" in weights:
        sizes["pixel_vocab"], sizes["pixel_features"] = weights["pixel_quantize.embedding.weight"].shape
    return sizes


def tokenizer_of(case: Case) -> TiTok:
    """Our tokenizer with the case's weights."""
    args, patched = case.config["args"], "\n".join(case.config.get("patched", []))
    model = args["model"]["vq_model"]
    legacy = model.get("is_legacy", True)
    text = "TATiTok" in case.config["class_path"]
    config = TiTokConfig(
        image_size=args["dataset"]["preprocessing"]["crop_size"],
        tokens=model["num_latent_tokens"],
        vocab=None if model.get("quantize_mode", "vq") == "vae" else model["codebook_size"],
        latent_channels=model["token_size"],
        normalize=model.get("use_l2_norm", False),
        commitment=model.get("commitment_cost", 0.25),
        encoder=vit_size(model["vit_enc_model_size"], patched),
        decoder=vit_size(model["vit_dec_model_size"], patched),
        encoder_patch=model["vit_enc_patch_size"],
        decoder_patch=model["vit_dec_patch_size"],
        legacy=legacy,
        text_tokens=model.get("text_context_length", 77) if text else 0,
        text_width=model.get("text_embed_dim", 768),
        **(pixel_sizes(patched, case.weights) if legacy else {}),  # type: ignore[arg-type]
    )
    tokenizer = TiTok(config)
    state = {k: v for k, v in case.weights.items() if legacy or not k.startswith("pixel_")}
    if legacy and not any(k.startswith("pixel_") for k in state):  # a first-stage file: the VQGAN is a file of its own
        official = to_official(tokenizer.state_dict(), key_map(config))
        state |= {k: v for k, v in official.items() if k.startswith("pixel_")}
    tokenizer.load_state_dict(to_ours(state, key_map(config)))
    return tokenizer.eval()


def official_shape(z_BKC: Tensor) -> Tensor:
    """[B, K, C] as the authors store it, [B, C, 1, K]."""
    return z_BKC.transpose(1, 2)[:, :, None]


def compare_image(
    case: Case, name: str, tokenizer: TiTok, tokens: Tokens, latents: Tensor, options: TextOptions | None
) -> None:
    """The stored reconstruction, which is not clamped; of a model of the first stage it is the decoder's logits."""
    text = None if options is None else options.features
    if tokenizer.config.legacy and (text is not None or "pixel_quantize.embedding.weight" not in case.weights):
        case.close(name, tokenizer.decoder(latents, text))
        return
    case.close(name, tokenizer.decode_latents(latents, text))
    case.close_clamped(name, tokenizer.decode(tokens, options=options))


@torch.no_grad()
def replay_titok(case: Case) -> None:
    """Features, ids or posterior, codes, what the decoder predicts, images, and the bottleneck's losses."""
    tokenizer = tokenizer_of(case)
    images = case.input("image")
    text = case.input("text_guidance") if "text_guidance" in case.io else None
    options = None if text is None else TextOptions(features=text)
    case.close("enc_out", official_shape(tokenizer.features(images)))
    tokens = tokenizer.encode(images)
    if tokens.ids is None:
        replay_latents(case, tokenizer, images, tokens, options)
        return
    case.equal("ids", tokens.ids[:, None])
    codes = tokenizer.quantizer.codes_of(tokens.ids)
    case.close("quantised", official_shape(codes))
    case.close("decoder_logits_or_image", tokenizer.decoder(codes, text))
    compare_image(case, "recon", tokenizer, tokens, codes, options)
    objective = TiTokObjective(tokenizer, TiTokObjectiveConfig(mse=0)).eval()
    losses = objective(images, 0, torch.Generator())
    case.close("commitment_loss_raw", losses.parts["commitment"])
    case.close("quantizer_loss_raw", losses.parts["quantization"])
    case.close("quantizer_loss_raw", losses.total)


def replay_latents(case: Case, tokenizer: TiTok, images: Tensor, tokens: Tokens, options: TextOptions | None) -> None:
    """The KL variants: the posterior, its divergence, the image of its mode."""
    assert tokens.latents is not None
    mean, logvar = tokenizer.posterior(images)
    case.close("mean", official_shape(mean))
    case.close("mean", official_shape(tokens.latents))
    case.close("logvar", official_shape(logvar))
    case.close("kl", kl_divergence(mean, logvar))
    compare_image(case, "recon_mean", tokenizer, tokens, tokens.latents, options)
    divergence = TiTokObjective(tokenizer, TiTokObjectiveConfig(mse=0, kl=1))(images, 0, torch.Generator()).total
    assert torch.allclose(divergence, case.io["kl"].sum() / len(images), rtol=1e-5)


REPLAYERS = {"titok": replay_titok}
