"""Replays the golden cases of LlamaGen's VQGAN and GPT through the public API and the key maps."""

from math import isqrt

import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.llamagen.config import LlamaGenConfig, interval_guidance
from smalti.generators.llamagen.model import LlamaGenGenerator
from smalti.generators.llamagen.objective import LlamaGenObjective
from smalti.generators.llamagen.weights import key_map as generator_map
from smalti.hub.keymap import to_ours
from smalti.nn.gpt import hidden_width
from smalti.text.t5 import left_padded
from smalti.tokenizers.base import NoFeedback
from smalti.tokenizers.llamagen.config import LlamaGenTokenizerConfig
from smalti.tokenizers.llamagen.model import LlamaGenTokenizer
from smalti.tokenizers.llamagen.objective import LlamaGenTokenizerObjective, LlamaGenTokenizerObjectiveConfig
from smalti.tokenizers.llamagen.weights import key_map
from smalti.tokens import Tokens
from tests.replay.case import Case
from tests.replay.var import recorded

GENERATED = 2e-4
"""Tolerance of the notes for logits of a whole generation."""


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


def generator_of(case: Case) -> LlamaGenGenerator:
    """Our GPT with the case's weights; what the case does not say has the authors' default."""
    args, by_text = case.config["args"], case.config["args"]["model_type"] == "t2i"
    hidden = int(args.get("ffn_dim_multiplier", 1.0) * int(8 * args["dim"] / 3))
    multiple = args.get("multiple_of", 256)
    assert args.get("ffn_dim_multiplier") or hidden_width(args["dim"], multiple) == -(-hidden // multiple) * multiple
    config = LlamaGenConfig(
        depth=args["n_layer"],
        width=args["dim"],
        heads=args["n_head"],
        hidden=-(-hidden // multiple) * multiple,
        side=isqrt(args["block_size"]),
        vocab=args["vocab_size"],
        classes=0 if by_text else args["num_classes"],
        text_features=args["caption_dim"] if by_text else 0,
        text_tokens=args["cls_token_num"],
        norm_eps=args.get("norm_eps", 1e-5),
        rotation_base=args.get("rope_base", 10000),
    )
    model = LlamaGenGenerator(config)
    model.load_state_dict(to_ours(case.weights, generator_map(config)))
    return model.eval()


def replay_teacher_forcing(case: Case, model: LlamaGenGenerator, condition: Condition) -> None:
    """Logits with the condition and with it dropped, and the loss."""
    ids = case.input("idx")
    everyone = torch.ones(len(ids), dtype=torch.bool)
    with torch.no_grad():
        for name, asked in (("tf_logits", condition), ("tf_logits_uncond", model.without(condition, everyone))):
            case.close(name, model(Tokens(layout=model.layout, ids=ids), asked).logits_RBnV[0])
        losses = LlamaGenObjective(model).eval()((ids, condition), 0, torch.Generator())
    case.close("tf_loss", losses.total)


def replay_generations(case: Case, model: LlamaGenGenerator, condition: Condition) -> None:
    """Greedy ids and the guided logits of every step; scale and interval stand in the names."""
    for match in case.matching(r"gen_cfg([\d.]+?)(?:_interval(-?\d+))?\.ids"):
        scale, interval = float(match[1]), int(match[2] or -1)
        guidance = interval_guidance(scale, interval, model.layout.length) if scale > 1 else Guidance()
        stage = Stage(model=model, sampling=Sampling.greedy(), guidance=guidance)
        logits: list[Tensor] = []
        with recorded(logits):
            for partial in decode([stage], condition, feedback=NoFeedback(), noise=Noise.of(0, len(condition))):
                values = partial.values
        case.equal(match[0], values)
        case.close(match[0].replace(".ids", ".logits"), torch.cat(logits, dim=1), GENERATED)


def replay_llamagen_gpt_c2i(case: Case) -> None:
    """Teacher-forced logits, loss, rotations, greedy generations, filters of the distribution."""
    model, condition = generator_of(case), Condition.of_classes(case.input("cond"))
    case.close("rope_table", torch.view_as_real(model.rotations))
    replay_teacher_forcing(case, model, condition)
    replay_generations(case, model, condition)
    for match in case.matching(r"filter_k(\d+)_p([\d.]+)"):
        sampling = Sampling(top_k=int(match[1]), top_p=float(match[2]))
        case.equal(match[0], sampling.filter(case.input("filter_in"), 0))


def replay_llamagen_gpt_t2i(case: Case) -> None:
    """Left padding, the caption's tokens, teacher-forced logits, loss, greedy generations."""
    model = generator_of(case)
    text, mask = left_padded(case.input("t5_right_padded"), case.input("t5_mask_right").bool())
    case.close("cond", text)
    case.equal("mask", mask.long())
    condition = Condition(classes=torch.full((len(text),), -1), text=text, text_mask=mask)
    with torch.no_grad():
        case.close("caption_proj", model.condition(condition.classes, text, mask).tokens_RTD)
    replay_teacher_forcing(case, model, condition)
    replay_generations(case, model, condition)


REPLAYERS = {
    "llamagen_gpt_c2i": replay_llamagen_gpt_c2i,
    "llamagen_gpt_t2i": replay_llamagen_gpt_t2i,
    "llamagen_vq": replay_llamagen_vq,
}
