"""Replays the golden cases of Hita's tokenizer through the public API and the key map."""

import torch
from torch import Tensor

from smalti.hub.keymap import to_ours
from smalti.tokenizers.hita.config import FoundationConfig, HitaTokenizerConfig
from smalti.tokenizers.hita.foundation import shrink
from smalti.tokenizers.hita.holistic import swap_holistic
from smalti.tokenizers.hita.model import HitaTokenizer
from smalti.tokenizers.hita.objective import HitaTokenizerObjective, HitaTokenizerObjectiveConfig
from smalti.tokenizers.hita.weights import FOUNDATION_PREFIX, key_map
from smalti.tokens import Tokens
from tests.replay.case import Case

IMAGES = 1e-4
"""Tolerance of the notes, for images: a deep convolutional decoder adds up more rounding than the rest."""


def tokenizer_of(case: Case) -> HitaTokenizer:
    """Our tokenizer with the case's weights."""
    args, cnn, dino = case.config["args"], case.config["cnn"], case.config["dino"]
    encoder, decoder = (
        case.config["transformer_config"][f"{side}_config"]["params"] for side in ("encoder", "decoder")
    )
    for name in ("dim", "depth", "num_head", "mlp_dim", "n_carrier", "image_size", "patch_size"):
        assert encoder[name] == decoder[name], f"the authors' files tie {name} of both transformers"
    positions = case.weights[f"{FOUNDATION_PREFIX}pos_embed"].shape[1] - 1
    config = HitaTokenizerConfig(
        image_size=case.io["image"].shape[-1],
        grid=encoder["image_size"] // encoder["patch_size"],
        holistic_tokens=encoder["n_carrier"],
        vocab=args["codebook_size"],
        holistic_width=args["codebook_slots_embed_dim"],
        patch_width=args["codebook_embed_dim"],
        normalize=args.get("codebook_l2_norm", True),
        channels=cnn["ch"],
        encoder_multipliers=args["encoder_ch_mult"],
        decoder_multipliers=args["decoder_ch_mult"],
        res_blocks=cnn["num_res_blocks"],
        width=encoder["dim"],
        depth=encoder["depth"],
        heads=encoder["num_head"],
        head_width=encoder["dim_head"],
        mlp_width=encoder["mlp_dim"],
        dropout=encoder["dropout"],
        shift=decoder["shift_k"],
        predicted_width=1024 if decoder["enable_vfm_recon"] else 0,
        commitment=args.get("commit_loss_beta", 0.25),
        remembered=65536 if args.get("codebook_show_usage", True) else 0,
        foundation=FoundationConfig(
            width=dino["dim"],
            depth=dino["depth"],
            heads=dino["heads"],
            patch=dino["patch_size"],
            grid=round(positions**0.5),
            registers=dino["num_register_tokens"],
            antialias=dino["interpolate_antialias"],
            offset=dino["interpolate_offset"],
        ),
    )
    model = HitaTokenizer(config)
    model.load_state_dict(to_ours(case.weights, key_map(config)))
    return model.eval()


def replay_hita_tokenizer(case: Case) -> None:
    """The preprocessing of the foundation branch alone, or a whole tokenizer."""
    if "args" not in case.config:
        case.close("dino_input", shrink(case.input("image"), case.io["dino_input"].shape[-1]))
        return
    tokenizer = tokenizer_of(case)
    image = (case.input("image") + 1) / 2
    with torch.no_grad():
        _replay_features(case, tokenizer, image)
        tokens = _replay_encode(case, tokenizer, image)
        _replay_decode(case, tokenizer, tokens)
    _replay_losses(case, tokenizer, image)


def _replay_features(case: Case, tokenizer: HitaTokenizer, image: Tensor) -> None:
    x = image * 2 - 1
    case.close("dino_input", shrink(x[: len(case.io["dino_input"])]))
    foundation, features = tokenizer.foundation(x), tokenizer.encoder(x)
    case.close("dino_tokens", foundation)
    case.close("cnn_features", features)
    holistic, patches = tokenizer.holistic_encoder(features, foundation)
    case.close("enc_holistic", holistic)
    case.close("enc_patch", patches)


def _replay_encode(case: Case, tokenizer: HitaTokenizer, image: Tensor) -> Tokens:
    tokens = tokenizer.encode(image)
    assert [s.name for s in tokens.layout.segments] == ["holistic", "patches"]
    case.equal("holistic_ids", tokens.segment(0))
    case.equal("patch_ids", tokens.segment(1).flatten(1))
    vectors = tokenizer.vectors(image)
    case.close("holistic_quant", tokenizer.holistic_quantizer(vectors.holistic).codes)
    patch_codes = tokenizer.patch_quantizer(vectors.patches).codes
    case.close("patch_quant", patch_codes.transpose(1, 2).unflatten(2, case.io["patch_quant"].shape[2:]))
    return tokens


def _replay_decode(case: Case, tokenizer: HitaTokenizer, tokens: Tokens) -> None:
    holistic, patches = _codes(tokenizer, tokens)
    case.close("fused_patch", tokenizer.fuse(holistic, patches))
    _decoded(case, "recon", tokenizer, tokens)
    if "recon_swapped_holistic" in case.io:
        _decoded(
            case, "recon_swapped_holistic", tokenizer, swap_holistic(tokens, tokens[torch.arange(len(tokens)).flip(0)])
        )
    if "vfm_recon" in case.io:
        case.close("vfm_recon", tokenizer.predict_foundation(holistic)[: len(case.io["vfm_recon"])])


def _codes(tokenizer: HitaTokenizer, tokens: Tokens) -> tuple[Tensor, Tensor]:
    return (
        tokenizer.holistic_quantizer.codes_of(tokens.segment(0)),
        tokenizer.patch_quantizer.codes_of(tokens.segment(1).flatten(1)),
    )


def _decoded(case: Case, name: str, tokenizer: HitaTokenizer, tokens: Tokens) -> None:
    """The unclamped image as stored; the public one is the same, clamped."""
    raw = tokenizer.decode_codes(*_codes(tokenizer, tokens))
    case.close(name, raw * 2 - 1, IMAGES)
    assert torch.equal(tokenizer.decode(tokens), raw.clamp(0, 1))


def _replay_losses(case: Case, tokenizer: HitaTokenizer, image: Tensor) -> None:
    """In evaluation mode: the stored losses are without dropout."""
    config = HitaTokenizerObjectiveConfig(foundation=0)  # these DINOv2 are narrower than what is predicted
    losses = HitaTokenizerObjective(tokenizer, config).eval()(image, 0, torch.Generator())
    case.close("train_vq_loss", losses.parts["codebook"])
    case.close("train_commit_loss", losses.parts["commitment"])


REPLAYERS = {"hita_tokenizer": replay_hita_tokenizer}
