"""CLIP's text features: the context is filled as OpenAI's code fills it, whatever transformers does."""

from pathlib import Path

import pytest
import torch

from smalti.text.clip import CLIPText
from tests.tiny.clip import save_tiny_clip


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes it."""
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_the_context_is_filled_with_token_0(tiny_clip: Path) -> None:
    """Start, letters, end, zeros; a long text is cut and still ends with the end token."""
    clip = CLIPText.load(str(tiny_clip))
    start, end = clip.model.config.bos_token_id, clip.model.config.eos_token_id
    tokens = clip.tokens(["", "ab", "abcdefgh"])
    assert tokens[0].tolist() == [start, end, 0, 0, 0]
    assert tokens[1, 0] == start and tokens[1, 3:].tolist() == [end, 0]
    assert tokens[2, -1] == end


def test_features_are_the_models_last_hidden_state(tiny_clip: Path) -> None:
    """One for every place, padding included, and the same alone as in a batch."""
    clip = CLIPText.load(str(tiny_clip))
    features = clip.features(["", "ab"])
    assert features.shape == (2, 5, 12) and features.dtype == torch.float32
    expected = clip.model(input_ids=clip.tokens(["", "ab"])).last_hidden_state
    assert torch.equal(features, expected)
    assert torch.allclose(features[1:], clip.features(["ab"]), atol=1e-6)
