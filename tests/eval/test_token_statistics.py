"""Proves token statistics on layouts other than one grid against counting by hand, what continuous latents cost, and
that stability and gains tell apart tokenizers that are built to differ."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from smalti.eval.budgets import sweep
from smalti.eval.pixel import psnr
from smalti.eval.token_stats.collector import TokenStatistics
from smalti.eval.token_stats.compression import huffman
from smalti.eval.token_stats.counts import SparseCounts
from smalti.eval.token_stats.latents import latent_summary
from smalti.eval.token_stats.positions import position_gains
from smalti.eval.token_stats.stability import stability
from smalti.eval.token_stats.summary import TokenSummary
from smalti.tokens import Segment, TokenLayout, Tokens
from tests.toys import GridTokenizer, LatentTokenizer, TwoScaleTokenizer


def summary_of(layout: TokenLayout, ids: torch.Tensor, lengths: torch.Tensor | None = None) -> TokenSummary:
    statistics = TokenStatistics(layout)
    statistics.add(Tokens(layout=layout, ids=ids, lengths=lengths), size=(32, 32))  # type: ignore[arg-type]
    return statistics.summary()


def entropy(values: list) -> float:
    counts = Counter(values)
    total = sum(counts.values())
    return -sum(c / total * math.log2(c / total) for c in counts.values())


def test_segments_of_one_vocabulary_are_pooled_and_listed() -> None:
    """Two scales of 6 codes and a sequence of 9: two codebooks, three segments, runs inside segments only."""
    layout = TokenLayout(
        segments=(Segment(shape=(1, 2), vocab=6), Segment(shape=(2, 3), vocab=6), Segment(shape=(4,), vocab=9)),
        prefixes=(12,),
    )
    ids = torch.randint(0, 6, (20, 12), generator=torch.Generator().manual_seed(0))
    result = summary_of(layout, ids)
    grids, line = result.codebooks
    assert (grids.vocab, line.vocab) == (6, 9) and grids.segments == ["1x2", "2x3"] and line.segments == ["4"]
    assert grids.entropy_bits == pytest.approx(entropy(ids[:, :8].flatten().tolist()))
    assert [s.tokens for s in result.segments] == [40, 120, 80]
    across = [(a, b) for row in ids.tolist() for a, b in ((row[0], row[1]), *_pairs(row[2:5]), *_pairs(row[5:8]))]
    assert grids.ngrams[0].total == len(across) == 100
    assert grids.ngrams[0].entropy_bits == pytest.approx(entropy(across))
    assert grids.neighbors["vertical"].pairs == 60
    assert set(line.neighbors) == {"sequence"} and line.neighbors["sequence"].pairs == 60
    assert [r.total for r in line.ngrams] == [60, 40, 20]
    expected = 8 * math.log2(6) + 4 * math.log2(9)
    assert result.nominal_bits == pytest.approx(expected) and result.nominal_bpp == pytest.approx(expected / 1024)
    order0 = (8 * grids.entropy_bits + 4 * line.entropy_bits) / 1024
    assert result.entropy_bpp == pytest.approx(order0)
    for position in range(12):
        assert result.position_entropy_bits[position] == pytest.approx(entropy(ids[:, position].tolist()))


def _pairs(row: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(row))


def test_ragged_tokens_pay_for_their_length() -> None:
    """Only tokens that are there count; lengths cost log2 of what is legal."""
    layout = TokenLayout(segments=(Segment(shape=(4,), vocab=8),), prefixes=(4,), ragged=True)
    ids = torch.tensor([[1, 2, 3, -1], [1, 2, 3, 4], [5, -1, -1, -1]])
    result = summary_of(layout, ids, torch.tensor([3, 4, 1]))
    assert result.codebooks[0].tokens == 8 and result.codebooks[0].ngrams[0].total == 5
    assert result.length_code_bits == 2
    assert result.nominal_bits == pytest.approx(8 * 3 / 3 + 2)
    assert result.position_distinct == [2, 1, 1, 1]
    assert result.codebooks[0].innovation == [3, 4, 5]


def test_cut_sequences_of_one_length_pay_none() -> None:
    """All images cut after the same token: the length is known."""
    layout = TokenLayout.scales((1, 2), vocab=4)
    result = summary_of(layout, torch.tensor([[0], [3]]))
    assert result.length_code_bits == 0 and result.nominal_bits == 2
    assert [s.name for s in result.segments] == ["1x1"]


def test_constant_and_uniform_codes() -> None:
    """The ends of every scale."""
    layout = TokenLayout(segments=(Segment(shape=(4, 4), vocab=16),), prefixes=(16,))
    same = summary_of(layout, torch.full((3, 16), 7)).codebooks[0]
    assert (same.entropy_bits, same.perplexity, same.used, same.dead) == (0, 1, 1, 15)
    assert same.neighbors["horizontal"].equal_share == 1 and same.huffman.bits_per_token == 1
    assert same.gini == pytest.approx(15 / 16) and same.zipf is None
    each = torch.arange(16).repeat(3, 1)
    uniform = summary_of(layout, each).codebooks[0]
    assert uniform.normalized_entropy == pytest.approx(1) and uniform.gini == pytest.approx(0, abs=1e-12)
    assert uniform.huffman.reduction == pytest.approx(0)
    assert uniform.zipf is not None and uniform.zipf.slope == pytest.approx(0, abs=1e-12)
    assert uniform.images_to_90_percent == 1


def test_moran_is_that_of_one_hot_vectors() -> None:
    """Against its definition over all pairs of neighbors in both directions."""
    layout = TokenLayout(segments=(Segment(shape=(6, 7), vocab=3),), prefixes=(42,))
    ids = torch.randint(0, 3, (1, 42), generator=torch.Generator().manual_seed(1))
    ours = summary_of(layout, ids).codebooks[0].neighbors["horizontal"].moran
    onehot = torch.nn.functional.one_hot(ids.view(6, 7), 3).double()
    centered = onehot - onehot.mean(dim=(0, 1))
    cross = (centered[:, 1:] * centered[:, :-1]).sum(-1).mean()
    assert ours == pytest.approx(float(cross / centered.square().sum(-1).mean()))


def test_wide_vocabularies_are_counted_without_packing() -> None:
    """4-grams of 2^40 codes do not fit one integer; counts are the same."""
    rows = np.random.default_rng(0).integers(0, 3, (5000, 4)) * (2**40 // 3)
    wide, narrow = SparseCounts(4, 2**40), SparseCounts(4, 3)
    for part in np.array_split(rows, 7):
        wide.add(part)
        narrow.add(part // (2**40 // 3))
    assert np.array_equal(wide.counts(), narrow.counts())
    assert np.array_equal(wide.rows() // (2**40 // 3), narrow.rows())


def test_huffman_of_known_counts() -> None:
    """A textbook case: 5 9 12 13 16 45 takes 224 bits."""
    code = huffman(np.array([5, 9, 12, 13, 16, 45]), 64)
    assert code.total_bits == 224 and code.reduction == pytest.approx(1 - 224 / 600)


def test_what_is_refused() -> None:
    """Latents, another layout, damaged ids, nothing."""
    layout = TokenLayout(segments=(Segment(shape=(4,), vocab=8),), prefixes=(4,))
    statistics = TokenStatistics(layout)
    with pytest.raises(ValueError, match="no tokens were counted"):
        statistics.summary()
    with pytest.raises(ValueError, match="another layout"):
        statistics.add(Tokens(layout=TokenLayout.scales((2,), vocab=8), ids=torch.zeros(1, 4).long()), size=(8, 8))
    with pytest.raises(ValueError, match="out of range"):
        statistics.add(Tokens(layout=layout, ids=torch.full((1, 4), 8)), size=(8, 8))
    with pytest.raises(ValueError, match="no codes to count"):
        TokenStatistics(LatentTokenizer().layout())


def test_latents_cost_floats_or_bits() -> None:
    """Floats as they are; quantized, depth bits a value, and an entropy that is no larger."""
    tokenizer = LatentTokenizer()
    tokens = tokenizer.encode(torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    result = latent_summary(tokens, size=(8, 8))
    assert (result.floats_per_image, result.float_bits, result.float_bpp) == (48, 32, 24)
    assert [c.bpp for c in result.quantized] == [48 * d / 64 for d in range(2, 9)]
    assert all(c.entropy_bpp < c.bpp for c in result.quantized)
    gains = [b.snr_db - a.snr_db for a, b in pairwise(result.quantized)]
    assert all(3 < gain < 7 for gain in gains)
    with pytest.raises(ValueError, match="TokenStatistics"):
        latent_summary(GridTokenizer().encode(torch.rand(1, 3, 8, 8)), size=(8, 8))


def test_stability_tells_what_moves() -> None:
    """Codes of brightness stay under one gray level and jump when cells move; a second round changes nothing."""
    images = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(images[..., ::4, ::4], scale_factor=4.0)
    result = stability(GridTokenizer(), images, rounds=3)
    assert result.unchanged["plus one gray level"] > 0.9 and result.unchanged["minus one gray level"] > 0.9
    assert result.unchanged["mirrored"] < 0.7
    assert result.rounds_unchanged == [1, 1, 1] and len(set(result.rounds_psnr)) == 1
    latents = stability(LatentTokenizer(), images, rounds=1)
    assert latents.unchanged["plus one gray level"] > 0.99


def test_gains_along_the_sequence() -> None:
    """The second scale of a two-scale tokenizer brings what the sweep says, shared by its four tokens."""
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    result = sweep(TwoScaleTokenizer(), images, metrics={"psnr": psnr})
    (gain,) = position_gains(result)
    assert (gain.first, gain.last) == (1, 5)
    expected = float((result.values[1]["psnr"] - result.values[0]["psnr"]).mean())
    assert gain.gain.value == pytest.approx(expected) and gain.per_token == pytest.approx(expected / 4)
    with pytest.raises(ValueError, match="'lpips'"):
        position_gains(result, "lpips")
