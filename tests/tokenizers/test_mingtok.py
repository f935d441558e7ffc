"""Proves what is MingTok's own: incremental decoding with a cache equals the whole pass, oblong images, teachers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from smalti.tokenizers.mingtok.objective import MingTokObjective, MingTokObjectiveConfig
from smalti.tokens import Choice
from tests.tiny.mingtok import tiny_mingtok


@pytest.mark.parametrize("cuts", [(1,) * 16, (16,), (5, 1, 1, 6, 3)])
def test_features_token_by_token_equal_the_whole_pass(cuts: tuple[int, ...]) -> None:
    """One at a time, all at once, and in uneven pieces behind a known prefix."""
    tokenizer = tiny_mingtok(image_size=32)
    latents = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = tokenizer.features_of(latents)
    feedback = tokenizer.feedback(2)
    first = feedback.push_prefix(latents, cuts[0])
    assert first is not None
    assert torch.allclose(first, whole[:, : cuts[0]], atol=1e-5)
    for count in cuts[1:]:
        start = feedback.steps
        assert feedback.latents() is None, "an unfinished image is not decoded"
        pushed = feedback.push(start, Choice(latents=latents[:, start : start + count]))
        assert torch.allclose(pushed, whole[:, start : start + count], atol=1e-5)
    done = feedback.latents()
    assert done is not None
    assert torch.allclose(done, whole, atol=1e-5)
    assert torch.equal(done, feedback.history())  # type: ignore[arg-type]


def test_an_oblong_image_comes_back_in_its_own_shape() -> None:
    """And two halves of the picture are not mixed up: a change at the bottom moves no token above it."""
    tokenizer = tiny_mingtok()
    images = torch.rand(1, 3, 16, 40, generator=torch.Generator().manual_seed(1))
    tokens = tokenizer.encode(images)
    assert tokens.layout.segments[0].shape == (2, 5)
    assert tokenizer.decode(tokens).shape == images.shape
    features = torch.randn(1, 10, 128, generator=torch.Generator().manual_seed(2))
    cells = tokenizer.decoder.cells(features, (2, 5)).unflatten(1, (4, 10))
    features[:, 5:] = 0  # the second row of tokens
    changed = tokenizer.decoder.cells(features, (2, 5)).unflatten(1, (4, 10))
    assert torch.equal(cells[:, :2], changed[:, :2])
    assert not torch.equal(cells[:, 2:], changed[:, 2:])
    with pytest.raises(ValueError, match="40x16 pixels only|16x40 pixels only"):
        tokenizer.decode(tokens, size=16)


class Colors(nn.Module):
    """A teacher: the mean color of every patch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(images, 8).flatten(2).transpose(1, 2)


def test_masked_training_with_two_teachers_reaches_the_helpers() -> None:
    """Mask token and both heads get gradients; hidden pixels count for nothing."""
    tokenizer = tiny_mingtok().train()
    config = MingTokObjectiveConfig(hidden=0.5, low_level=1, low_level_width=3, semantic=1, semantic_width=3)
    objective = MingTokObjective(tokenizer, config, low_level_teacher=Colors(), semantic_teacher=Colors()).train()
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    losses = objective(images, 0, torch.Generator().manual_seed(0))
    losses.total.backward()
    assert set(losses.parts) >= {"l1", "low_level", "semantic"}
    assert objective.helpers is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.helpers.parameters())
    hidden = torch.tensor([[[True, False], [False, True]]])
    rec = torch.zeros(1, 3, 16, 16)
    rec[..., :8, :8] = rec[..., 8:, 8:] = 100.0
    visible = objective._visible(rec, torch.ones_like(rec), hidden)
    assert torch.isclose(visible.total, torch.tensor(1.0)), "the mean over the visible half, where the error is 1"
    with pytest.raises(ValueError, match="semantic_teacher"):
        MingTokObjective(tokenizer, MingTokObjectiveConfig(semantic=1, semantic_width=3))
