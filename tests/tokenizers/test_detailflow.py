"""Proves what the goldens leave open: the published resolution tables, images of one batch with different numbers of
tokens, smaller images, the authors' config files, and the draws of the objective.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smalti.hub.keymap import to_ours
from smalti.tokenizers.detailflow.config import PUBLISHED, TowerConfig, from_authors
from smalti.tokenizers.detailflow.objective import (
    DetailFlowTokenizerObjective,
    DetailFlowTokenizerObjectiveConfig,
    degrade,
)
from smalti.tokenizers.detailflow.resolution import Resolutions
from smalti.tokenizers.detailflow.weights import key_map
from tests.tiny.detailflow import tiny_detailflow, tiny_detailflow_objective

MAPS = json.loads(
    (Path(__file__).parents[1] / "goldens/detailflow_tokenizer/resolution_maps_published.json").read_text()
)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_tables_and_config_files(variant):
    """The authors' table of every published model, from the config that their own file describes."""
    stored = MAPS[f"DetailFlow-{variant}"]
    config = from_authors(stored["args"], {"degradation_power": 1.5, "min_image_size": 256, "lr": 1e-4})
    assert config == PUBLISHED[variant]
    ours = Resolutions(config)
    for name, table in (
        ("token2res", ours.resolution),
        ("token2dec_res", ours.side),
        ("token2dec_out_res", ours.side),
        ("decres2besttoken", ours.best),
    ):
        assert {int(k): v for k, v in stored[name].items()} == table
    assert stored["best_res"] == list(ours.best)


def test_config_files_are_data():
    """Unknown arguments and towers that nobody can build are refused; the switches of the constructor are read."""
    args = MAPS["DetailFlow-16"]["args"]
    with pytest.raises(ValueError, match="_target_"):
        from_authors({**args, "_target_": "os.system"})
    with pytest.raises(ValueError, match="siglip2_large"):
        from_authors({**args, "decoder_model": "siglip2_large"})
    small = from_authors({**args, "enc_pretrained": False, "causal_num": 16, "codebook_show_usage": False})
    assert small.encoder == TowerConfig(causal=True)
    assert (small.head_length, small.usage_window) == (16, 0)
    with pytest.raises(ValueError, match="100 tokens"):
        replace(small, tokens=100)


def test_batches_of_different_lengths():
    """One side for all, or an error; every image as if it were alone."""
    tokenizer = tiny_detailflow()
    tokens = tokenizer.encode(torch.rand(4, 3, 32, 32))
    assert {tokenizer.size_of(k) for k in tokens.layout.prefixes} == {8, 16, 24, 32}
    cut = tokens.prefix([4, 16, 1, 4])
    with pytest.raises(ValueError, match=r"1 tokens to 8, 4 tokens to 16, 16 tokens to 32 pixels\): pass size="):
        tokenizer.decode(cut)
    images = tokenizer.decode(cut, size=24)
    assert images.shape == (4, 3, 24, 24)
    for i in range(4):
        assert torch.allclose(images[i : i + 1], tokenizer.decode(cut[i], size=24), atol=1e-5)
    assert tokenizer.decode(cut[cut.lengths == 4]).shape == (2, 3, 16, 16)
    same_side = [k for k in tokens.layout.prefixes if tokenizer.size_of(k) == 32][:2]
    assert tokenizer.decode(tokens[:2].prefix(same_side)).shape == (2, 3, 32, 32)
    for size in (12, 40, 0):
        with pytest.raises(ValueError, match=f"multiples of 8 up to 32 pixels, got size={size}"):
            tokenizer.decode(tokens, size=size)
    with pytest.raises(ValueError, match="without options"):
        tokenizer.decode(tokens, options={"steps": 1})


def test_smaller_images_have_fewer_tokens():
    """They are a legal prefix that decodes to their own side; the published models take their one size."""
    tokenizer = tiny_detailflow()
    for side in (8, 16, 24):
        tokens = tokenizer.encode(torch.rand(2, 3, side, side))
        assert tokens.ids is not None
        assert tokens.ids.shape[1] == tokenizer.resolutions.best[side] < 16
        assert tokenizer.decode(tokens).shape == (2, 3, side, side)
    with pytest.raises(ValueError, match="takes 8x8 or 16x16 or 24x24 or 32x32 pixels, got 16x32"):
        tokenizer.encode(torch.rand(1, 3, 16, 32))
    fixed = tiny_detailflow(min_image_size=32)
    assert str(fixed.sizes) == "32x32 pixels"
    with pytest.raises(ValueError, match="takes 32x32"):
        fixed.encode(torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize("causal", [True, False])
def test_prefixes_do_not_depend_on_what_follows(causal):
    """Fewer queries give the same features where the encoder is causal, and only there; causal decoders decode."""
    tokenizer = tiny_detailflow()
    encoder = replace(tokenizer.config.encoder, causal=causal)
    tokenizer = tiny_detailflow(encoder=encoder, decoder=replace(tokenizer.config.decoder, causal=causal))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        whole, part = tokenizer.features(images, 16), tokenizer.features(images, 8)
    assert torch.allclose(whole[:, :8], part, atol=1e-5) == causal
    tokens = tokenizer.encode(images)
    assert tokenizer.decode(tokens.prefix(8), size=32).shape == images.shape


def test_training_parts_of_a_file_are_dropped_or_kept():
    """The frozen teacher is never loaded; the aligning network is where the config has one."""
    state = {
        "global_token_proj.0.weight": torch.ones(8, 4),
        "repa_model.visual_model.post_layernorm.bias": torch.ones(2),
    }
    config = tiny_detailflow().config
    assert set(to_ours(state, key_map(config))) == {"alignment.0.weight"}
    assert to_ours(state, key_map(replace(config, alignment=None))) == {}


def test_draws_of_the_objective():
    """Every draw is a legal cut and never makes the last group wrong; nothing is drawn in evaluation."""
    model = tiny_detailflow()
    objective = tiny_detailflow_objective(model)
    rng = torch.Generator().manual_seed(0)
    draws = [objective._draw(16, rng) for _ in range(500)]
    assert {count for count, _ in draws} == {1, 2, 3, 4, 8, 12, 16}
    for count, start in draws:
        assert (start is None) == (count == 1)
        assert start is None or start < (count if count <= 4 else count - 3)
        assert start is None or start < 4 or start % 4 == 0
    images = torch.rand(2, 3, 32, 32)
    first = objective.eval()(images, 0, rng).total
    assert torch.equal(first, objective(images, 1, rng).total)


def test_objective_needs_what_it_weighs():
    """A weight without its part is an error that says what to do."""
    plain = tiny_detailflow(alignment=None, self_correction=False)
    for config, words in (({"correction": 0, "alignment": 1}, "features="), ({}, "correction to 0")):
        with pytest.raises(ValueError, match=words):
            DetailFlowTokenizerObjective(plain, DetailFlowTokenizerObjectiveConfig(**config))
    config = DetailFlowTokenizerObjectiveConfig(correction=0, perceptual=1, perceptual_warmup=0.5)
    objective = DetailFlowTokenizerObjective(plain, config, perceptual=_Distance())
    images = torch.rand(1, 3, 8, 8)
    objective.progress = 0.25
    losses = objective.eval()(images, 0, torch.Generator())
    parts = losses.parts
    expected = parts["mse"] + 0.5 * parts["perceptual"] + parts["codebook"] + 0.25 * parts["commitment"]
    assert torch.allclose(losses.total, expected)


class _Distance(torch.nn.Module):
    """Stands for LPIPS, which takes no image below 32 pixels."""

    def forward(self, a, b):
        assert a.shape[-1] == b.shape[-1] == 32
        return (a - b).square().mean((1, 2, 3))


def test_degraded_images():
    """The area mean at the resolution, enlarged to whole patches."""
    images = torch.rand(1, 3, 32, 32)
    assert torch.allclose(degrade(images, 1, 1), images.mean((2, 3), keepdim=True), atol=1e-6)
    assert degrade(images, 9, 16).shape == (1, 3, 16, 16)
    assert torch.equal(degrade(images, 32, 32), images)


def test_ids_in_low_precision():
    """Ids are int64 and codes are compared in float32, also under autocast."""
    tokenizer = tiny_detailflow()
    images = torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = tokenizer.encode(images)
        assert tokenizer.decode(tokens).shape == images.shape
    assert tokens.ids is not None
    assert (tokens.ids == tokenizer.encode(images).ids).float().mean() > 0.5
