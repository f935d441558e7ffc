"""Replays the golden cases of LlamaGen's VQGAN through the public API and the key map."""

import torch

from smalti.hub.keymap import to_ours
from smalti.tokenizers.llamagen.config import LlamaGenTokenizerConfig
from smalti.tokenizers.llamagen.model import LlamaGenTokenizer
from smalti.tokenizers.llamagen.objective import LlamaGenTokenizerObjective, LlamaGenTokenizerObjectiveConfig
from smalti.tokenizers.llamagen.weights import key_map
from tests.replay.case import Case


def tokenizer_of(case: Case) -> LlamaGenTokenizer:
    """Our tokenizer with the case's weights; what the case does not say has the authors' default."""
    args = case.config["args"]
    names = {
        "vocab": "codebook_size",
        "code_channels": "codebook_embed_dim",
        "normalize": "codebook_l2_norm",
        "commitment": "commit_loss_beta",
        "encoder_multipliers": "encoder_ch_mult",
        "decoder_multipliers": "decoder_ch_mult",
        "features": "z_channels",
    }
    settings = {ours: args[theirs] for ours, theirs in names.items() if theirs in args}
    remembered = 65536 if args.get("codebook_show_usage", True) else 0
    config = LlamaGenTokenizerConfig(channels=case.config.get("ch", 128), remembered=remembered, **settings)
    model = LlamaGenTokenizer(config)
    model.load_state_dict(to_ours(case.weights, key_map(config)))
    return model.eval()


def replay_llamagen_vq(case: Case) -> None:
    """Features, ids, codes, reconstructions and the three losses of the quantizer."""
    tokenizer = tokenizer_of(case)
    quantizer = tokenizer.quantizer
    image = (case.input("image") + 1) / 2
    tokens = tokenizer.encode(image)
    assert tokens.ids is not None
    case.equal("ids", tokens.ids)
    with torch.no_grad():
        case.close("encoder_out", tokenizer.encoder(image * 2 - 1))
        features = tokenizer.features(image)
        case.close("h", features.movedim(-1, 1))
        codes = quantizer.codes_of(tokens.segment(0))
        case.close("codebook_entries_channel_last", codes.flatten(0, 2))
        straight_through = quantizer(features).codes
        case.close("quant", straight_through.movedim(-1, 1))
        case.close("rec", tokenizer.decode_latents(straight_through) * 2 - 1)
        unclamped = tokenizer.decode_latents(codes)
    case.close("rec_from_ids", unclamped * 2 - 1)
    assert torch.equal(tokenizer.decode(tokens), unclamped.clamp(0, 1))

    for match in case.matching(r"train_entropy_loss_ratio(.+)"):
        config = LlamaGenTokenizerObjectiveConfig(mse=0, entropy=float(match[1]))
        losses = LlamaGenTokenizerObjective(tokenizer, config).train()(image, 0, torch.Generator())
        case.close("train_vq_loss", losses.parts["codebook"])
        case.close("train_commit_loss", losses.parts["commitment"])
        case.close(match[0], losses.parts["entropy"])
        stored = (case.io["train_vq_loss"], case.io["train_commit_loss"], case.io[match[0]])
        assert torch.allclose(losses.total.detach(), torch.cat(stored).sum(), atol=1e-5)


REPLAYERS = {"llamagen_vq": replay_llamagen_vq}
