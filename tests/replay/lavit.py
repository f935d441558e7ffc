"""Replays LaVIT's golden cases: selector, merger, quantizer, both decoders."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from smalti.hub.keymap import dropped, to_ours
from smalti.nn.eva import from_clip_range
from smalti.tokenizers.lavit import model as lavit
from smalti.tokenizers.lavit.config import LaVITConfig
from smalti.tokenizers.lavit.llm import FIRST_CODE, llm_features, llm_ids, tokens_of_llm_ids
from smalti.tokenizers.lavit.model import LaVITTokenizer
from smalti.tokenizers.lavit.weights import key_map
from tests.replay.case import Case


def config_of(case: Case, *, highres: bool) -> LaVITConfig:
    """Our sizes of a case; what its config.json does not say is read off the shapes."""
    main, eva, decoder = (case.config[name] for name in ("tokenizer", "eva", "decoder"))
    assert (eva["img_size"], eva["patch_size"]) == (main["img_size"], main["patch_size"])
    assert eva["qkv_bias"] and not eva["use_mean_pooling"] and eva["embed_dim"] == main["width"]
    assert decoder["in_chans"] == main["code_dim"]
    return LaVITConfig(
        image_size=main["img_size"],
        patch=main["patch_size"],
        width=main["width"],
        vit_depth=eva["depth"],
        vit_heads=eva["num_heads"],
        depth=main["layers"],
        heads=main["heads"],
        vit_mlp_ratio=eva["mlp_ratio"],
        vocab=main["n_code"],
        code_width=main["code_dim"],
        decoder_width=decoder["embed_dim"],
        decoder_depth=decoder["depth"],
        decoder_heads=decoder["num_heads"],
        feature_width=decoder["decoder_out_dim"],
        contexts=(decoder["unet_proj_1"], decoder["unet_proj_2"]) if highres else (decoder["unet_proj_1"],),
        pooled=decoder["attnpool_out"] if highres else None,
        llm_width=len(case.weights["tokenizer.vit_proj.weight"]),
    )


def tokenizer_of(case: Case, *, highres: bool) -> LaVITTokenizer:
    """Our tokenizer with the case's encoder and one of its decoders."""
    config = config_of(case, highres=highres)
    decoder = case.part("decoder_highres." if highres else "decoder_lowres.")
    state = {**case.part("tokenizer."), **{f"tokenizer_decoder.{key}": value for key, value in decoder.items()}}
    unused = {"encoder.norm.weight", "encoder.norm.bias", "encoder.head.weight", "encoder.head.bias"}
    assert dropped(state, key_map(config)) <= unused
    model = LaVITTokenizer(config)
    model.load_state_dict(to_ours(state, key_map(config)))
    return model.eval()


@contextmanager
def stored_noise(noise_BN2: Tensor) -> Iterator[torch.Generator]:
    """The authors' Gumbel noise instead of what a generator draws."""
    drawn, lavit.gumbel_noise = lavit.gumbel_noise, lambda logp_BN2, rng: noise_BN2
    try:
        yield torch.Generator()
    finally:
        lavit.gumbel_noise = drawn


@torch.no_grad()
def replay_lavit(case: Case) -> None:
    """The case's noise decides which patches are kept; everything else is computed."""
    tokenizer, image = tokenizer_of(case, highres=True), from_clip_range(case.input("image"))
    features = tokenizer.features(image)
    case.close("vit_patch_features", features)
    case.close("keep_log_probs", tokenizer.selector(features))
    with stored_noise(case.input("gumbel_noise")) as rng:
        keep = tokenizer.select(features, rng)
        tokens = tokenizer._encode(image, rng)  # not `encode`: the case's images may leave [0, 1]
        understanding = llm_features(tokenizer, image, rng=rng)
    case.equal("keep_decision", keep.float())
    merged = tokenizer.merger(features, keep)
    case.close("merged_features_all", merged)
    case.close("to_quantizer", tokenizer.to_code(merged[keep]))
    case.close("understanding_features", torch.cat(understanding))

    case.equal("token_nums", tokens.lengths)
    words = llm_ids(tokens)
    case.equal("token_ids", torch.cat(words) - FIRST_CODE)
    case.equal("llm_ids", torch.cat(words))
    for match in case.matching(r"llm_ids_special_(\d+)"):
        case.equal(match[0], llm_ids(tokens, mark=True)[int(match[1])])
    again = tokens_of_llm_ids(tokenizer, llm_ids(tokens, mark=True))
    assert tokens.ids is not None and again.ids is not None and torch.equal(again.ids, tokens.ids)
    case.close("quantized", tokenizer.codebook[tokens.ids[tokens.ids >= 0]])

    context = tokenizer.context(tokens)
    assert context.pooled is not None
    case.close("highres_context", context.tokens)
    case.close("highres_pooled", context.pooled)
    case.close("lowres_context", tokenizer_of(case, highres=False).context(tokens).tokens)


REPLAYERS = {"lavit": replay_lavit}
