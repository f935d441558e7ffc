"""Replays the golden cases of Hita's tokenizer and transformer through the public API and the key maps."""

from dataclasses import replace
from math import isqrt

import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.hita.config import HitaConfig, interval_guidance
from smalti.generators.hita.model import HitaGenerator
from smalti.generators.hita.objective import HitaObjective
from smalti.generators.hita.weights import key_map as generator_map
from smalti.hub.keymap import to_ours
from smalti.nn.gpt import hidden_width
from smalti.tokenizers.base import NoFeedback
from smalti.tokenizers.hita.config import FoundationConfig, HitaTokenizerConfig
from smalti.tokenizers.hita.foundation import shrink
from smalti.tokenizers.hita.model import HitaTokenizer
from smalti.tokenizers.hita.objective import HitaTokenizerObjective, HitaTokenizerObjectiveConfig
from smalti.tokenizers.hita.weights import FOUNDATION_PREFIX, key_map
from smalti.tokens import Choice, Tokens
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
        styles = tokens[torch.arange(len(tokens)).flip(0)]
        _decoded(case, "recon_swapped_holistic", tokenizer, tokens.with_segment("holistic", styles))
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


def generators_of(case: Case) -> tuple[HitaGenerator, HitaGenerator]:
    """Our transformer with the case's weights, with the quirk of the authors' sampler and without."""
    args = case.config["args"]
    config = HitaConfig(
        depth=args["n_layer"],
        width=args["dim"],
        heads=args["n_head"],
        hidden=hidden_width(args["dim"], args.get("multiple_of", 256)),
        holistic_tokens=args["num_slots"],
        side=isqrt(args["block_size"]),
        vocab=args["vocab_size"],
        classes=args["num_classes"],
        rotation_base=args.get("rope_base", 10000),
        norm_eps=args.get("norm_eps", 1e-5),
    )
    models = HitaGenerator(config), HitaGenerator(replace(config, quirks="fixed"))
    for model in models:
        model.load_state_dict(to_ours(case.weights, generator_map(config)))
        model.eval()
    return models


def replay_hita_generator(case: Case) -> None:
    """Logits as trained and as sampled, in one pass and step by step; losses; greedy generations."""
    model, fixed = generators_of(case)
    case.close("freqs_cis", torch.view_as_real(model.rotations))
    ids = torch.cat([case.input("holistic_ids"), case.input("patch_ids")], dim=1)
    condition, cut = Condition.of_classes(case.input("cond")), model.config.holistic_tokens
    with torch.no_grad():
        whole, as_trained = (m(Tokens(layout=m.layout, ids=ids), condition).logits_RBnV[0] for m in (model, fixed))
        losses = HitaObjective(model).eval()((ids, condition), 0, torch.Generator())
    case.close("train_logits_holistic", as_trained[:, :cut])
    case.close("train_logits_patch", as_trained[:, cut:])
    for logits in (whole, stepwise(model, ids, condition)):
        case.close("infer_logits_holistic", logits[:, :cut])
        case.close("infer_logits_patch", logits[:, cut:])
    case.close("infer_logits_patch_fixed", stepwise(fixed, ids, condition)[:, cut:])
    case.close("train_loss_holistic", losses.parts["holistic"])
    case.close("train_loss_patch", losses.parts["patches"])
    assert torch.allclose(losses.total, case.io["train_loss_holistic"] + case.io["train_loss_patch"], rtol=1e-5)
    for name, settings in case.config["generation"].items():
        guidance = Guidance()
        if settings["cfg_scale"] > 1:
            length = model.config.length
            guidance = interval_guidance(float(settings["cfg_scale"]), settings.get("cfg_interval", -1), length)
        stage = Stage(model=model, sampling=Sampling.greedy(), guidance=guidance)
        *_, last = decode([stage], condition, feedback=NoFeedback(), noise=Noise.of(0, len(ids)))
        case.equal(f"gen_{name}", last.values)


def stepwise(model: HitaGenerator, ids: Tensor, condition: Condition) -> Tensor:
    """Logits [B, L, V] of the tokens fed one by one through the cache."""
    logits = []
    with torch.no_grad():
        state = model.begin(condition, feedback=NoFeedback())
        for token in ids.split(1, dim=1):
            logits.append(model.predict(state).logits_RBnV[0])
            model.accept(state, Choice(ids=token))
    return torch.cat(logits, dim=1)


REPLAYERS = {"hita_ar": replay_hita_generator, "hita_tokenizer": replay_hita_tokenizer}
