"""Replays the golden cases of VAR's tokenizer, VAR's transformer and CoDe through the public API and the key maps."""

import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Partial, Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.prediction import Categorical
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.var.config import VARConfig
from smalti.generators.var.model import VARGenerator
from smalti.generators.var.objective import VARObjective, VARObjectiveConfig
from smalti.generators.var.weights import key_map as generator_map
from smalti.hub.keymap import to_ours
from smalti.tokenizers.var.config import VARTokenizerConfig
from smalti.tokenizers.var.model import VARTokenizer
from smalti.tokenizers.var.objective import VARTokenizerObjective, VARTokenizerObjectiveConfig, quantize
from smalti.tokenizers.var.weights import key_map as tokenizer_map
from smalti.tokens import Tokens
from tests.replay.case import Case

SOFT = 2e-4
"""Tolerance of the notes for soft generation, whose temperature of 0.005 amplifies rounding from scale to scale."""


def tokenizer_of(args: dict, extra: dict, state: dict[str, Tensor]) -> VARTokenizer:
    """Our tokenizer with the case's weights."""
    config = VARTokenizerConfig(
        sides=args["v_patch_nums"],
        vocab=args["vocab_size"],
        latent_channels=args["z_channels"],
        channels=args["ch"],
        multipliers=extra["ch_mult"],
        res_blocks=extra["num_res_blocks"],
        refiners=args["share_quant_resi"],
        normalize=args["using_znorm"],
        residual_ratio=args.get("quant_resi", 0.5),
        commitment=args.get("beta", 0.25),
    )
    model = VARTokenizer(config)
    model.load_state_dict(to_ours(state, tokenizer_map(config)))
    return model.eval()


def generator_of(args: dict, vae: dict, state: dict[str, Tensor]) -> VARGenerator:
    """Our transformer with the case's weights."""
    config = VARConfig(
        depth=args["depth"],
        width=args["embed_dim"],
        heads=args["num_heads"],
        mlp_ratio=args["mlp_ratio"],
        sides=args["patch_nums"],
        vocab=vae["vocab_size"],
        latent_channels=vae["z_channels"],
        classes=args["num_classes"],
        shared_modulation=args["shared_aln"],
        normalize_attention=args["attn_l2_norm"],
        norm_eps=args["norm_eps"],
    )
    model = VARGenerator(config)
    model.load_state_dict(to_ours(state, generator_map(config)))
    return model.eval()


def replay_var_vqvae(case: Case) -> None:
    """Features, ids, partial sums, reconstructions, teacher-forcing input, training loss."""
    tokenizer = tokenizer_of(case.config["args"], case.config["extra_encoder_decoder"], case.weights)
    image = (case.input("image") + 1) / 2
    with torch.no_grad():
        case.close("encoder_out", tokenizer.encoder(image * 2 - 1))
        f = tokenizer.features(image)
        case.close("f", f)
        for k, (_, ids, f_hat) in enumerate(tokenizer.quantizer.scales(f)):
            case.equal(f"ids.{k}", ids)
            case.close(f"f_hat.{k}", f_hat)
    tokens = tokenizer.encode(image)
    assert tokens.ids is not None
    case.equal("ids.0", tokens.segment(0).flatten(1))
    for name in ("rec_from_ids", "rec_direct"):
        case.close(name, tokenizer.decode(tokens) * 2 - 1)
    case.close("rec_from_ids_scale0", tokenizer.decode(tokens.prefix(tokens.layout.prefixes[0])) * 2 - 1)
    inputs = tokenizer.feedback(len(tokens)).push_prefix(tokens.ids, len(tokens.layout.segments) - 1)
    assert inputs is not None
    case.close("var_input", inputs.detach())

    quantized = quantize(tokenizer.quantizer, f, tokenizer.config.commitment)
    case.close("train_forward_rec", tokenizer.decode_latents(quantized.decodable).detach() * 2 - 1)
    case.close("train_forward_vq_loss", quantized.loss.detach())
    objective = VARTokenizerObjective(tokenizer, VARTokenizerObjectiveConfig(l1=0, mse=0)).eval()
    case.close("train_forward_vq_loss", objective(image, 0, torch.Generator()).total.detach())


def run(
    tokenizer: VARTokenizer, stages: list[Stage], classes: Tensor, noise: Noise
) -> tuple[list[Partial], list[Tensor], Tensor]:
    """All steps of a generation, the guided logits of each, and the image."""
    logits: list[Tensor] = []
    condition = Condition.of_classes(classes)
    feedback = tokenizer.feedback(len(classes))
    partials = []
    with recorded(logits):
        for partial in decode(stages, condition, feedback=feedback, noise=noise):
            partials.append(partial)
    latents = partials[-1].feedback.latents()
    if latents is None:
        image = tokenizer.decode(Tokens(layout=tokenizer.layout(), ids=partials[-1].values.clone()))
    else:
        image = tokenizer.decode_latents(latents).clamp(0, 1).detach()
    return partials, logits, image


class recorded:
    """Notes the guided logits of every draw."""

    def __init__(self, into: list[Tensor]) -> None:
        self.into = into

    def __enter__(self) -> None:
        self.original = original = Categorical.guided
        into = self.into

        def guided(self: Categorical, guidance: Guidance, step: int, steps: int) -> Tensor:
            into.append(original(self, guidance, step, steps))
            return into[-1]

        Categorical.guided = guided  # type: ignore[method-assign]

    def __exit__(self, *error: object) -> None:
        Categorical.guided = self.original  # type: ignore[method-assign]


class AuthorsNoise(Noise):
    """The authors' draws: one torch generator for the whole batch, exponential races, one call per scale."""

    def __init__(self, seed: int, rows: int) -> None:
        super().__init__(range(rows))
        self.rng = torch.Generator().manual_seed(seed)

    def categorical(self, probs_BnV: Tensor, step: int) -> Tensor:
        """torch.multinomial over all rows at once."""
        return torch.multinomial(probs_BnV.flatten(0, 1), 1, generator=self.rng).view(probs_BnV.shape[:2])


class StoredGumbel(Noise):
    """Gumbel noise stored with the case."""

    def __init__(self, noise_BLV: Tensor, ends: tuple[int, ...]) -> None:
        super().__init__(range(len(noise_BLV)))
        self.stored, self.ends = noise_BLV, (0, *ends)

    def gumbel(self, step: int, shape: tuple[int, ...]) -> Tensor:
        """The stored numbers of the step."""
        return self.stored[:, self.ends[step] : self.ends[step + 1]]


def authors_guidance(cfg: float) -> Guidance:
    """The authors' cfg is the distance from 1 at the last scale of a linear ramp."""
    return Guidance(scale=1 + cfg, curve="linear")


def replay_var(case: Case) -> None:
    """Teacher-forced logits and loss; greedy, sampled and soft generation."""
    vae = case.config["vae_args"]
    tokenizer = tokenizer_of(vae, case.config["vae_extra"], case.part("vae."))
    model = generator_of(case.config["args"], vae, case.part("var."))
    label, ids = case.input("tf_label"), case.input("tf_target_ids")
    tokens = Tokens(layout=model.layout, ids=ids)
    condition = Condition.of_classes(label)
    with torch.no_grad():
        case.close("tf_input", tokenizer.feedback(len(ids)).push_prefix(ids, len(model.layout.segments) - 1))
        for name, c in (("tf_logits", condition), ("tf_logits_uncond", condition.null())):
            case.close(name, model(tokens, c, feedback=tokenizer.feedback(len(ids))).logits_RBnV[0])
    loss = VARObjective(model, tokenizer, VARObjectiveConfig())((ids, condition), 0, torch.Generator()).total
    case.close("tf_loss", loss.detach())

    for match in case.matching(r"gen_cfg(.+)\.ids"):
        stage = Stage(model=model, sampling=Sampling.greedy(), guidance=authors_guidance(float(match[1])))
        partials, logits, image = run(tokenizer, [stage], label, Noise.of(0, len(label)))
        case.equal(match[0], partials[-1].values)
        case.close(f"gen_cfg{match[1]}.image", image)
        if f"gen_cfg{match[1]}.logits_cfg" in case.io:
            case.close(f"gen_cfg{match[1]}.logits_cfg", torch.cat(logits, dim=1))

    cfg = float(case.note(r"more_smooth=True[^|]*?cfg=([\d.]+)"))
    noise = StoredGumbel(case.input("smooth.gumbel_noise"), model.layout.prefixes)
    soft = Sampling(soft=True)
    stage = Stage(model=model, sampling=soft, guidance=authors_guidance(cfg))
    _, logits, image = run(tokenizer, [stage], label, noise)
    case.close("smooth.logits_cfg", torch.cat(logits, dim=1), SOFT)
    case.close("smooth.image", image, SOFT)

    seed, top_k, top_p, cfg = case_sampling(case)
    stage = Stage(model=model, sampling=Sampling(top_k=top_k, top_p=top_p), guidance=authors_guidance(cfg))
    partials, _, image = run(tokenizer, [stage], label, AuthorsNoise(seed, len(label)))
    case.equal("sampled.ids", partials[-1].values)
    case.close("sampled.image", image)


def case_sampling(case: Case) -> tuple[int, int, float, float]:
    """Seed, top-k, top-p and cfg of the sampled run, which stand in the notes."""
    row = case.note(r"(\|\s*sampled\.ids.*)")
    values = [re.search(rf"{name}=([\d.]+)", row) for name in ("g_seed", "top_k", "top_p", "cfg")]
    seed, top_k, top_p, cfg = (float(v[1].rstrip(".")) for v in values if v)
    return int(seed), int(top_k), top_p, cfg


class CoDeNoise(AuthorsNoise):
    """The authors' refiner seeds anew and burns one draw per drafted scale on its own unguided distribution."""

    def __init__(self, seed: int, rows: int, handover: int, burn: "Burn") -> None:
        super().__init__(seed, rows)
        self.seed, self.handover, self.burn = seed, handover, burn

    def categorical(self, probs_BnV: Tensor, step: int) -> Tensor:
        """At the hand-over: a fresh generator, then the burnt draws."""
        if step == self.handover:
            self.rng.manual_seed(self.seed)
            for probs in self.burn.distributions():
                super().categorical(probs, step)
        return super().categorical(probs_BnV, step)


class Burn:
    """The refiner's unguided distributions of the drafted scales, from its own prefix pass."""

    def __init__(self, refiner: VARGenerator, tokenizer: VARTokenizer, classes: Tensor, sampling: Sampling) -> None:
        self.refiner, self.tokenizer, self.classes, self.sampling = refiner, tokenizer, classes, sampling
        self.ids: Tensor | None = None

    def distributions(self) -> Iterator[Tensor]:
        """One [B, n, V] per drafted scale."""
        assert self.ids is not None
        feedback = self.tokenizer.feedback(len(self.classes))
        scales = self.refiner.layout.starts.index(self.ids.shape[1])
        inputs = feedback.push_prefix(self.ids, scales - 1)
        logits = self.refiner.logits(inputs, Condition.of_classes(self.classes))
        for k in range(scales):
            part = logits[:, self.refiner.layout.starts[k] : self.refiner.layout.starts[k + 1]]
            yield F.softmax(self.sampling.filter(part, k), dim=-1)


def replay_code(case: Case) -> None:
    """Drafter and refiner: greedy pairs with their hand-over, the drafter alone, and a sampled pair."""
    vae = case.config["vae_args"]
    tokenizer = tokenizer_of(vae, case.config["vae_extra"], case.part("vae."))
    drafter = generator_of(case.config["drafter_args"], vae, case.part("draft."))
    refiner = generator_of(case.config["refiner_args"], vae, case.part("refine."))
    label, ends = case.input("label"), drafter.layout.prefixes
    greedy = Sampling.greedy()
    for settings in case.config["runs"]:
        handover, cfg = settings["draft_steps"], settings["cfg"]
        name = f"N{handover}_cfg{cfg:g}"
        guidance = authors_guidance(float(cfg))
        stages = [Stage(model=m, sampling=greedy, guidance=guidance) for m in (drafter, refiner)]
        first = Stage(model=drafter, sampling=greedy, guidance=guidance, until=handover)
        partials, logits, image = run(tokenizer, [first, stages[1]], label, Noise.of(0, len(label)))
        values = partials[-1].values
        case.equal(f"{name}.draft_ids", values[:, : ends[handover - 1]])
        case.equal(f"{name}.refine_ids", values[:, ends[handover - 1] :])
        case.close(f"{name}.refine_first_logits_cfg", logits[handover])
        case.close(f"{name}.image", image)
        hub = tokenizer.feedback(len(label))
        with torch.no_grad():
            case.close(f"{name}.token_hub", hub.push_prefix(values, handover))  # type: ignore[arg-type]
        case.close(f"{name}.f_hat_draft", hub.f_hat.detach())

    first_run = case.config["runs"][0]
    handover, guidance = first_run["draft_steps"], authors_guidance(float(first_run["cfg"]))
    alone = Stage(model=drafter, sampling=greedy, guidance=guidance)
    partials, _, image = run(tokenizer, [alone], label, Noise.of(0, len(label)))
    case.equal("drafter_alone.ids", partials[-1].values)
    case.close("drafter_alone.image", image)

    top_k, top_p, seed = (float(case.note(rf"sampled\.\*`[^;]*?{n}=([\d.]+\d)")) for n in ("top_k", "top_p", "g_seed"))
    temperature = tuple([1.1] * 7 + [1.0] * 3)
    sampling = Sampling(temperature=temperature, top_k=int(top_k), top_p=top_p, temperature_order="last")
    burn = Burn(refiner, tokenizer, label, sampling)
    noise = CoDeNoise(int(seed), len(label), handover, burn)
    stages = [Stage(model=m, sampling=sampling, guidance=guidance) for m in (drafter, refiner)]
    stages[0] = Stage(model=drafter, sampling=sampling, guidance=guidance, until=handover)
    feedback = tokenizer.feedback(len(label))
    for partial in decode(stages, Condition.of_classes(label), feedback=feedback, noise=noise):
        burn.ids = partial.values[:, : ends[handover - 1]].clone()
    values = partial.values
    case.equal("sampled.draft_ids", values[:, : ends[handover - 1]])
    case.equal("sampled.refine_ids", values[:, ends[handover - 1] :])
    case.close("sampled.image", tokenizer.decode(Tokens(layout=tokenizer.layout(), ids=values.clone())))


REPLAYERS = {"code": replay_code, "var": replay_var, "var_vqvae": replay_var_vqvae}
