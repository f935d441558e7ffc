"""Replays the golden cases of FlexAR through the key map, the decoding loop and the objective.

The cases hold no config.yaml: their options are read from config.json and from the shapes of the weights.
"""

import re
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.flextok.config import FlexARConfig, NormConfig
from smalti.generators.flextok.model import FlexARGenerator
from smalti.generators.flextok.objective import FlexARObjective, FlexARObjectiveConfig
from smalti.generators.flextok.weights import key_map
from smalti.hub.keymap import to_official, to_ours
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import Tokens
from tests.replay.case import Case

BLOCK = "models.ar_image_model.trunk.blocks.0"
POSITIONS = {None: "none", "absolute": "learned", "sincos1d": "sincos", "sincos2d": "sincos"}


def norm_of(state: dict[str, Tensor], key: str, eps: float) -> NormConfig | None:
    """The normalization a file holds under a name."""
    if f"{key}.weight" not in state:
        return None
    return NormConfig(kind="layer" if f"{key}.bias" in state else "rms", eps=eps)


def config_of(case: Case) -> FlexARConfig:
    """Sizes and options of the case."""
    stated, state = case.config, case.weights
    crosses = f"{BLOCK}.cross_attn.Wq.weight" in state
    attention = f"{BLOCK}.{'self_attn' if crosses else 'attn'}"
    found = re.search(r"eps ([\d.e-]+)", stated["qk_norm"])
    qk_eps = float(found[1]) if found else 1e-6
    gated = f"{BLOCK}.mlp.fc3.weight" in state
    return FlexARConfig(
        width=stated["embed_dim"],
        depth=stated["depth"],
        heads=stated["heads"],
        grid=(stated["tokens"], 1),
        vocab=stated["vocab"],
        classes=stated.get("num_classes", 0),
        text_features=stated.get("text_dim", 0),
        hidden=state[f"{BLOCK}.mlp.fc1.weight"].shape[0],
        gated=gated,
        activation="silu" if "SwiGLU" in stated["ffn"] else "gelu",
        norm=norm_of(state, f"{BLOCK}.norm_1", stated["norm_eps"]) or NormConfig(),
        qk_norm=norm_of(state, f"{attention}.q_norm", qk_eps),
        cross_qk_norm=norm_of(state, f"{BLOCK}.cross_attn.q_norm", qk_eps),
        fused_qkv=f"{attention}.qkv.weight" in state,
        bias=stated["use_bias"],
        qkv_bias=f"{attention}.qkv.bias" in state or f"{attention}.q_proj.bias" in state,
        cross_qkv_bias=f"{BLOCK}.cross_attn.Wq.bias" in state,
        positions=POSITIONS[stated["pos_embed_type"]],  # type: ignore[arg-type]
        post_norm=stated["post_trunk_norm"],
        head_norm="models.ar_image_model.head.norm.weight" in state,
        head_bias=stated["head_bias"],
    )


def generator_of(case: Case) -> FlexARGenerator:
    """Our model with the case's weights; what we write back are the official keys again."""
    config = config_of(case)
    model = FlexARGenerator(config)
    model.load_state_dict(to_ours(case.weights, key_map(config)))
    assert to_official(model.state_dict(), key_map(config)).keys() == case.weights.keys()
    return model.eval()


def with_quirks(model: FlexARGenerator) -> FlexARGenerator:
    """The same weights, guided by class as the authors' code does."""
    other = FlexARGenerator(replace(model.config, quirks="authors"))
    other.load_state_dict(model.state_dict())
    return other.eval()


def greedy(model: FlexARGenerator, condition: Condition, scale: float, budget: int | None = None) -> Tensor:
    """The most likely tokens, up to a budget."""
    stage = Stage(model=model, sampling=Sampling.greedy(), guidance=Guidance(scale=scale))
    noise, ids = Noise.of(0, len(condition)), None
    for partial in decode([stage], condition, feedback=NoFeedback(), noise=noise):
        ids = partial.values[:, : partial.count]
        if partial.count == budget:
            break
    assert ids is not None
    return ids


def replay_logits(case: Case, model: FlexARGenerator, condition: Condition) -> None:
    """Teacher-forced logits with and without the condition, and the loss they give."""
    ids = case.input("ids")
    tokens = Tokens(layout=model.layout, ids=ids)
    with torch.no_grad():
        for name, c in (("logits", condition), ("logits_uncond", condition.null())):
            case.close(name, model(tokens, c).logits_RBnV[0])
        objective = FlexARObjective(model, None, FlexARObjectiveConfig()).eval()
        loss = objective((ids, condition), 0, torch.Generator()).total
    expected = F.cross_entropy(case.io["logits"].flatten(0, 1), ids.flatten())
    assert torch.allclose(loss, expected, rtol=1e-5)


def replay_classes(case: Case, model: FlexARGenerator) -> None:
    """Inputs, and generation with both readings of "no class"."""
    labels, scale = case.input("labels"), float(case.config["cfg_factor"])
    condition = Condition.of_classes(labels)
    with torch.no_grad():
        case.close("input_embeddings", model._inputs(case.input("ids")[:, :-1], labels))
    replay_logits(case, model, condition)
    quirky = with_quirks(model)
    case.equal("greedy_nocfg", greedy(model, condition, 1.0))
    case.equal("greedy_cfg", greedy(quirky, condition, scale))
    case.equal("greedy_cfg_fixed", greedy(model, condition, scale))
    case.equal("greedy_cfg_prefix", greedy(quirky, condition, scale, budget=case.io["greedy_cfg_prefix"].shape[1]))


def replay_texts(case: Case, model: FlexARGenerator) -> None:
    """The text MLP, and generation; the last stored text is the empty one."""
    features, mask = case.input("text_features"), case.input("text_mask").bool()
    condition = Condition(
        classes=torch.full((len(features) - 1,), -1),
        text=features[:-1],
        text_mask=mask[:-1],
        empty_text=features[-1:],
        empty_mask=mask[-1:],
    )
    with torch.no_grad():
        case.close("text_embeddings", model.text_projection(features[:-1]))
    replay_logits(case, model, condition)
    case.equal("greedy_nocfg", greedy(model, condition, 1.0))
    case.equal("greedy_cfg", greedy(model, condition, float(case.config["cfg_factor"])))


def replay_flexar(case: Case) -> None:
    """A class- or text-conditioned case."""
    model = generator_of(case)
    (replay_texts if model.needs_text else replay_classes)(case, model)


REPLAYERS = {"flextok_ar": replay_flexar}
