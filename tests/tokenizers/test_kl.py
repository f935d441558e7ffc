"""Proves that continuous tokens are what stock diffusers computes, scaled and shifted as each autoencoder's generators
expect it, at any size that is a multiple of its stride.
"""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL

from smalti.nn import dc_autoencoder
from smalti.nn.dc_autoencoder import DCAutoencoderConfig
from smalti.tokenizers.kl.config import PUBLISHED, from_diffusers
from smalti.tokenizers.kl.model import KLTokenizer
from smalti.tokenizers.kl.objective import KLObjective, KLObjectiveConfig
from smalti.tokenizers.windows import WindowedTokenizer
from smalti.tokens import Tokens
from tests.tiny.kl import DC, KL, SANA, tiny_kl

IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))

FACTS = {  # pixels per token, channels, scale, shift; None: only the published config.json says it
    "sd15": (8, 4, 0.18215, 0),
    "sd-ft-mse": (8, 4, 0.18215, 0),
    "sdxl": (8, 4, 0.13025, 0),
    "sd3": (8, 16, 1.5305, 0.0609),
    "flux": (8, 16, 0.3611, 0.1159),
    "flextok-vae-c4": (8, 4, None, 0),
    "flextok-vae-c8": (8, 8, None, 0),
    "flextok-vae-c16": (8, 16, None, 0),
    "dc-ae-f32c32-in": (32, 32, 0.3189, 0),
    "dc-ae-f64c128-in": (64, 128, None, 0),
    "dc-ae-f128c512-in": (128, 512, None, 0),
    "dc-ae-f32c32-mix": (32, 32, None, 0),
    "dc-ae-f64c128-mix": (64, 128, 0.4538, 0),
    "dc-ae-f128c512-mix": (128, 512, None, 0),
    "dc-ae-f32c32-sana": (32, 32, 0.41407, 0),
}


def stock_kl(**changes: object) -> AutoencoderKL:
    torch.manual_seed(3)
    settings = {"block_out_channels": (8, 16), "latent_channels": 4, "norm_num_groups": 4, "sample_size": 16}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    scales = {"scaling_factor": KL.scaling_factor, "shift_factor": KL.shift_factor}
    return AutoencoderKL(**{**settings, **blocks, **scales, **changes}).eval()  # type: ignore[arg-type]


def ours(stock: AutoencoderKL) -> KLTokenizer:
    config = from_diffusers({"_class_name": "AutoencoderKL", **stock.config})
    model = KLTokenizer(config).eval()
    model.autoencoder.net.load_state_dict(stock.state_dict())
    return model


def test_facts_of_every_published_autoencoder():
    assert FACTS.keys() == PUBLISHED.keys()
    for name, (stride, channels, scale, shift) in FACTS.items():
        inner = PUBLISHED[name].autoencoder
        assert (inner.stride, inner.latent_channels, inner.scaling_factor) == (stride, channels, scale), name
        assert getattr(inner, "shift_factor", 0) == shift, name


@pytest.mark.parametrize("quant", [True, False])
def test_tokens_and_pixels_are_those_of_stock_diffusers(quant):
    stock = stock_kl(use_quant_conv=quant, use_post_quant_conv=quant)
    tokenizer = ours(stock)
    tokens = tokenizer.encode(IMAGES)
    assert tokens.layout.segments[0].shape == (8, 12)
    with torch.no_grad():
        posterior = stock.encode(IMAGES * 2 - 1).latent_dist  # type: ignore[union-attr]
        expected = (posterior.mode() - 0.06) * 1.5  # by hand: shift, then scale
        assert torch.allclose(tokens.segment(0).movedim(-1, 1), expected, atol=1e-5)
        pixels = stock.decode(expected / 1.5 + 0.06).sample  # type: ignore[union-attr]
        assert torch.allclose(tokenizer.decode(tokens), (pixels / 2 + 0.5).clamp(0, 1), atol=1e-5)
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(7))
        sampled = tokenizer.encode(IMAGES, rng=torch.Generator().manual_seed(7))
        expected = (posterior.mean + posterior.std * noise - 0.06) * 1.5
        assert torch.allclose(sampled.segment(0).movedim(-1, 1), expected, atol=1e-5)


@pytest.mark.parametrize("config", [DC, SANA], ids=["dc", "sana"])
def test_deep_compression_is_that_of_stock_diffusers(config):
    tokenizer = tiny_kl(config)
    stock = AutoencoderDC(**dc_autoencoder.to_diffusers(config)).eval()
    stock.load_state_dict(tokenizer.autoencoder.net.state_dict())
    tokens = tokenizer.encode(IMAGES)
    with torch.no_grad():
        latents = stock.encode(IMAGES * 2 - 1).latent  # type: ignore[union-attr]
        assert torch.allclose(tokens.segment(0).movedim(-1, 1), latents * 0.3, atol=1e-5)
        pixels = stock.decode(latents).sample  # type: ignore[union-attr]
        assert torch.allclose(tokenizer.decode(tokens), (pixels / 2 + 0.5).clamp(0, 1), atol=1e-5)
    assert torch.equal(tokenizer.encode(IMAGES, rng=torch.Generator()).values, tokens.values)


def test_published_configs_survive_the_layout_of_diffusers():
    for name, config in PUBLISHED.items():
        inner = config.autoencoder
        if isinstance(inner, DCAutoencoderConfig):
            data = json.loads(json.dumps(dc_autoencoder.to_diffusers(inner)))
            data |= {"_class_name": "AutoencoderDC", "scaling_factor": inner.scaling_factor}
            assert from_diffusers(data, config.image_size) == config, name
    for change in ({"decoder_conv_act_fn": "silu"}, {"decoder_act_fns": ["relu"] * 6}, {"in_channels": 4}):
        with pytest.raises(ValueError, match=next(iter(change))):
            from_diffusers({**dc_autoencoder.to_diffusers(SANA), **change, "_class_name": "AutoencoderDC"})
    for change in ({"latents_mean": [0.1]}, {"up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]}):
        with pytest.raises(ValueError, match=next(iter(change))):
            from_diffusers({"_class_name": "AutoencoderKL", "block_out_channels": [8, 8], **change})


def test_an_unknown_scale_is_refused_in_words_that_help():
    unknown = (replace(KL, scaling_factor=None), replace(DC, scaling_factor=None))
    for inner in unknown:
        with pytest.raises(ValueError, match=r"scaling factor.*config\.json"):
            tiny_kl(inner).encode(IMAGES)


def test_wrong_sizes_and_latents_are_refused():
    with pytest.raises(ValueError, match="multiples of 4 pixels, got 18x16"):
        tiny_kl(DC).encode(torch.rand(1, 3, 18, 16))
    tokenizer = tiny_kl()
    tokens = Tokens(layout=tokenizer.layout(16), latents=torch.zeros(1, 64, 7))
    with pytest.raises(ValueError, match="4 channels, got 7"):
        tokenizer.decode(tokens)


def test_windows_bound_memory_and_change_little():
    tokenizer = tiny_kl(replace(KL, attention=False))
    windowed = WindowedTokenizer(tokenizer, window=32, overlap=16)
    images = torch.rand(1, 3, 48, 32, generator=torch.Generator().manual_seed(1))
    whole, parts = tokenizer.encode(images), windowed.encode(images)
    assert parts.layout == whole.layout
    assert (whole.values - parts.values).abs().mean() < 0.2 * whole.values.std()
    assert (tokenizer.decode(whole) - windowed.decode(whole)).abs().mean() < 0.05


def test_the_divergence_is_summed_over_an_image_and_shared_by_its_pixel_values():
    model = tiny_kl()
    losses = [
        KLObjective(model, KLObjectiveConfig(kl=weight))(IMAGES, 0, torch.Generator().manual_seed(0))
        for weight in (0.0, 2.0)
    ]
    mean, logvar = model.autoencoder.moments(IMAGES * 2 - 1).chunk(2, dim=1)  # type: ignore[operator]
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    expected = kl.sum() / len(IMAGES) / (3 * 16 * 24)
    assert torch.allclose(losses[1].total - losses[0].total, 2 * expected, rtol=1e-4)
