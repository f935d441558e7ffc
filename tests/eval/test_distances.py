"""Proves what distances of feature sets refuse, that moments may be gathered in pieces and resumed, that nothing
depends on batches, order or blocks, and that features in a file survive a kill."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from smalti.eval import kernel_distance, manifold
from smalti.eval.distances import fd_infinity, frechet_distance
from smalti.eval.feature_file import FeatureFile
from smalti.eval.inception_score import inception_score
from smalti.eval.kernel_distance import cmmd, kid, kid_subsets
from smalti.eval.manifold import manifold_scores
from smalti.eval.moments import Moments, Statistics, statistics_of
from smalti.files import read_tensors, write_tensors


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of 300 and 260 rows of 12 features."""
    rng = torch.Generator().manual_seed(0)
    mix = torch.randn(12, 12, generator=rng)
    return torch.randn(300, 12, generator=rng) @ mix, torch.randn(260, 12, generator=rng) * 1.3 + 0.4


def test_resumed_moments_equal_one_pass(pair, tmp_path: Path) -> None:
    """Half of the rows, through a file, then the rest in other batches: the same FID to 1e-9, in any order of rows."""
    a, b = pair
    moments = Moments(12)
    for batch in a[:140].split(33):
        moments.update(batch)
    write_tensors(tmp_path / "state.safetensors", moments.to_tensors())
    resumed = Moments.from_tensors(read_tensors(tmp_path / "state.safetensors")[0])
    for batch in a[140:].split(7):
        resumed.update(batch)
    whole, real = frechet_distance(statistics_of(a), statistics_of(b)), statistics_of(b)
    assert resumed.n == 300
    assert frechet_distance(resumed.statistics(), real) == pytest.approx(whole, rel=1e-9)
    assert frechet_distance(statistics_of(a.flip(0)), real) == pytest.approx(whole, rel=1e-9)
    other = Moments(12)
    other.update(a[140:])
    moments.merge(other)
    assert frechet_distance(moments.statistics(), real) == pytest.approx(whole, rel=1e-9)
    torch.testing.assert_close(resumed.statistics().covariance, torch.from_numpy(np.cov(a.double().numpy().T)))


def test_identical_sets(pair) -> None:
    """No distance, and every image inside the other's manifold."""
    a, _ = pair
    assert frechet_distance(statistics_of(a), statistics_of(a)) < 1e-6
    assert kid(a, a) < 0 < kernel_distance.mmd2(a, a * 1.1, unbiased=False)  # unbiased: the diagonal of one term stays
    assert abs(cmmd(a, a)) < 1e-9
    scores = manifold_scores(a, a)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)


def test_known_gaussians() -> None:
    """Shifted means and scaled deviations have a distance in closed form."""
    a = Statistics(mean=torch.zeros(3).double(), covariance=torch.eye(3).double(), n=None)
    b = Statistics(mean=torch.full((3,), 2.0).double(), covariance=9 * torch.eye(3).double(), n=None)
    assert frechet_distance(a, b) == pytest.approx(3 * 4 + 3 * (3 - 1) ** 2)


def test_too_few_images_are_refused_unless_forced(pair) -> None:
    """The limit is the number of features plus one, on the smaller side."""
    a, b = pair
    real = statistics_of(b)
    assert frechet_distance(statistics_of(a[:13]), real) > 0
    with pytest.raises(ValueError, match=r"at least 13 images on both sides, got 12.*KID"):
        frechet_distance(statistics_of(a[:12]), real)
    with pytest.raises(ValueError, match="at least 13"):
        frechet_distance(real, statistics_of(a[:12]))
    assert frechet_distance(statistics_of(a[:12]), real, force=True) > 0
    with pytest.raises(ValueError, match="at least 13"):
        fd_infinity(a, b, smallest=12)


def test_what_is_refused(pair) -> None:
    """Other widths, NaN, single rows, subsets larger than the set."""
    a, b = pair
    with pytest.raises(ValueError, match="12 and 11"):
        frechet_distance(statistics_of(a), statistics_of(b[:, :11]))
    with pytest.raises(ValueError, match="NaN"):
        Moments(2).update(torch.tensor([[0.0, torch.nan]]))
    with pytest.raises(ValueError, match=r"\[N, 12\]"):
        Moments(12).update(b[:, :11])
    with pytest.raises(ValueError, match="at least 2 images"):
        statistics_of(a[:1])
    with pytest.raises(ValueError, match=r"subsets of 1000.*300 and 260"):
        kid_subsets(a, b)
    with pytest.raises(ValueError, match="needs more than k images"):
        manifold_scores(a[:3], b)
    with pytest.raises(ValueError, match="at least 10 images"):
        inception_score(torch.zeros(5, 3))


def test_blocks_change_nothing(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks give what one block gives."""
    a, b = pair
    whole = kid(a, b), manifold_scores(a, b, k=4)
    monkeypatch.setattr(kernel_distance, "BLOCK", 37)
    monkeypatch.setattr(manifold, "BLOCK", 41)
    assert kid(a, b) == pytest.approx(whole[0], rel=1e-12)
    assert manifold_scores(a, b, k=4) == whole[1]


def test_equal_points_lie_in_balls_of_no_radius() -> None:
    """k + 1 copies of a point have radius 0; a fake on the same point is inside, whatever its norm."""
    point = torch.randn(1, 2048, generator=torch.Generator().manual_seed(1)) * 30
    real = torch.cat([point.repeat(5, 1), torch.randn(5, 2048)])
    scores = manifold_scores(torch.cat([point.repeat(5, 1), torch.full((5, 2048), 99.0)]), real, k=3)
    assert scores.precision == 0.5
    assert scores.density == pytest.approx(5 * 5 / 10 / 3)


def test_feature_file_continues_after_a_kill(pair, tmp_path: Path) -> None:
    """Half a row at the end is dropped, rows beyond a run's record are cut, and reading needs no copy."""
    a, _ = pair
    file = FeatureFile(tmp_path / "a.f32", 12)
    file.append(a[:100])
    with (tmp_path / "a.f32").open("ab") as raw:
        raw.write(b"\0" * 23)
    again = FeatureFile(tmp_path / "a.f32", 12)
    assert len(again) == 100 and os.path.getsize(tmp_path / "a.f32") == 100 * 48
    again.cut(90)
    again.append(a[90:])
    assert torch.equal(again.features(), a)
    with pytest.raises(ValueError, match="300 rows of 12 features, 301 are expected"):
        again.cut(301)
    with pytest.raises(ValueError, match="finite features"):
        again.append(torch.full((1, 12), torch.inf))
    assert len(FeatureFile(tmp_path / "new.f32", 12).features()) == 0
