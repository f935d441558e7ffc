"""Proves that FID, KID, precision and recall, CMMD, Inception Score and FD-infinity have the reference values on stored
features, in every `metrics/features` folder below the golden roots."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smalti.eval.distances import fd_infinity, frechet_distance
from smalti.eval.inception_score import inception_score
from smalti.eval.kernel_distance import cmmd, gaussian, kid, kid_subsets, mmd2
from smalti.eval.manifold import manifold_scores
from smalti.eval.moments import statistics_of
from tests.eval.account import Account, parts, require

FOLDERS = parts("features")


@pytest.fixture(params=require(FOLDERS), scope="module")
def golden(request: pytest.FixtureRequest) -> tuple[Account, dict[str, torch.Tensor]]:
    """The account and the tensors of one folder."""
    folder: Path | None = request.param
    assert folder is not None, "no golden features were found"
    return Account(folder), load_file(folder / "features.safetensors")


def test_every_value(golden) -> None:
    """Each against its reference, to the tolerance of the notes."""
    account, tensors = golden
    fake, real = tensors["fake_features"], tensors["real_features"]
    _fid(account, tensors)
    _kid(account, fake, real)
    _manifold(account, fake, real)
    account.compare(account.one("cmmd/numpy f64"), cmmd(fake, real), rtol=1e-9)
    account.ignore("cmmd/cmmd-pytorch.*f32", "computed in float32, which loses three digits")
    _inception_score(account, tensors["logits"])
    _fd_infinity(account, fake, real)
    account.settle()


def _fid(account: Account, tensors: dict[str, torch.Tensor]) -> None:
    # Deficient: roots of eigenvalues that are zero but for rounding: 1.8e-9 off in one thread, 1.5e-11 in two.
    for case, pair, tight, loose in (("main", "", 1e-9, 1e-6), ("deficient", "deficient_", 1e-8, 1e-5)):
        names = ("deficient_fake", "deficient_real") if pair else ("fake_features", "real_features")
        a, b = (statistics_of(tensors[name]) for name in names)
        ours = frechet_distance(a, b, force=case == "deficient")
        account.ignore(f"fid/{case}/.* warnings", "warnings of other libraries")
        account.compare(account.one(f"fid/{case}/numpy.*canonical"), ours, rtol=tight)
        account.compare(f"fid/{case}/mean term ||dmu||^2", float((a.mean - b.mean).square().sum()), rtol=1e-12)
        account.compare(account.one(f"fid/{case}/piq.*"), ours, rtol=1e-5)
        for other in account.matching(f"fid/{case}/.*"):
            account.compare(other[0], ours, rtol=loose)


def _kid(account: Account, fake: torch.Tensor, real: torch.Tensor) -> None:
    (match,) = account.matching(r"kid/torch-fidelity\(subsets=(\d+),subset_size=(\d+),rng_seed=(\d+).*mean")
    draws = dict(zip(("subsets", "size", "seed"), map(int, match.groups()), strict=True))
    sigma = float(account.matching(r"kid/torch-fidelity rbf sigma=(\d+)/.*mean")[0][1])
    ours, rbf = (
        kid_subsets(fake, real, **draws),
        kid_subsets(fake, real, **draws, kernel=partial(gaussian, sigma=sigma)),
    )
    for pattern, value, tolerance in (
        (r"kid/torch-fidelity\(.*", ours, 1e-7),
        (r"kid/torch-fidelity same but float64.*", ours, 1e-7),
        (r"kid/torch-fidelity rbf.*", rbf, 1e-8),
    ):
        account.compare(account.one(f"{pattern}_mean"), value.mean, atol=tolerance)
        account.compare(account.one(f"{pattern}_std"), value.std, atol=tolerance)
    account.compare(account.one("kid/full-set unbiased.*"), kid(fake, real), rtol=1e-9)
    account.compare(account.one("kid/full-set biased.*"), mmd2(fake, real, unbiased=False), rtol=1e-9)
    for match in account.matching(r"kid/.* first (\d+) rows.*"):
        rows = int(match[1])
        account.compare(match[0], kid(fake[:rows], real[:rows]), rtol=1e-9)
    (match,) = account.matching(r"kid/clean-fid.*num_subsets=(\d+),max_subset_size=(\d+),np.random.seed\((\d+)\).*")
    draws = dict(zip(("subsets", "size", "seed"), map(int, match.groups()), strict=True))
    account.compare(match[0], kid_subsets(fake, real, **draws, first="real").mean, atol=1e-6)


def _manifold(account: Account, fake: torch.Tensor, real: torch.Tensor) -> None:
    for match in account.matching(r"prdc/.*k=(\d+).*/(precision|recall|f_score|density|coverage)"):
        ours = manifold_scores(fake, real, k=int(match[1])).to_dict()
        single = "torch-fidelity" in match[0]  # it divides in float32
        account.compare(match[0], ours[match[2]], atol=1e-6 if single else 1e-12)


def _inception_score(account: Account, logits: torch.Tensor) -> None:
    for match in account.matching(r"inception_score/torch-fidelity splits=(\d+)(.*)/inception_score_(mean|std)"):
        seed = 2020 if "shuffle seed 2020" in match[2] or int(match[1]) == 1 else None
        ours = inception_score(logits, splits=int(match[1]), shuffle_seed=seed)
        account.compare(match[0], getattr(ours, match[3]), atol=1e-9)
    (match,) = account.matching(r"inception_score/ADM rule: chunks of split_size=(\d+).*")
    ours = inception_score(logits, split_size=int(match[1]), shuffle_seed=None)
    account.compare(match[0], ours.mean, atol=1e-9)


def _fd_infinity(account: Account, fake: torch.Tensor, real: torch.Tensor) -> None:
    sizes = account.values["fd_infinity"]["n"]
    ours = fd_infinity(fake, real, smallest=sizes[0], points=len(sizes))
    account.compare("fd_infinity/n", ours.sizes)
    account.compare("fd_infinity/fd_n", ours.distances, rtol=1e-9)
    account.compare("fd_infinity/fd_inf", ours.value, rtol=1e-8)
    account.ignore("fd_infinity/rule", "words; the seed in them is our default")
