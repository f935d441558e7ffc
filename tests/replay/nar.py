"""Replays the golden cases of NAR's image and video transformers through the public API and the key map."""

from math import isqrt

import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.nar.config import NARConfig, guided_until
from smalti.generators.nar.model import NARGenerator, proximity
from smalti.generators.nar.objective import NARObjective
from smalti.generators.nar.weights import key_map
from smalti.hub.keymap import to_ours
from smalti.nn.gpt import hidden_width
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import Tokens
from tests.replay.case import Case
from tests.replay.var import recorded

GENERATED = 2e-4
"""Tolerance of the notes for logits of a whole generation."""


def generator_of(case: Case) -> NARGenerator:
    """Our transformer with the case's weights; what the case does not say has the authors' default."""
    args = case.config["args"]
    by_text, clip = args.get("model_type") == "t2i", "latent_shape" in args
    config = NARConfig(
        depth=args["n_layer"],
        width=args["dim"],
        heads=args["n_head"],
        hidden=hidden_width(args["dim"], args.get("multiple_of", 256)),
        grid=args["latent_shape"] if clip else (isqrt(args["block_size"]),) * 2,
        positions="learned" if clip else "rotary",
        vocab=args["vocab_size"],
        classes=0 if by_text else args["num_classes"],
        text_features=args["caption_dim"] if by_text else 0,
        text_tokens=args["cls_token_num"],
        norm_eps=args.get("norm_eps", 1e-5),
        rotation_base=args.get("rope_base", 10000),
    )
    model = NARGenerator(config)
    model.load_state_dict(to_ours(case.weights, key_map(config)))
    return model.eval()


def replay(case: Case, model: NARGenerator, condition: Condition, heads: list[str]) -> None:
    """Order, each head's logits, their mean, the loss, and greedy generations."""
    ids, tables = case.input("idx"), model.neighbors
    case.equal("decode_order", tables.order)
    with torch.no_grad():
        in_sequence = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + tables.rank])
        for name, head, states in zip(heads, model.heads, model.states(ids[:, tables.order], condition), strict=True):
            case.close(f"tf_logits_{name}", head(states[:, in_sequence]))
        case.close("tf_logits", model(Tokens(layout=model.layout, ids=ids), condition).logits_RBnV[0])
        losses = NARObjective(model).eval()((ids, condition), 0, torch.Generator())
    case.close("tf_loss", losses.total)
    for match in case.matching(r"gen_cfg([\d.]+?)(?:_interval(-?\d+))?\.ids"):
        scale, tokens = float(match[1]), int(match[2] or -1)
        guidance = guided_until(model.config, scale, tokens) if scale > 1 else Guidance()
        stage = Stage(model=model, sampling=Sampling.greedy(), guidance=guidance)
        logits: list[Tensor] = []
        with recorded(logits):
            for partial in decode([stage], condition, feedback=NoFeedback(), noise=Noise.of(0, len(condition))):
                values = partial.values
        case.equal(match[0], values)
        stepwise = torch.cat(logits, dim=1)
        case.close(match[0].replace(".ids", ".logits"), stepwise[:, tables.rank], GENERATED)


def replay_image(case: Case, model: NARGenerator, condition: Condition) -> None:
    """As above, with the rotations, the steps and the mask of the authors' image code."""
    tables, count = model.neighbors, case.config["args"]["cls_token_num"]
    assert model.rotations is not None
    case.close("rope_table", torch.view_as_real(model.rotations))
    case.equal("decode_step_of_token", tables.step[tables.rank])
    case.equal("proximity_mask", proximity(count, tables.step[tables.rank]).long())
    replay(case, model, condition, ["right", "below"])


def replay_nar_c2i(case: Case) -> None:
    """Images of classes."""
    replay_image(case, generator_of(case), Condition.of_classes(case.input("cond")))


def replay_nar_t2i(case: Case) -> None:
    """Images of captions."""
    text, mask = case.input("cond"), case.input("mask").bool()
    condition = Condition(classes=torch.full((len(text),), -1), text=text, text_mask=mask)
    replay_image(case, generator_of(case), condition)


def replay_nar_video_ar(case: Case) -> None:
    """Clips of classes."""
    model = generator_of(case)
    case.equal("diagonal_mask", proximity(1, model.neighbors.step[model.neighbors.rank]).long())
    replay(case, model, Condition.of_classes(case.input("cond")), ["R", "D", "B"])


REPLAYERS = {"nar_c2i": replay_nar_c2i, "nar_t2i": replay_nar_t2i, "nar_video_ar": replay_nar_video_ar}
