"""Proves that a budget sweep scores what the tokenizer decodes, at the source size, against the paired thumbnail."""

import pytest
import torch
from torch.nn import functional as F

from smalti.eval.budgets import METRICS, budgets_of, sweep
from smalti.eval.pixel import psnr
from smalti.eval.thumbnail import thumbnails
from smalti.images import to_uint8
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import Segment, TokenLayout
from tests.tiny.var import tiny_var_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """16 px, budgets 1, 5, 14, 30, 5 bits a token."""
    return tiny_var_tokenizer()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Five 8-bit images."""
    torch.manual_seed(0)
    return to_uint8(torch.rand(5, 3, 16, 16)).float() / 255


def test_rows_hold_what_an_independent_computation_gives(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    """Encode once, cut, decode, round to 8 bits, PSNR; the difference is paired."""
    result = sweep(tokenizer, images, batch=2)
    assert [row.tokens for row in result.rows] == [1, 5, 14, 30]
    tokens = tokenizer.encode(images)
    for row in result.rows:
        decoded = to_uint8(tokenizer.decode(tokens.prefix(row.tokens))).float() / 255
        ours = psnr(images, decoded)
        small = to_uint8(thumbnails(images, row.bits).images).float() / 255
        comparison = row.metrics["psnr"]
        assert comparison.tokenizer.value == pytest.approx(float(ours.mean()), abs=1e-4)
        assert comparison.difference.value == pytest.approx(float((ours - psnr(images, small)).mean()), abs=1e-4)
        assert row.bits == 5 * row.tokens
        assert row.bpp == row.bits / 256
        assert row.thumbnail_bits <= row.bits
        assert (row.n, row.n_identical) == (5, 0)


def test_further_metrics_and_chosen_budgets(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    """A metric is a function of two batches; illegal budgets are refused before anything is decoded."""
    metrics = {**METRICS, "mae": lambda a, b: (a - b).abs().mean(dim=(1, 2, 3))}
    done: list[int] = []
    result = sweep(tokenizer, images, budgets=[5, 30], metrics=metrics, on_budget=done.append)
    assert done == [5, 30]
    expected = (images - result.reconstructions[0]).abs().mean()
    assert result.rows[0].metrics["mae"].tokenizer.value == pytest.approx(float(expected), abs=1e-6)
    with pytest.raises(ValueError, match="14 and 30"):
        sweep(tokenizer, images, budgets=[15])


def test_small_outputs_are_scored_at_the_source_size(images: torch.Tensor) -> None:
    """A tokenizer whose short prefixes decode to small images is enlarged bicubically before scoring."""

    class Half(torch.nn.Module):
        def __init__(self, inner: Tokenizer) -> None:
            super().__init__()
            self.inner = inner

        def encode(self, x: torch.Tensor):
            return self.inner.encode(x)

        def decode(self, tokens):
            return F.interpolate(self.inner.decode(tokens), (8, 8), mode="area")

    inner = tiny_var_tokenizer()
    result = sweep(Half(inner), images, budgets=[30])  # type: ignore[arg-type]
    small = F.interpolate(inner.decode(inner.encode(images)), (8, 8), mode="area")
    expected = to_uint8(F.interpolate(small, (16, 16), mode="bicubic").clamp(0, 1)).float() / 255
    torch.testing.assert_close(result.reconstructions[0], expected, rtol=0, atol=1.01 / 255)


def test_long_layouts_are_thinned_evenly_in_ratio() -> None:
    """At most `limit` budgets, the first and the last among them."""
    layout = TokenLayout(segments=(Segment(shape=(256,), vocab=64),), prefixes=tuple(range(1, 257)))
    chosen = budgets_of(layout, limit=9)
    assert chosen == [1, 2, 4, 8, 16, 32, 64, 128, 256]
