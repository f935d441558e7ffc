"""Proves what is LaVIT's own: pixels equal those of the stock SD-1.5 and SDXL pipelines of diffusers with the same
embeddings, time ids, negatives and latents; the number of tokens; attention by a policy; codes that follow averages;
the training of the pixel decoder.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import Tensor

from smalti.hub import load
from smalti.hub.keymap import to_official
from smalti.nn.rendering import draw_noise, noise_sources
from smalti.tokenizers.lavit.dynamic import decide, policies, policy_attention
from smalti.tokenizers.lavit.llm import llm_features
from smalti.tokenizers.lavit.model import LaVITTokenizer
from smalti.tokenizers.lavit.objective import (
    LaVITObjective,
    LaVITObjectiveConfig,
    LaVITPixelObjective,
    LaVITPixelObjectiveConfig,
)
from smalti.tokenizers.lavit.pixels import LaVITOptions
from smalti.tokenizers.lavit.weights import constants, key_map
from smalti.tokens import PAD, Tokens
from tests.tiny.lavit import EMPTY, images, tiny_lavit


def seeded(seed: int = 7) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def stock(tokenizer: LaVITTokenizer) -> Any:
    """The pipeline of diffusers around the same models, without its text encoders."""
    draw = tokenizer.pipeline
    models = {"unet": draw.unet, "vae": draw.vae, "scheduler": draw.scheduler}
    if tokenizer.config.pooled:
        none = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
        pipeline = StableDiffusionXLPipeline(**models, **none, add_watermarker=False)  # type: ignore[arg-type]
    else:
        none = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
        pipeline = StableDiffusionPipeline(**models, **none, requires_safety_checker=False)  # type: ignore[arg-type]
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def start(tokenizer: LaVITTokenizer, size: tuple[int, int]) -> Tensor:
    """The latents that two images start from with `seeded()`."""
    return draw_noise(noise_sources(2, seeded()), tokenizer.pipeline.latent_shape(size), torch.zeros(1))


def check(ours: Tensor, theirs: Tensor) -> None:
    """Equal to 1e-5, and not because everything is clamped."""
    assert ours.std() > 0.02
    assert ((ours > 0) & (ours < 1)).float().mean() > 0.5
    assert (ours - theirs).abs().max() <= 1e-5


@pytest.mark.parametrize(("scale", "size", "original"), [(5.0, (16, 16), None), (1.0, (24, 16), (32, 40))])
def test_highres_pixels_are_those_of_the_stock_pipeline(scale: float, size: Any, original: Any) -> None:
    """Context, pooled context, time ids and zeros as negatives; a picture that is not square; no guidance."""
    tokenizer = tiny_lavit("highres")
    tokens = tokenizer.encode(images(2))
    options = LaVITOptions(steps=3, guidance_scale=scale, size=size, original_size=original)
    with torch.no_grad():
        context = tokenizer.context(tokens)
        assert context.pooled is not None
        theirs = stock(tokenizer)(
            prompt_embeds=context.tokens,
            pooled_prompt_embeds=context.pooled,
            negative_prompt_embeds=torch.zeros_like(context.tokens),
            negative_pooled_prompt_embeds=torch.zeros_like(context.pooled),
            height=size[0],
            width=size[1],
            original_size=original,
            num_inference_steps=3,
            guidance_scale=scale,
            latents=start(tokenizer, size),
            output_type="pt",
        ).images
    check(tokenizer.decode(tokens, options=options, rng=seeded()), theirs)


@pytest.mark.parametrize(("scale", "masked"), [(7.0, True), (7.0, False), (1.0, False)])
def test_lowres_pixels_are_those_of_the_stock_pipeline(scale: float, masked: bool) -> None:
    """The empty prompt as negative, padded and masked, or as long as the context; no guidance."""
    tokenizer = tiny_lavit("lowres")
    draw = tokenizer.pipeline
    tokens = tokenizer.encode(images(2))
    with torch.no_grad():
        context = tokenizer.context(tokens).tokens
        assert draw.empty is not None and len(draw.empty) == EMPTY
        if not masked:
            draw.empty = torch.randn(context.shape[1:], generator=seeded())
        negative = torch.zeros_like(context)
        negative[:, : len(draw.empty)] = draw.empty
        pipeline = stock(tokenizer)
        mask = torch.ones(4, context.shape[1], dtype=torch.bool)
        mask[:2, len(draw.empty) :] = False
        handle = draw.unet.register_forward_pre_hook(  # the stock pipeline has no mask of its own
            lambda _, args, kwargs: (args, {**kwargs, "encoder_attention_mask": mask} if masked else kwargs),
            with_kwargs=True,
        )
        theirs = pipeline(
            prompt_embeds=context,
            negative_prompt_embeds=negative,
            height=16,
            width=16,
            num_inference_steps=3,
            guidance_scale=scale,
            latents=start(tokenizer, (16, 16)),
            output_type="pt",
        ).images
        handle.remove()
    check(tokenizer.decode(tokens, options=LaVITOptions(steps=3, guidance_scale=scale), rng=seeded()), theirs)


def test_padding_of_the_empty_prompt_is_not_seen() -> None:
    """The masked rows of the UNet equal a pass with the empty prompt alone."""
    tokenizer = tiny_lavit("lowres")
    draw, context = tokenizer.pipeline, tokenizer.context(tokenizer.encode(images(2)))
    x, t = start(tokenizer, (16, 16)), torch.tensor(500)
    assert draw.empty is not None
    with torch.no_grad():
        both = draw.unet(torch.cat([x, x]), t, **draw.conditions(context, (16, 16), None, null=True)).sample
        alone = draw.unet(x, t, encoder_hidden_states=draw.empty.expand(2, -1, -1)).sample
    assert (both[:2] - alone).abs().max() < 1e-5


def test_options_and_sizes_that_do_not_fit_are_refused() -> None:
    """Each says what is allowed."""
    tokenizer = tiny_lavit()
    tokens = tokenizer.encode(images(2))
    for arguments, words in (
        ({"options": 3}, "LaVITOptions"),
        ({"size": 16, "options": LaVITOptions(size=(16, 16))}, "same thing"),
        ({"size": 15}, "multiples of 2"),
    ):
        with pytest.raises(ValueError, match=words):
            tokenizer.decode(tokens, **arguments)
    with pytest.raises(ValueError, match="at least 1"):
        LaVITOptions(steps=0)
    nothing = Tokens(layout=tokens.layout, ids=torch.full((1, 1), PAD), lengths=torch.tensor([0]))
    with pytest.raises(ValueError, match="at least one token"):
        tokenizer.decode(nothing)
    with pytest.raises(ValueError, match="llm_width"):
        llm_features(tokenizer, images(1))
    with pytest.raises(OSError, match="nowhere"):
        tiny_lavit(pixels="/nowhere/at/all").decode(tokens)


def test_the_number_of_tokens_depends_on_the_image() -> None:
    """Without a generator always the same tokens; with one, draws that its seed repeats."""
    tokenizer = tiny_lavit()
    batch = images(8)
    lengths = tokenizer.encode(batch).lengths
    assert len(set(lengths.tolist())) > 1
    draws = [tokenizer.encode(batch, rng=seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0].ids, draws[1].ids)  # type: ignore[arg-type]
    assert not torch.equal(draws[0].lengths, draws[2].lengths)


def test_three_official_files_make_one_model(tmp_path: Path) -> None:
    """The encoder's file is loaded; the transformer's and the decoder's are found beside it under their names."""
    tokenizer = tiny_lavit()
    official = to_official(tokenizer.state_dict(), key_map(tokenizer.config), constants(tokenizer.config))
    files = {
        "encoder.": "eva_vitg_psz14.bin",
        "tokenizer_decoder.": "highres_tokenizer_decoder.bin",
        "": "tokenizer_encoder.bin",
    }
    for prefix, name in files.items():
        part = {k: official.pop(k) for k in list(official) if k.startswith(prefix)}
        torch.save({k.removeprefix(prefix): v for k, v in part.items()}, tmp_path / name)
    loaded = load(tmp_path / "tokenizer_encoder.bin", like="lavit/highres", config=tokenizer.config)
    assert isinstance(loaded, LaVITTokenizer)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in tokenizer.state_dict().items())
    assert torch.equal(loaded.encode(images(2)).ids, tokenizer.encode(images(2)).ids)  # type: ignore[arg-type]
    (tmp_path / "eva_vitg_psz14.bin").unlink()
    with pytest.raises(OSError, match=r"encoder\.\* weights are in eva_vitg_psz14\.bin"):
        load(tmp_path / "tokenizer_encoder.bin", like="lavit/highres", config=tokenizer.config)


def test_ids_do_not_depend_on_autocast_where_features_do_not() -> None:
    """The selector and the match to codes compute in float32 inside an autocast region."""
    tokenizer = tiny_lavit()
    with torch.no_grad():
        features = tokenizer.features(images(2))
        keep = tokenizer.select(features)
        merged = tokenizer.merger(features, keep)
        tokens = tokenizer.tokens_of(merged, keep)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(tokenizer.select(features), keep)
            assert torch.equal(tokenizer.tokens_of(merged, keep).ids, tokens.ids)  # type: ignore[arg-type]
            options = LaVITOptions(steps=1)
            assert tokenizer.decode(tokenizer.encode(images(2)), options=options).dtype == torch.float32


def test_no_image_is_without_tokens() -> None:
    """Where every patch would be dropped, the most probable one stays; ties are kept, as argmax does."""
    logp = torch.tensor([[[-5.0, -0.1], [-2.0, -0.2], [-9.0, -0.1]], [[-0.7, -0.7], [-3.0, -0.1], [-0.1, -3.0]]])
    assert decide(logp).tolist() == [[False, True, False], [True, False, True]]
    noise = torch.zeros_like(logp)
    noise[0, 2, 0] = 20
    assert decide(logp, noise).tolist()[0] == [False, False, True]


def test_attention_by_a_policy() -> None:
    """Nothing allowed is the mean of all values; otherwise softmax over what is allowed, up to eps."""
    q, k, v = torch.randn(3, 2, 1, 5, 4, generator=seeded()).unbind(0)
    kept, dropped = policies(torch.tensor([[1, 0, 1, 0, 1], [1, 1, 1, 1, 1]]).bool())
    assert torch.allclose(policy_attention(q, k, v, dropped)[1], v.mean(dim=-2, keepdim=True)[1].expand(1, 5, 4))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=kept.bool())
    assert torch.allclose(policy_attention(q, k, v, kept), expected, atol=1e-4)
    assert kept[0, 0, 3].tolist() == [1, 0, 1, 1, 0]  # itself, and kept ones before it


def test_used_codes_follow_their_vectors_and_others_stay() -> None:
    """k-means fills the codebook at the first step; every step moves only what was used; length 1 all along."""
    tokenizer = tiny_lavit().train()
    before = tokenizer.codebook.detach().clone()
    objective = LaVITObjective(tokenizer, LaVITObjectiveConfig(decay=0.5))
    losses = objective(images(4), 0, seeded())
    started = tokenizer.codebook.detach().clone()
    assert not torch.equal(started, before)
    used = round(float(losses.parts["usage"]) * len(started))
    objective.after_step(0, seeded())
    moved = (tokenizer.codebook != started).any(dim=1)
    assert 0 < int(moved.sum()) <= used
    assert torch.allclose(tokenizer.codebook[moved].norm(dim=1), torch.ones(int(moved.sum())))
    plain = LaVITObjective(tokenizer, LaVITObjectiveConfig(quantize=False))(images(4), 0, seeded())
    assert "commitment" not in plain.parts


@pytest.mark.parametrize("variant", ["lowres", "highres"])
def test_the_pixel_decoder_learns(variant: str) -> None:
    """Gradients reach the whole UNet and the projections to its context, and nothing else."""
    tokenizer = tiny_lavit(variant)
    objective = LaVITPixelObjective(tokenizer, LaVITPixelObjectiveConfig(size=16, drop=0.5))
    for step in range(3):
        objective(images(4), step, seeded(step)).total.backward()
    dead = [n for n, p in objective.model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
    others = {n for n, p in tokenizer.named_parameters() if p.grad is not None}
    assert all(n.startswith(("decoder.to_context.", "decoder.pool.")) for n in others)
