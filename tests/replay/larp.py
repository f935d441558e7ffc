"""Replays the golden cases of LARP's video tokenizer through the public API and the key map."""

import torch
from torch import Tensor

from smalti.hub.keymap import to_ours
from smalti.tokenizers.larp.config import LARPConfig
from smalti.tokenizers.larp.model import LARPTokenizer
from smalti.tokenizers.larp.weights import key_map
from tests.replay.case import Case

TOLERANCE = 1e-5
"""The notes allow 1e-4."""

SWITCHES = {
    "learned_patch_positions": "learned_encoder_patch_pe",
    "learned_token_positions": "learned_decoder_latent_pe",
    "learned_patch_queries": "learned_decoder_patch_query_embed",
    "patch_type": "use_encoder_patch_token_type_embed",
    "query_type": "use_encoder_latent_query_token_type_embed",
    "token_type": "use_decoder_latent_token_type_embed",
    "patch_query_type": "use_decoder_patch_query_token_type_embed",
}


def config_of(args: dict) -> LARPConfig:
    """Our config from the authors' arguments and their defaults."""
    quantizer = args["bottleneck"]["args"]["regularizer"]["args"]
    normalize = quantizer.get("l2_normalized", False)
    stochastic = normalize and quantizer.get("stochastic", False)
    return LARPConfig(
        frames=args.get("frame_num", 16),
        image_size=args.get("input_size", 128),
        frame_patch=args.get("temporal_patch_size", 4),
        patch=args.get("patch_size", 8),
        tokens=args.get("bottleneck_token_num", 1024),
        vocab=quantizer["codebook_size"],
        latent_channels=args["bottleneck"]["args"]["bottleneck_dim"],
        normalize=normalize,
        temperature=quantizer.get("stochastic_temperature", 1.0) if stochastic else 0.0,
        **{f"{s}_{p}": args.get(f"{s}_{q}", d) for s in ("encoder", "decoder") for p, q, d in SIZES},
        learned_queries=args.get("learned_encoder_latent_query_embed", True),
        **{ours: args.get(theirs, False) for ours, theirs in SWITCHES.items()},
        position_base=args.get("latent_pe_scale_factor", 10000),
    )


SIZES = (("width", "hidden_size", 768), ("depth", "depth", 6), ("heads", "num_heads", 12))


def replay_larp(case: Case) -> None:
    """Features, ids, codes, and clips from ids and from codes."""
    config = config_of(case.config["args"])
    tokenizer = LARPTokenizer(config)
    tokenizer.load_state_dict(to_ours(case.weights, key_map(config)))
    tokenizer.eval()
    video = case.input("video")
    tokens = tokenizer.encode(video)
    assert tokens.ids is not None
    case.equal("ids", tokens.ids)
    with torch.no_grad():
        z = tokenizer.features(video)
        case.close("projected_z", z, TOLERANCE)
        codes = tokenizer.quantizer(z).codes
        case.close("quantised", codes, TOLERANCE)
        case.close("encoded", tokenizer.after_quantizer(codes), TOLERANCE)
        case.close("rec_direct", tokenizer.decode_latents(codes), TOLERANCE)
        unclamped: Tensor = tokenizer.decode_latents(tokenizer.quantizer.codes_of(tokens.ids))
    case.close("rec_from_ids", unclamped, TOLERANCE)
    assert torch.equal(tokenizer.decode(tokens), unclamped.clamp(0, 1))


REPLAYERS = {"nar_larp_tokenizer": replay_larp}
