"""Proves that token statistics have the reference values, in every `metrics/tokens` folder below the golden roots."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smalti.eval.token_stats.collector import TokenStatistics
from smalti.eval.token_stats.summary import TokenSummary
from smalti.tokens import Segment, TokenLayout, Tokens
from tests.eval.account import Account, parts, require


@pytest.fixture(params=require(parts("tokens")), scope="module")
def account(request: pytest.FixtureRequest) -> Account:
    """The account of one folder."""
    folder: Path | None = request.param
    assert folder is not None, "no golden tokens were found"
    return Account(folder)


@pytest.mark.parametrize("batch", [7, 64])
def test_every_value(account: Account, batch: int) -> None:
    """Whatever the batch size; tolerance 1e-9, compressors 1 %."""
    account = Account(account.folder)
    grid, vocab = account.values["grid"], account.values["K"]
    ids = load_file(account.folder / "tokens.safetensors")["tokens"].flatten(1)
    layout = TokenLayout(segments=(Segment(shape=tuple(grid), vocab=vocab),), prefixes=(grid[0] * grid[1],))
    statistics = TokenStatistics(layout)
    for part in ids.split(batch):
        statistics.add(Tokens(layout=layout, ids=part), size=tuple(account.values["image_px"]))
    summary = statistics.summary()
    account.compare("N_images", summary.images)
    account.ignore("K|grid|image_px", "inputs")
    _codes(account, summary)
    _order(account, summary)
    _compression(account, summary, ids)
    account.settle()


def _codes(account: Account, summary: TokenSummary) -> None:
    ours = summary.codebooks[0]
    assert ours.zipf is not None and ours.zipf_likelihood is not None and ours.heaps is not None
    for pattern, value in (
        ("usage_fraction", ours.usage),
        ("used", ours.used),
        ("entropy_bits", ours.entropy_bits),
        ("entropy_bits_scipy", ours.entropy_bits),
        ("entropy_bits_miller_madow", ours.entropy_bits_miller_madow),
        (r"perplexity_.*", ours.perplexity),
        ("normalised_entropy.*", ours.normalized_entropy),
        ("mean_per_image_entropy_bits", ours.mean_image_entropy_bits),
        ("mean_per_image_distinct", ours.mean_image_distinct),
        ("gini", ours.gini),
        ("nominal_bpp.*", summary.nominal_bpp),
        ("entropy_bpp.*", summary.entropy_bpp),
        ("compression_ratio.*", summary.compression_ratio),
        ("per_position_entropy_bits_mean.*", summary.mean_position_entropy_bits),
        ("zipf_ols_loglog/slope", ours.zipf.slope),
        ("zipf_ols_loglog/intercept", ours.zipf.intercept),
        ("zipf_ols_loglog/r2", ours.zipf.r2),
        ("zipf_ols_lstsq_check", [ours.zipf.slope, ours.zipf.intercept]),
        ("zipf_mle_truncated_rank/neg_log_lik_nats", ours.zipf_likelihood.neg_log_likelihood),
        ("innovation_curve.*", ours.innovation),
        ("heaps_ols/beta", ours.heaps.slope),
        ("heaps_ols/logk", ours.heaps.intercept),
        ("images_to_90pct_of_used", ours.images_to_90_percent),
    ):
        account.compare(account.one(pattern), value, rtol=1e-9)
    # the reference stops a bounded search at 1e-5; its likelihood, compared above, is flat there
    account.compare("zipf_mle_truncated_rank/alpha", ours.zipf_likelihood.alpha, atol=3e-5)


def _order(account: Account, summary: TokenSummary) -> None:
    ours = summary.codebooks[0]
    runs = {r.n: r for r in ours.ngrams}
    for match in account.matching(r"(\d)gram_rows/(\w+)"):
        account.compare(match[0], getattr(runs[int(match[1])], match[2]), rtol=1e-9)
    across, down = ours.neighbors["horizontal"], ours.neighbors["vertical"]
    account.compare(account.one("mutual_information_horizontal.*"), across.mutual_information_bits, rtol=1e-9)
    account.compare(account.one("conditional_entropy_horizontal.*"), across.conditional_entropy_bits, rtol=1e-9)
    account.compare("fraction_equal_horizontal_neighbours", across.equal_share, rtol=1e-12)
    account.compare("fraction_equal_vertical_neighbours", down.equal_share, rtol=1e-12)


def _compression(account: Account, summary: TokenSummary, ids: torch.Tensor) -> None:
    ours = summary.codebooks[0]
    account.compare("huffman_bits_total", ours.huffman.total_bits)
    account.compare("huffman_bits_per_token", ours.huffman.bits_per_token, rtol=1e-12)
    account.compare(account.one("huffman_reduction.*"), ours.huffman.reduction, rtol=1e-9)
    account.compare(account.one("zlib9_bytes.*"), ours.zlib_bits_per_token * ids.numel() / 8, rtol=0.01)
    account.compare(account.one("lzma_bytes.*"), ours.xz_bits_per_token * ids.numel() / 8, rtol=0.01)
