"""Replays the golden cases of TiTok's masked generators and of RAR through the public API and the key maps."""

import math
from typing import Any

import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition, Generator
from smalti.generators.rar.config import RARConfig
from smalti.generators.rar.config import authors_guidance as rar_guidance
from smalti.generators.rar.model import RARGenerator
from smalti.generators.rar.weights import key_map as rar_map
from smalti.generators.titok.config import TiTokGeneratorConfig, authors_guidance
from smalti.generators.titok.model import TiTokGenerator
from smalti.generators.titok.weights import key_map as titok_map
from smalti.hub.keymap import to_official, to_ours
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import PAD, Tokens
from tests.replay.case import Case


def sizes(case: Case) -> dict[str, int]:
    """What both kinds of config have."""
    args = case.config["args"]["model"]
    given = args["generator"]
    return {
        "depth": given["num_hidden_layers"],
        "width": given["hidden_size"],
        "heads": given["num_attention_heads"],
        "hidden": given["intermediate_size"],
        "vocab": args["vq_model"]["codebook_size"],
        "classes": given["condition_num_classes"],
    }


def masked_generator(case: Case) -> TiTokGenerator:
    """Our masked generator with the case's weights."""
    kind = {"ImageBert": "vit", "UViTBert": "uvit"}[case.config["class_path"].rsplit(".", 1)[-1]]
    given = case.config["args"]["model"]["generator"]
    size = sizes(case)
    if kind == "uvit":
        size["depth"] = size["depth"] // 2 * 2  # the authors build half of the number on either side
    config = TiTokGeneratorConfig(kind=kind, tokens=given["image_seq_len"], **size)  # type: ignore[arg-type]
    return loaded(TiTokGenerator(config), case, titok_map(config))


def rar_generator(case: Case) -> RARGenerator:
    """Our RAR with the case's weights."""
    tokens = case.config["args"]["model"]["generator"]["image_seq_len"]
    side = math.isqrt(tokens)
    grid = (side, side) if side**2 == tokens else (1, tokens)
    config = RARConfig(grid=grid, **sizes(case))
    return loaded(RARGenerator(config), case, rar_map(config))


def loaded(model: Any, case: Case, key_map: dict[str, str | None]) -> Any:
    """The model with the case's weights, which must go back to the official names unchanged."""
    model.load_state_dict(to_ours(case.weights, key_map))
    back = to_official(model.state_dict(), key_map)
    assert back.keys() == case.weights.keys() and all(torch.equal(back[k], case.weights[k]) for k in back)
    return model.eval()


def greedy(model: Generator, classes: Tensor, guidance: Guidance) -> Tensor:
    """Ids [B, L], always the most likely."""
    stage = Stage(model=model, sampling=Sampling.greedy(), guidance=guidance)
    noise = Noise.of(0, len(classes))
    *_, last = decode([stage], Condition.of_classes(classes), feedback=NoFeedback(), noise=noise)
    return last.values


def replay_masked(case: Case) -> None:
    """Logits of partly masked tokens with and without their class; greedy generation in every stored setting."""
    model, classes = masked_generator(case), case.input("cond")
    ids, masked = case.input("ids"), case.input("input_ids")
    hidden = masked == model.config.vocab
    assert torch.equal(ids[~hidden], masked[~hidden])
    tokens, condition = Tokens(layout=model.layout, ids=masked.masked_fill(hidden, PAD)), Condition.of_classes(classes)
    with torch.no_grad():
        case.close("logits_cond", model(tokens, condition).logits_RBnV[0])
        case.close("logits_uncond", model(tokens, condition.null()).logits_RBnV[0])
    for name, settings in case.config["generation"].items():
        model.steps = steps = settings["num_sample_steps"]
        power = settings.get("guidance_scale_pow", 3.0)
        guidance = authors_guidance(settings["guidance_scale"], settings["guidance_decay"], steps, power)
        case.equal(f"gen_{name}", greedy(model, classes, guidance))


def replay_rar(case: Case) -> None:
    """Logits in raster order and in stored orders; greedy generation."""
    model, ids, orders = rar_generator(case), case.input("ids"), case.input("orders")
    condition = Condition.of_classes(case.input("cond"))
    tokens = Tokens(layout=model.layout, ids=ids)
    permuted = ids.gather(1, orders)
    case.equal("labels_permuted", permuted)
    with torch.no_grad():
        case.close("logits_raster", model.logits(ids, condition))
        case.close("logits_permuted", model.logits(permuted, condition, orders))
        placed = model(tokens, condition, orders=orders).logits_RBnV[0]
    in_order, theirs = placed.take_along_dim(orders[..., None], dim=1), case.io["logits_permuted"][:, :-1]
    assert (in_order - theirs).abs().max() <= 1e-5 * theirs.abs().max(), "logits at their places in the grid"
    given = case.config["generation"]
    guidance = rar_guidance(given["guidance_scale"], given["guidance_scale_pow"], ids.shape[1])
    case.equal("gen_greedy", greedy(model, condition.classes, guidance))


def replay(case: Case) -> None:
    """Both kinds of generators are in one folder."""
    (replay_rar if case.config["class_path"].endswith("RAR") else replay_masked)(case)


REPLAYERS = {"titok_generators": replay}
