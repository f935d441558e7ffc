"""Replays the golden cases of Ming-UniVision's flow head and generation through the public API and the key map."""

import re
from dataclasses import replace

import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.ming.config import MingConfig, from_authors
from smalti.generators.ming.model import AUTHORS_GUIDANCE, MingGenerator
from smalti.generators.ming.prompt import Prompt
from smalti.generators.ming.weights import key_map
from smalti.hub.keymap import to_ours
from smalti.tokenizers.mingtok.model import MingTok
from smalti.tokens import Choice
from tests.replay.case import Case
from tests.replay.mingtok import tokenizer_of

SAMPLE = r"sample_b(\d)(?:_(?:cfg|text)([\dp]+))?(?:_image([\dp]+))?(_renorm)?(?:_shift([\dp]+))?(?:_temp([\dp]+))?"
"""Settings in the names of the head's samples; what a name leaves out is the authors' default."""
SAMPLED = 5e-5
"""Tolerance of a drawn latent: many guided Euler steps through random weights amplify rounding (1e-6 in these cases, up
to 1.2e-5 with other random weights)."""


class StoredNoise(Noise):
    """The authors' draws [steps, C], the same for every image."""

    def __init__(self, values: Tensor) -> None:
        super().__init__([0])
        self.values = values

    def normal(self, step: int, shape: tuple[int, ...]) -> Tensor:
        return self.values[step].expand(1, *shape)


def generator_of(config: MingConfig, state: dict[str, Tensor]) -> MingGenerator:
    """Our model with the case's weights; a case of the head alone leaves the language model random."""
    model = MingGenerator(config)
    ours = to_ours(state, key_map(config))
    missing = set(model.load_state_dict(ours, strict=False).missing_keys)
    assert not missing or (missing == {k for k in model.state_dict() if k.startswith("language.")})
    return model.eval()


def replay_ming_head(case: Case) -> None:
    """Condition, velocity, input of the language model, and samples with every guidance."""
    args = case.config["args"]
    config = MingConfig(
        vocab=2, start_id=1, image_id=0, depth=1, experts=1, active_experts=1,
        width=args["hidden"],
        latent_channels=args["target_channels"],
        semantic_width=args["feature_dim"],
        flow_width=args["diffloss_w"],
        flow_depth=args["diffloss_d"],
        flow_ratio=args["mlp_mult"],
        flow_steps=args["num_sampling_steps"],
    )  # fmt: skip
    state = {k if k.startswith("linear_proj") else f"model.{k}": v for k, v in case.weights.items()}
    model = generator_of(config, state)
    with torch.no_grad():
        z = model.condition(case.input("hidden"))
        case.close("z", z)
        x, t, c = (case.input(f"net_{n}")[:, None] for n in "xtc")
        case.close("net_velocity", model.head(x, 1 - t, c)[:, 0])
        case.close("feat_embeds", model.feed(case.input("feat")))
    for match in case.matching(SAMPLE):
        branches, renormalize = int(match[1]), match[4] is not None
        scale, image_scale, shift, temperature = (_number(match[i]) for i in (2, 3, 5, 6))
        guidance = Guidance(
            scale=1.0 if branches == 1 else scale or AUTHORS_GUIDANCE.scale,
            image_scale=image_scale or AUTHORS_GUIDANCE.image_scale if branches == 3 else None,
            renormalize=renormalize,
        )
        model.config = replace(config, time_shift=shift or 1.0)
        with torch.no_grad():
            velocity = model.flow(z[:branches, None], branches=branches)
            noise, sampling = StoredNoise(case.input("noise")), Sampling(temperature=temperature or 1.0)
            drawn = velocity.draw(guidance, sampling, noise, step=0, steps=1).latents
        assert drawn is not None
        case.close(match[0], drawn[:, 0].expand(branches, -1), SAMPLED)


def _number(text: str | None) -> float | None:
    return float(text.replace("p", ".")) if text else None


def replay_ming_generation(case: Case) -> None:
    """The prompt, every token after the authors' own tokens, and the whole loop with its features and image."""
    start = case.input("start_id")
    ids = {"image_start_token": int(start), "image_patch_token": 0}
    fields = from_authors({**case.config["llm"], **ids}, case.config["head"])
    tokenizer = tokenizer_of(case.config["mingtok"], case.part("vision."))
    fields |= {"latent_channels": tokenizer.config.latent_channels, "semantic_width": tokenizer.config.semantic_width}
    config = MingConfig(**fields)
    model = generator_of(config, {k: v for k, v in case.weights.items() if not k.startswith("vision.")})
    prompt = prompt_of(case, torch.cat([case.input("prompt_ids"), start], dim=1))
    _prompt_states(case, model, prompt)

    found = re.search(r"text ([\d.]+), image ([\d.]+)", case.config["effective_cfg"])
    assert found and Guidance(scale=float(found[1]), image_scale=float(found[2])) == AUTHORS_GUIDANCE
    rows = len(case.io["latents"])
    guidance = AUTHORS_GUIDANCE if rows == 3 else replace(AUTHORS_GUIDANCE, image_scale=None)
    theirs = case.io["latents"][:1]
    for quirks, asked in (("fixed", guidance), ("authors", Guidance(scale=7.0)), ("authors", Guidance())):
        model.config = replace(config, quirks=quirks)
        stage = Stage(model=model, guidance=asked)
        latents = _after(stage, prompt, tokenizer, case.input("noise"), theirs)
        case.close("latents", latents.expand(rows, -1, -1), SAMPLED)
        _same_run(case, stage, prompt, tokenizer)
    with torch.no_grad():
        features = tokenizer.features_of(theirs)
        case.close("semantic", features.expand(rows, -1, -1))
        image = tokenizer.decode_latents(case.io["semantic"]).clamp(0, 1) * 2 - 1
    case.close("image", image)


def _after(stage: Stage, prompt: Prompt, tokenizer: MingTok, noise: Tensor, latents: Tensor) -> Tensor:
    """Every token as our model draws it after the given ones before it, [1, L, C]."""
    model, steps = stage.model, latents.shape[1]
    drawn = []
    with torch.inference_mode():
        branches = stage.guidance.branches(model.branches)
        state = model.begin(prompt, feedback=tokenizer.feedback(1), branches=branches)
        for i in range(steps):
            prediction = model.predict(state)
            choice = prediction.draw(stage.guidance, stage.sampling, StoredNoise(noise), step=i, steps=steps)
            drawn.append(choice.latents)
            model.accept(state, Choice(latents=latents[:, i : i + 1]))
    return torch.cat(drawn, dim=1)


def _same_run(case: Case, stage: Stage, prompt: Prompt, tokenizer: MingTok) -> None:
    """The loop on its own: it may differ from the authors' by ten times what 1e-5 more of start noise makes of it.

    Rounding grows from token to token: the authors' float32 run itself differs from one in float64 by 1e-4.
    """
    rows, runs = len(case.io["latents"]), []
    for more in (0.0, 1e-5):
        feedback, noise = tokenizer.feedback(1), StoredNoise(case.input("noise") * (1 + more))
        *_, last = decode([stage], prompt, feedback=feedback, noise=noise)
        features = feedback.latents()
        assert features is not None
        with torch.no_grad():
            image = tokenizer.decode_latents(features).clamp(0, 1) * 2 - 1
        runs.append({"latents": last.values, "semantic": features, "image": image})
    for name, ours in runs[0].items():
        moved = float((ours - runs[1][name]).abs().max() / case.io[name].abs().max().clamp_min(1))
        case.close(name, ours.expand(rows, *ours.shape[1:]), tolerance=max(1e-5, 10 * moved))


def prompt_of(case: Case, ids: Tensor) -> Prompt:
    """The prompt with the masks of the rows that the case was run with."""
    rows = len(case.io["latents"])
    masks = [case.input(f"{name}attention_mask").bool() for name in ("", "uncond_", "text_uncond_")]
    return Prompt(
        classes=torch.tensor([-1]),
        text=ids,
        text_mask=masks[0],
        null_mask=masks[1],
        text_null_mask=masks[2] if rows == 3 else None,
    )


def _prompt_states(case: Case, model: MingGenerator, prompt: Prompt) -> None:
    """The hidden states of the prompt, and the text logits that our model leaves out."""
    assert prompt.text is not None
    count = prompt.text.shape[1] - 1
    with torch.no_grad():
        x = model.language.embedding(prompt.text[:, :-1])
        mask = torch.ones(1, count, count, dtype=torch.bool).tril()
        hidden = model.language(x, model._rotations(count)[None], mask)
    case.close("prompt_hidden", hidden)
    case.close("prompt_logits", hidden @ case.weights["model.lm_head.weight"].T)


REPLAYERS = {"ming_head": replay_ming_head, "ming_generation": replay_ming_generation}
