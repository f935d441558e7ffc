"""Proves what is LlamaGen's own: grids of any size, unfinished grids, and when the terms of its loss begin."""

import pytest
import torch

from smalti.hub.families import family
from smalti.nn.discriminator import PatchDiscriminator
from smalti.tokenizers.llamagen.config import LlamaGenTokenizerConfig
from smalti.tokenizers.llamagen.objective import LlamaGenTokenizerObjective, LlamaGenTokenizerObjectiveConfig
from smalti.tokens import Tokens
from smalti.training.recipe import FamilyParts
from tests.tiny.llamagen import tiny_llamagen_tokenizer


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_any_multiple_of_the_stride():
    tokenizer = tiny_llamagen_tokenizer()
    tokens = tokenizer.encode(images(24, 40))
    assert tokens.layout == tokenizer.layout((24, 40))
    assert tokens.layout.segments[0].shape == (6, 10)
    assert tokenizer.decode(tokens).shape == (2, 3, 24, 40)
    assert tokenizer.decode(tokenizer.encode(images(24, 24)), size=24).shape == (2, 3, 24, 24)
    with pytest.raises(ValueError, match="24x40 pixels only"):
        tokenizer.decode(tokens, size=24)
    with pytest.raises(ValueError, match="no decode options"):
        tokenizer.decode(tokens, options={"steps": 3})
    with pytest.raises(ValueError, match="multiples of 4"):
        tokenizer.layout(30)


def test_preview_of_an_unfinished_grid():
    tokenizer = tiny_llamagen_tokenizer()
    tokens = tokenizer.encode(images(16, 16))
    assert tokens.ids is not None
    begun = Tokens(layout=tokens.layout, ids=tokens.ids[:, :6].clone())
    shown = tokenizer.preview(begun)
    assert shown.shape == (2, 3, 16, 16)
    assert (shown[..., 8:, :] == 0.5).all()  # rows 2 and 3 of the grid
    assert (shown[..., 4:8, 8:] == 0.5).all()
    assert (shown[..., :4, :] != 0.5).any()
    known = torch.arange(16) < 6
    assert torch.equal(tokenizer.preview(tokens, known.expand(2, -1)), shown)
    assert torch.equal(tokenizer.preview(tokens), tokenizer.decode(tokens))


def test_terms_of_the_loss():
    tokenizer, rng = tiny_llamagen_tokenizer().train(), torch.Generator()
    batch = images(32, 32)
    config = LlamaGenTokenizerObjectiveConfig(perceptual=2.0, adversarial=0.5, adversarial_start=0.05)
    with pytest.raises(ValueError, match="needs a perceptual network"):
        LlamaGenTokenizerObjective(tokenizer, config)

    def perceptual(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean((1, 2, 3))

    discriminator = PatchDiscriminator(width=4)
    objective = LlamaGenTokenizerObjective(tokenizer, config, perceptual=perceptual, discriminator=discriminator)  # type: ignore[arg-type]
    early = objective(batch, 0, rng)
    assert early.adversarial is None
    parts = early.parts
    expected = parts["mse"] + parts["codebook"] + parts["commitment"] + 2 * parts["perceptual"]
    assert float(early.total.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert parts["l1"] == pytest.approx(float(parts["perceptual"]))
    assert 0 < parts["usage"] <= 1
    objective.progress = 0.05
    late = objective(batch, 0, rng)
    assert late.adversarial is not None
    assert float(late.total.detach()) == pytest.approx(
        float(expected + 0.5 * late.parts["adversarial"]), rel=1e-3, abs=1e-4
    )


def test_recipes_find_the_objective():
    parts = FamilyParts(family("tokenizer", "llamagen"))
    assert parts.objective is LlamaGenTokenizerObjective
    assert parts.objective_config is LlamaGenTokenizerObjectiveConfig


def test_configs_that_cannot_be_are_refused():
    for changes, words in (
        ({"decoder_multipliers": (1, 2)}, "equally many levels"),
        ({"channels": 24}, "32 groups"),
        ({"image_size": 250}, "multiple of 16"),
    ):
        with pytest.raises(ValueError, match=words):
            LlamaGenTokenizerConfig(**changes)
