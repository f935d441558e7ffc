"""Proves that ADM's .npz files are read and written in batches as NumPy reads and writes them, and that others are
refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
import torch

from smalti.eval.distances import frechet_distance
from smalti.eval.moments import statistics_of
from smalti.eval.npz import (
    read_labels,
    read_samples,
    read_statistics,
    sample_shape,
    write_samples,
    write_statistics,
)


@pytest.fixture
def images() -> torch.Tensor:
    """Eleven images uint8 [11, 3, 6, 9]."""
    return torch.randint(0, 256, (11, 3, 6, 9), dtype=torch.uint8)


def test_round_trip_and_numpy(images: torch.Tensor, tmp_path: Path) -> None:
    """Written in batches, read by NumPy as uint8 NHWC, and read back in other batches."""
    labels = torch.arange(11)
    path = write_samples(tmp_path / "s.npz", images.split(4), 11, labels=labels)
    with np.load(path) as arrays:
        assert np.array_equal(arrays["arr_0"], images.permute(0, 2, 3, 1).numpy())
    assert sample_shape(path) == (11, 6, 9)
    batches = list(read_samples(path, batch=3))
    assert [len(b) for b in batches] == [3, 3, 3, 2] and torch.equal(torch.cat(batches), images)
    assert torch.equal(read_labels(path), labels)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_are_read(images: torch.Tensor, tmp_path: Path, save) -> None:
    """As guided-diffusion writes them, compressed or not."""
    save(tmp_path / "s.npz", images.permute(0, 2, 3, 1).contiguous().numpy())
    assert torch.equal(torch.cat(list(read_samples(tmp_path / "s.npz", batch=5))), images)
    assert read_labels(tmp_path / "s.npz") is None


def test_what_is_refused(images: torch.Tensor, tmp_path: Path) -> None:
    """Another array, dtype or count; a cut file; nothing is left behind."""
    np.savez(tmp_path / "other.npz", mu=np.zeros(3))
    with pytest.raises(ValueError, match=r"no array arr_0, where samples stand, but mu"):
        sample_shape(tmp_path / "other.npz")
    np.savez(tmp_path / "float.npz", np.zeros((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"float64 \[2, 4, 4, 3\]; allowed is uint8"):
        list(read_samples(tmp_path / "float.npz"))
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="object"):
        sample_shape(tmp_path / "objects.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(ValueError, match="not an .npz file"):
        sample_shape(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError):
        sample_shape(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match="12 images were announced, 11 came"):
        write_samples(tmp_path / "s.npz", images.split(4), 12)
    with pytest.raises(ValueError, match="all must be uint8"):
        write_samples(tmp_path / "s.npz", [images, images.float()], 22)
    assert not (tmp_path / "s.npz").exists()
    with pytest.raises(ValueError, match=r"use .*s.npz"):
        write_samples(tmp_path / "s.png", [images], 11)


def test_statistics_round_trip(tmp_path: Path) -> None:
    """mu, sigma, mu_s, sigma_s under ADM's names; the distance of a file to its own features is nil."""
    pool, spatial = statistics_of(torch.randn(30, 5)), statistics_of(torch.randn(30, 4))
    path = write_statistics(tmp_path / "ref.npz", pool, spatial)
    with np.load(path) as arrays:
        assert set(arrays.files) == {"mu", "sigma", "mu_s", "sigma_s", "n"}
    back = read_statistics(path)
    assert back.pool.n == 30 and back.spatial is not None
    assert frechet_distance(back.pool, pool) < 1e-9
    assert frechet_distance(back.spatial, spatial) < 1e-9


def test_reference_files_of_others(tmp_path: Path) -> None:
    """ADM's files do not say how many images; a file without statistics is named with what it holds."""
    np.savez(tmp_path / "adm.npz", mu=np.zeros(3, np.float32), sigma=np.eye(3))
    found = read_statistics(tmp_path / "adm.npz")
    assert found.pool.n is None and found.spatial is None
    assert frechet_distance(found.pool, found.pool) < 1e-12
    np.savez(tmp_path / "s.npz", np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="no mu and sigma, but arr_0"):
        read_statistics(tmp_path / "s.npz")
    np.savez(tmp_path / "bad.npz", mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(ValueError, match=r"\[3\] and \[2, 2\]"):
        read_statistics(tmp_path / "bad.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="text.npz"):
        read_statistics(tmp_path / "text.npz")
