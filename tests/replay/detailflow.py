"""Replays the golden cases of DetailFlow's tokenizer and transformer through the public API and the key maps."""

import torch

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.detailflow.config import fading
from smalti.generators.detailflow.config import from_authors as generator_config
from smalti.generators.detailflow.model import DetailFlowGenerator
from smalti.generators.detailflow.objective import DetailFlowObjective
from smalti.generators.detailflow.weights import key_map as generator_map
from smalti.hub.keymap import to_ours
from smalti.tokenizers.base import NoFeedback
from smalti.tokenizers.detailflow.config import DetailFlowTokenizerConfig, TowerConfig
from smalti.tokenizers.detailflow.correction import encode, self_correct
from smalti.tokenizers.detailflow.model import DetailFlowTokenizer, Window
from smalti.tokenizers.detailflow.objective import (
    DetailFlowTokenizerObjective,
    DetailFlowTokenizerObjectiveConfig,
    codebook_losses,
)
from smalti.tokenizers.detailflow.weights import key_map
from smalti.tokens import Tokens
from tests.replay.case import Case


def tower_of(sizes: dict, *, patch: int, causal: bool) -> TowerConfig:
    """Our config of a tower."""
    return TowerConfig(
        depth=sizes["layer_num"],
        width=sizes["embed_dim"],
        heads=sizes["num_heads"],
        mlp=sizes["mlp"],
        grid=round(sizes["num_patches"] ** 0.5),
        patch=patch,
        causal=causal,
    )


def tokenizer_of(case: Case) -> DetailFlowTokenizer:
    """Our tokenizer with the case's weights."""
    args, config = case.config["args"], case.config
    config = DetailFlowTokenizerConfig(
        image_size=args["max_image_size"],
        min_image_size=1,
        tokens=args["num_latent_tokens"],
        group=args["group_size"],
        head=args["causal_num"],
        vocab=args["codebook_size"],
        code_dim=args["codebook_embed_dim"],
        normalize=args["codebook_l2_norm"],
        degradation_power=config["degradation_power"],
        self_correction=args["correction_training"],
        usage_window=65536 if args.get("codebook_show_usage", True) else 0,
        encoder=tower_of(config["encoder_tower"], patch=args["enc_patch_size"], causal=args["causal_encoder"]),
        decoder=tower_of(config["decoder_tower"], patch=args["dec_patch_size"], causal=args["causal_decoder"]),
    )
    model = DetailFlowTokenizer(config)
    model.load_state_dict(to_ours(case.weights, key_map(config)))
    return model.eval()


def blocked(windows: list[Window], length: int) -> torch.Tensor:
    """int64 [L, L]: 1 where windows of attention hide a column from a row."""
    hidden = torch.ones(length, length, dtype=torch.int64)
    for rows, seen, mask in windows:
        hidden[rows, seen] = 0 if mask is None else (~mask).long()
    return hidden


def replay_tokenizer(case: Case) -> None:
    """Resolution maps, features, ids, images of every prefix and of a smaller image, self-correction, losses."""
    tokenizer, config = tokenizer_of(case), case.config
    replay_maps(tokenizer, config["resolution_map"])
    image = (case.input("image") + 1) / 2
    total = case.io["ids"].shape[1]
    with torch.no_grad():
        patches, features = tokenizer.encoder(image * 2 - 1, total)
        case.close("enc_patch_features", patches)
        case.close("enc_latent_features", features)
        case.close("pre_quant", tokenizer.features(image, total))
        windows = tokenizer.encoder.windows(patches.shape[1], total)
        case.equal("mask_encoder_blocked", blocked(windows, patches.shape[1] + total))
        fewer = case.io["ids_with_fewer_queries"].shape[1]
        case.equal("ids_with_fewer_queries", tokenizer.quantizer.nearest(tokenizer.features(image, fewer)))
        codes = tokenizer.quantizer.codes_of(case.io["ids"])
        case.close("codebook_entries", codes)

        tokens = tokenizer.encode(image)
        assert tokens.ids is not None
        case.equal("ids", tokens.ids)
        case.close("quant", encode(tokenizer, image, total).straight_through())
        side = case.io["recon_full"].shape[-1]
        pictures(case, tokenizer, "recon_full", tokens, size=side)
        for match in case.matching(r"recon_prefix_(\d+)"):
            pictures(case, tokenizer, match[0], tokens.prefix(int(match[1])))
        half = tokenizer.encode((case.input("image_half") + 1) / 2)
        assert half.ids is not None
        case.equal("ids_half", half.ids)
        pictures(case, tokenizer, "recon_half", half)

    replay_correction(case, tokenizer, image)


def pictures(case: Case, tokenizer: DetailFlowTokenizer, name: str, tokens: Tokens, *, size: int | None = None) -> None:
    """Images of tokens: the stored ones are not clamped, those of `decode` are."""
    stored = case.io[name]
    assert tokens.ids is not None
    case.close(name, tokenizer.pixels(tokenizer.quantizer.codes_of(tokens.ids), stored.shape[-1]) * 2 - 1)
    decoded = tokenizer.decode(tokens, size=size)
    assert torch.allclose(decoded, ((stored + 1) / 2).clamp(0, 1), atol=1e-4), f"decode differs from {name}"


def replay_maps(tokenizer: DetailFlowTokenizer, stored: dict) -> None:
    """Number of tokens -> resolution and side; side -> number of tokens."""
    ours = tokenizer.resolutions
    for name, table in (
        ("token2res", ours.resolution),
        ("token2dec_res", ours.side),
        ("token2dec_out_res", ours.side),
        ("decres2besttoken", ours.best),
    ):
        assert {int(k): v for k, v in stored[name].items()} == table, name
    if tokenizer.config.encoder.patch == tokenizer.config.decoder.patch:
        assert {int(k): v for k, v in stored["encres2besttoken"].items()} == ours.best
    assert stored["best_res"] == list(ours.best)
    assert tokenizer.layout().prefixes == tuple(ours.side)


def replay_correction(case: Case, tokenizer: DetailFlowTokenizer, image: torch.Tensor) -> None:
    """Wrong tokens and what the encoder makes of them; losses without and with them."""
    args = case.config["args"]
    weights = {"codebook": args["vq_loss_ratio"], "commitment": args["commit_loss_beta"]}
    config = DetailFlowTokenizerObjectiveConfig(mse=0, degradation=0, correction=0, **weights)
    losses = DetailFlowTokenizerObjective(tokenizer, config)(image, 0, torch.Generator())
    clean = encode(tokenizer, image, args["num_latent_tokens"])
    codebook, commitment = codebook_losses(clean)
    case.close("train_vq_loss", weights["codebook"] * codebook.detach())
    case.close("train_commit_loss", weights["commitment"] * commitment.detach())
    assert torch.allclose(losses.total, case.io["train_vq_loss"] + case.io["train_commit_loss"], rtol=1e-5)

    for match in case.matching(r"corr(\d+)_codes"):
        start = int(match[1])
        ranks = case.input(f"corr{start}_topk_rank")
        corrected = self_correct(tokenizer, clean, image, start, ranks)
        triple = torch.stack([clean.ids, corrected.inputs(), corrected.targets()], dim=-1)
        case.equal(f"corr{start}_codes", triple)
        case.close(f"corr{start}_quant", corrected.codes().detach())
    if case.matching("train_noise_quant"):
        replay_noise(case, tokenizer, image, int(case.note(r"noise starting at (\d+)")), weights)


def replay_noise(
    case: Case, tokenizer: DetailFlowTokenizer, image: torch.Tensor, start: int, weights: dict[str, float]
) -> None:
    """The training pass with wrong tokens from `start` on."""
    clean = encode(tokenizer, image, case.config["args"]["num_latent_tokens"])
    corrected = self_correct(tokenizer, clean, image, start, case.input(f"corr{start}_topk_rank"))
    codes = torch.cat([clean.straight_through(), corrected.codes()]).detach()
    case.close("train_noise_quant", codes)
    with torch.no_grad():
        size = case.io["train_noise_recon"].shape[-1]
        case.close("train_noise_recon", tokenizer.pixels(codes, size) * 2 - 1)
    codebook, commitment = codebook_losses(clean, corrected)
    case.close("train_noise_vq_loss", weights["codebook"] * codebook.detach())
    case.close("train_noise_commit_loss", weights["commitment"] * commitment.detach())


def replay_generator(case: Case) -> None:
    """Places and visibility, teacher-forced logits with and without class, loss, greedy generations, filters."""
    config = generator_config(case.config["args"])
    model = DetailFlowGenerator(config)
    model.load_state_dict(to_ours(case.weights, generator_map(config)))
    model.eval()
    case.close("freqs_cis", torch.view_as_real(model.rotations))
    case.equal("group_causal_mask_allowed", model.mask(config.tokens, torch.device("cpu")).long())
    tokens, condition = Tokens(layout=model.layout, ids=case.input("ids")), Condition.of_classes(case.input("cond"))
    with torch.no_grad():
        for name, asked in (("logits_teacher", condition), ("logits_teacher_uncond", condition.null())):
            case.close(name, model(tokens, asked).logits_RBnV[0])
        losses = DetailFlowObjective(model).eval()((tokens.ids, condition), 0, torch.Generator())
    case.close("loss_teacher", losses.total)
    for name, settings in case.config["generation"].items():
        case.equal(f"gen_{name}", generated(model, condition, settings))
    for match in case.matching(r"filter(?:_topk(\d+))?(?:_topp(\d)(\d+))?"):
        sampling = Sampling(top_k=int(match[1] or 0), top_p=float(f"{match[2] or 1}.{match[3] or 0}"))
        case.equal(match[0], sampling.filter(case.input("filter_in"), 0).clamp_min(-1e30))


def generated(model: DetailFlowGenerator, condition: Condition, settings: dict) -> torch.Tensor:
    """Greedy ids of the authors' sampler settings."""
    scale = float(settings["cfg_scale"])
    guidance = fading(model.config, scale) if settings.get("gradual_cfg") else Guidance(scale=scale)
    stage = Stage(model=model, sampling=Sampling.greedy(), guidance=guidance)
    feedback, noise = NoFeedback(), Noise.of(0, len(condition))
    *_, last = decode([stage], condition, feedback=feedback, noise=noise)
    return last.values


REPLAYERS = {"detailflow_ar": replay_generator, "detailflow_tokenizer": replay_tokenizer}
