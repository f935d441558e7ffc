"""Proves what pixel metrics refuse, how means treat identical pairs, and that bits are counted from the layout."""

import math

import pytest
import torch

from smalti.eval.bootstrap import mean_interval
from smalti.eval.pixel import bits_per_pixel, capped, psnr, ssim
from smalti.tokens import TokenLayout, Tokens


def test_values_do_not_depend_on_the_batch() -> None:
    """One image alone, in a batch, or in another order: the same value."""
    a, b = torch.rand(4, 3, 20, 24), torch.rand(4, 3, 20, 24)
    for metric in (psnr, ssim):
        whole = metric(a, b)
        alone = torch.cat([metric(a[i : i + 1], b[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(whole, alone, rtol=0, atol=1e-12)
        torch.testing.assert_close(metric(a.flip(0), b.flip(0)), whole.flip(0), rtol=0, atol=1e-12)


def test_identical_pairs_enter_means_at_the_cap() -> None:
    """inf would spoil every mean."""
    x = torch.rand(1, 3, 12, 12)
    assert capped(psnr(x, x)).tolist() == [100.0]


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_is_refused(metric) -> None:
    """Other shapes are not resized, integers not scaled."""
    x = torch.rand(1, 3, 12, 12)
    with pytest.raises(ValueError, match="differ in shape"):
        metric(x, x[..., :11])
    with pytest.raises(ValueError, match="uint8"):
        metric(x, (x * 255).to(torch.uint8))
    with pytest.raises(ValueError, match="float images"):
        metric(x[0], x[0])


def test_ssim_refuses_images_below_its_window() -> None:
    """There would be no window position to average."""
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(torch.rand(1, 3, 10, 30), torch.rand(1, 3, 10, 30))


def test_bits_per_pixel_counts_what_is_kept() -> None:
    """log2(vocabulary) for every token of the prefix, over the pixels of the source."""
    layout = TokenLayout.scales((1, 2, 4), vocab=2048)
    tokens = Tokens(layout=layout, ids=torch.zeros(2, 21, dtype=torch.int64))
    assert bits_per_pixel(tokens, (64, 64)).tolist() == [21 * 11 / 4096] * 2
    assert bits_per_pixel(tokens.prefix([1, 5]), (64, 64)).tolist() == [11 / 4096, 55 / 4096]


def test_interval_covers_the_mean_at_its_level() -> None:
    """About 95 of 100 intervals over samples of a known distribution hold its mean."""
    rng = torch.Generator().manual_seed(0)
    hits = 0
    for i in range(300):
        interval = mean_interval(torch.randn(60, generator=rng, dtype=torch.float64) * 3 + 20, seed=i)
        hits += interval.low <= 20 <= interval.high
    assert 0.90 <= hits / 300 <= 0.98


def test_interval_is_seeded_and_honest_about_one_image() -> None:
    """The same seed gives the same interval; one image has no spread; nothing and inf are refused."""
    values = torch.rand(20)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)
    one = mean_interval(torch.tensor([7.0]))
    assert (one.value, one.low, one.high, one.n) == (7, 7, 7, 1)
    for bad in (torch.tensor([]), torch.tensor([math.inf, 1.0])):
        with pytest.raises(ValueError, match="finite"):
            mean_interval(bad)
