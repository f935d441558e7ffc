"""Replays the golden cases of MingTok through the public API and the key map."""

import torch
from torch import Tensor

from smalti.hub.keymap import to_ours
from smalti.tokenizers.mingtok.config import MingTokConfig
from smalti.tokenizers.mingtok.model import MingTok
from smalti.tokenizers.mingtok.weights import key_map
from smalti.tokens import Choice
from tests.replay.case import Case

FEED_FORWARDS = {"mlp": "gelu", "swiglu": "swiglu", "swiglufused": "swiglu"}


def config_of(args: dict) -> MingTokConfig:
    """Our config from the authors' arguments."""
    low, semantic, pixel = (args[name] for name in ("low_level_encoder", "semantic_decoder", "pixel_decoder"))
    patch = low.get("patch_size", 16)
    assert semantic.get("patch_size", 16) == patch and semantic.get("in_dim") == low["out_dim"]
    return MingTokConfig(
        image_size=low.get("img_size", 224),
        patch=patch,
        latent_channels=low["out_dim"],
        encoder_width=low.get("embed_dim", 1024),
        encoder_depth=low.get("depth", 24),
        encoder_feed_forward=FEED_FORWARDS[low.get("ffn_layer", "mlp")],  # type: ignore[arg-type]
        semantic_width=semantic.get("embed_dim", 1024),
        semantic_depth=semantic.get("decoder_depth", 1),
        semantic_feed_forward=FEED_FORWARDS[semantic.get("ffn_layer", "mlp")],  # type: ignore[arg-type]
        pixel_width=pixel.get("embed_dim", 1024),
        pixel_depth=pixel.get("decoder_depth", 1),
        pixel_patch=pixel.get("patch_size", 16),
        mean=args.get("mean", 0.0),
        scale=args.get("scaling_factor", 1.0),
    )


def tokenizer_of(args: dict, state: dict[str, Tensor]) -> MingTok:
    """Our tokenizer with the case's weights."""
    config = config_of(args)
    model = MingTok(config)
    model.load_state_dict(to_ours(state, key_map(config)))
    return model.eval()


def replay_mingtok(case: Case) -> None:
    """Latents, semantic features at once and token by token, pixels, and the same at another size."""
    tokenizer = tokenizer_of(case.config["args"], case.weights)
    image = (case.input("image") + 1) / 2
    tokens = tokenizer.encode(image)
    assert tokens.latents is not None
    with torch.no_grad():
        raw = tokenizer.encoder(image * 2 - 1)
        features = tokenizer.features(image)
        case.close("latent_raw", raw)
        case.close("latent_normalised", torch.cat((tokens.latents, tokenizer.normalize(raw[:, -1:])), dim=1))
        case.close("semantic", features.patches)
        case.close("semantic_cls", features.whole)
        case.close("semantic", tokenizer.features_of(tokens.latents))
        feedback = tokenizer.feedback(len(image))
        for i in range(tokens.layout.length):
            pushed = feedback.push(i, Choice(latents=tokens.latents[:, i : i + 1]))
            assert torch.equal(pushed, feedback.history()[:, -1:])  # type: ignore[index]
        incremental = feedback.latents()
        assert incremental is not None
        case.close("semantic_incremental", incremental)
        grid = tokens.layout.segments[0].shape
        case.close("pixel_decoder_in", tokenizer.decoder.cells(features.patches, grid))  # type: ignore[arg-type]
        case.close("recon_unclamped", tokenizer.decode_latents(features.patches) * 2 - 1)
        case.close("recon_unclamped", tokenizer.decode_latents(incremental) * 2 - 1)
    case.close("recon_clamped", tokenizer.decode(tokens) * 2 - 1)

    for match in case.matching(r"image_(.+)"):
        other = (case.input(match[0]) + 1) / 2
        tokens = tokenizer.encode(other)
        assert tokens.latents is not None
        with torch.no_grad():
            last = tokenizer.normalize(tokenizer.encoder(other * 2 - 1)[:, -1:])
        case.close(f"latent_normalised_{match[1]}", torch.cat((tokens.latents, last), dim=1))
        case.close(f"recon_{match[1]}", tokenizer.decode(tokens) * 2 - 1)


REPLAYERS = {"mingtok": replay_mingtok}
