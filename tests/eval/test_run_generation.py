"""Proves that generated images are scored as said: samples are the model's own and resume after a kill, a set against
itself has distance 0, statistics of a file give the number of their images, and what cannot be measured says why.

A recipe network of Inception's shape stands for the published one, whose file cannot be committed.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from smalti.cli import main
from smalti.eval.distances import frechet_distance
from smalti.eval.moments import Moments
from smalti.eval.networks import expected_shapes
from smalti.eval.npz import (
    ReferenceStatistics,
    read_labels,
    read_samples,
    sample_shape,
    write_samples,
    write_statistics,
)
from smalti.eval.report.eval_page import page
from smalti.eval.run.chunks import Chunk, ChunkStore
from smalti.eval.run.evaluate import Settings
from smalti.eval.run.generation import evaluate_generation
from smalti.eval.run.image_sets import FolderSet, file_digest
from smalti.eval.run.result import METRICS, EvalResult, read_result
from smalti.eval.run.set_scores import KERNEL, Collected, collect, distances
from smalti.eval.run.sources import folder
from smalti.eval.run.tables import blocks
from smalti.hub import load
from smalti.images import read_images, to_uint8, write_image
from smalti.pipeline import ImageGenerator

PLAIN = Settings(chunk=2, networks=False)


@pytest.fixture(scope="module")
def mini() -> ImageGenerator:
    """The packaged generator of 107 classes."""
    model = load("mini/var-gen")
    assert isinstance(model, ImageGenerator)
    return model


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files of one random Inception, with and without its classifier."""
    rng = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in expected_shapes("inception").items():
        z = torch.randn(shape, generator=rng)
        if len(shape) > 1:
            state[key] = z * (2 / np.prod(shape[1:])) ** 0.5
        else:
            state[key] = 0.5 + 0.5 * z.abs() if key.endswith("running_var") else 0.1 * z + key.endswith("weight")
    place = tmp_path_factory.mktemp("networks")
    save_file(state, place / "whole.safetensors")
    save_file({k: v for k, v in state.items() if not k.startswith("fc.")}, place / "headless.safetensors")
    return str(place / "whole.safetensors"), str(place / "headless.safetensors")


def with_inception(file: str, **changes) -> Settings:
    """Settings that take the recipe network."""
    return Settings(chunk=8, weights={"inception": file}, allow_unknown_weights=True, **changes)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of 48 x 40 pixels."""
    place, rng = tmp_path_factory.mktemp("pictures"), torch.Generator().manual_seed(1)
    for i in range(6):
        small = torch.rand(1, 3, 5, 6, generator=rng)
        write_image(torch.nn.functional.interpolate(small, (40, 48))[0], place / f"{i:02d}.png")
    return place


def test_samples_are_the_models_own_and_a_killed_run_goes_on(mini, tmp_path: Path, monkeypatch) -> None:
    """Killed in the second chunk: nothing is made twice, and image 3 is class 3 with seed 7 + 3; the npz holds all."""
    generate, asked = ImageGenerator.generate, []

    def dying(self: ImageGenerator, **options):
        asked.append(options["seed"])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return generate(self, **options)

    monkeypatch.setattr(ImageGenerator, "generate", dying)
    settings = Settings(chunk=2, networks=False, seed=7)
    with pytest.raises(KeyboardInterrupt):
        evaluate_generation(generator=mini, n=5, out=tmp_path, settings=settings)
    result = evaluate_generation(generator=mini, n=5, out=tmp_path, settings=settings)
    assert asked == [7, 9, 9, 11]
    files = sorted(p.name for p in (tmp_path / "samples").glob("*.png"))
    assert files == [f"{i:06d}-class{i}.png" for i in range(5)]
    (images,) = read_samples(tmp_path / "samples.npz")
    assert read_labels(tmp_path / "samples.npz").tolist() == [0, 1, 2, 3, 4]
    alone = generate(mini, classes=[3], seed=10).images
    assert (images[3].int() - to_uint8(alone)[0].int()).abs().max() <= 1
    assert result.rows[0].protocol["n"] == 5 and result.rows[0].facts["weights"] == mini.fingerprint
    assert {s.what for s in result.skipped} <= set(METRICS)
    with pytest.raises(ValueError, match="other settings \\(seed\\)"):
        evaluate_generation(generator=mini, n=5, out=tmp_path, settings=PLAIN)


def test_a_longer_run_keeps_the_samples_it_has(mini, tmp_path: Path) -> None:
    """From 2 to 3 images: the first two files are not written again, the npz is."""
    evaluate_generation(generator=mini, n=2, out=tmp_path / "a", settings=PLAIN)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a/samples").glob("*.png")}
    (tmp_path / "a/work").rename(tmp_path / "old")
    evaluate_generation(generator=mini, n=3, out=tmp_path / "a", settings=PLAIN)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert sample_shape(tmp_path / "a/samples.npz")[0] == 3


@pytest.fixture(scope="module")
def whole(networks, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalResult:
    """The pictures against themselves."""
    out = tmp_path_factory.mktemp("whole")
    return evaluate_generation(samples=pictures, reference=pictures, out=out, settings=with_inception(networks[0]))


def test_a_set_against_itself(whole: EvalResult) -> None:
    """Precision, recall, coverage 1, KID (unbiased) not above 0; FID of six images is refused."""
    summary, reasons = whole.rows[0].summary, {s.what: s.reason for s in whole.skipped}
    assert [summary[n].value for n in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert summary["kid"].value <= 0 and summary["kid"].n == 6
    assert "at least 2049 images" in reasons["fid"] and "at least 2024" in reasons["sfid"]
    assert "at least 10 images" in reasons["inception_score"] and "no classes" in reasons["class_accuracy"]
    assert whole.settings["networks"]["inception"]["published"] is False
    assert blocks(whole)[0][1][1:3] == ["KID", "precision"]


def test_the_page_shows_samples_beside_their_nearest_reference_images(whole: EvalResult, pictures: Path) -> None:
    """Of a set against itself: every sample stands beside itself, at distance 0, the next one differs."""
    row, out = whole.rows[0], pictures.parent / "whole0"
    shown = [p for p in row.tasks["pictures"] if p["task"] == "neighbors"]
    assert len(shown) == 6 and row.tasks["neighbors"]["samples"] < 1e-2 < row.tasks["neighbors"]["reference"]
    for picture in shown:
        sample, first, second, _ = read_images(out / picture["file"])[0].unfold(-1, 48, 50).unbind(2)
        assert torch.equal(sample, first) and not torch.equal(sample, second)
    assert page(whole, out).count("<img") == 7


def test_a_killed_run_over_an_npz_gives_the_numbers_of_the_folder(
    whole: EvalResult, networks, pictures: Path, tmp_path: Path, monkeypatch
) -> None:
    """ADM's npz as samples, and as a reference that holds images and statistics; other chunks, killed between two."""
    images = FolderSet(folder(pictures)).chunk(0, 6).batches
    write_samples(tmp_path / "a.npz", images, 6, labels=torch.arange(6))
    moments = [Moments(2048), Moments(2023)]
    for m in moments:
        m.update(torch.rand(4, len(m.total_D)))
    write_statistics(tmp_path / "b.npz", *(m.statistics() for m in moments))
    with np.load(tmp_path / "b.npz") as held:
        np.savez(tmp_path / "both.npz", **held, arr_0=images[0].permute(0, 2, 3, 1).numpy())
    write, written = ChunkStore.write, []

    def dying(self: ChunkStore, i: int, chunk: Chunk) -> None:
        written.append(i)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(self, i, chunk)

    monkeypatch.setattr(ChunkStore, "write", dying)
    settings = replace(with_inception(networks[0]), chunk=4)
    arguments = {"samples": tmp_path / "a.npz", "reference": tmp_path / "both.npz", "out": tmp_path / "n"}
    with pytest.raises(KeyboardInterrupt):
        evaluate_generation(**arguments, settings=settings)
    result = evaluate_generation(**arguments, settings=settings)
    assert written == [0, 1, 1, 0, 1]
    assert set(whole.rows[0].summary) == set(result.rows[0].summary)
    for name, value in whole.rows[0].summary.items():
        assert result.rows[0].summary[name].value == pytest.approx(value.value, abs=1e-6), name
    assert result.rows[0].protocol["reference_sha256"] == file_digest(tmp_path / "both.npz")
    assert read_result(tmp_path / "n").rows[0].summary == result.rows[0].summary


def test_a_file_of_statistics_alone(networks, pictures: Path, tmp_path: Path) -> None:
    """What needs single images says so; an Inception without classifier gives no IS."""
    moments = Moments(2048)
    moments.update(torch.rand(4, 2048))
    write_statistics(tmp_path / "s.npz", moments.statistics())
    arguments = {"samples": pictures, "reference": tmp_path / "s.npz", "settings": with_inception(networks[1])}
    result = evaluate_generation(**arguments, out=tmp_path)
    reasons = {s.what: s.reason for s in result.skipped}
    assert "at least 2049 images" in reasons["fid"] and "mu_s" in reasons["sfid"]
    assert "needs the features of single images" in reasons["kid"] and not result.rows[0].summary
    assert "no classifier (fc.weight" in reasons["inception_score"]


def test_frechet_distances_take_the_statistics_of_the_file() -> None:
    """Distance to a file is that to its images; where there are both, the file's; forced values say so."""
    rng = torch.Generator().manual_seed(0)
    ours, theirs = (_collected(torch.randn(n, 4, generator=rng) + n) for n in (4, 9))
    published = ReferenceStatistics(pool=theirs.pool.statistics(), spatial=None)
    expected = frechet_distance(ours.pool.statistics(), theirs.pool.statistics(), force=True)
    by_images, _ = distances(ours, theirs, None, force_fid=True)
    by_file, skipped = distances(ours, None, published, force_fid=True)
    by_both, _ = distances(ours, ours, published, force_fid=True)
    assert by_images["fid"].value == by_file["fid"].value == by_both["fid"].value == expected > 0
    assert by_file["fid"].note == "forced" and by_both["precision"].value == 1
    assert {s.what for s in skipped} == {"sfid", *KERNEL}
    assert distances(ours, ours, None, force_fid=True)[0]["sfid"].value < 1e-9


def _collected(features: torch.Tensor) -> Collected:
    """A set of small features."""
    pool, spatial = Moments(4), Moments(2)
    pool.update(features)
    spatial.update(features[:, :2])
    return Collected(pool=pool, spatial=spatial, kept_ND=features)


def test_class_accuracy_by_a_given_classifier(mini, tmp_path: Path) -> None:
    """A classifier that always says class 1 is right for one of three images, and says so class by class."""

    def stubborn(images: torch.Tensor) -> torch.Tensor:
        return torch.eye(107)[1].expand(len(images), -1)

    result = evaluate_generation(generator=mini, n=3, out=tmp_path, settings=PLAIN, classifier=stubborn)
    value = result.rows[0].summary["class_accuracy"]
    assert value.value == pytest.approx(1 / 3) and value.ci_lo == 0 and value.n == 3
    assert result.rows[0].tasks["classes"]["per_class"][1]["accuracy"] == 1
    lines = (tmp_path / "per_image.csv").read_text().splitlines()
    assert [line.split(",")[2:] for line in lines] == [
        ["class", "class_hit"], ["0.0", "0.0"], ["1.0", "1.0"], ["2.0", "0.0"],
    ]  # fmt: skip


def test_unreadable_and_wrong_inputs(pictures: Path, tmp_path: Path, mini) -> None:
    """Each says what was got and what to do; a broken sample is counted and left out."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in pictures.iterdir():
        (mixed / path.name).write_bytes(path.read_bytes())
    (mixed / "broken.png").write_bytes(b"no picture")
    write_image(torch.rand(3, 20, 20), mixed / "small.png")
    result = evaluate_generation(samples=mixed, reference=pictures, out=tmp_path / "m", settings=PLAIN)
    assert [s.what for s in result.skipped if s.what not in METRICS] == ["broken.png"]
    assert result.rows[0].protocol["n"] == 7 and "20x20, 48x40" in result.rows[0].protocol["remark"]
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    (tmp_path / "text.npz").write_text("no zip")
    bad = [
        ({"samples": tmp_path / "empty"}, "no image files"),
        ({"samples": tmp_path / "other.npz"}, "no array arr_0"),
        ({"samples": pictures, "reference": tmp_path / "other.npz"}, "holds weights; a reference holds"),
        ({"samples": pictures, "reference": tmp_path / "text.npz"}, "not an .npz"),
        ({"samples": pictures, "n": 1}, "at least 2"),
        ({"generator": "mini/var-gen"}, "--n 5000"),
        ({"generator": "mini/var", "n": 2}, "is a tokenizer"),
        ({"generator": mini, "samples": pictures, "n": 2}, "not both"),
        ({"samples": pictures, "settings": Settings(protocol="tokbench-text")}, "has no FID"),
    ]
    for arguments, message in bad:
        with pytest.raises(ValueError, match=message):
            evaluate_generation(**{"out": tmp_path / "x", "settings": PLAIN} | arguments)
    with pytest.raises(FileNotFoundError, match="no reference"):
        evaluate_generation(samples=pictures, reference=tmp_path / "no.npz", out=tmp_path / "x", settings=PLAIN)


def test_the_verb_says_how_to_get_the_network(pictures: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Without Inception: no crash, status 0, the measures are listed with the command, and the page is written."""
    monkeypatch.setenv("SMALTI_NETWORKS", str(tmp_path))
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert main(["eval", "--samples", str(pictures), "--reference", str(pictures), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "not measured: fid, sfid, kid" in printed and "smalti data prepare networks" in printed
    assert json.loads((out / "metrics.json").read_text())["suite"] == "gen"
    assert "Generation" in (out / "report.html").read_text()


def test_distances_of_nothing_kept() -> None:
    """No features on a side is a reason, not a crash."""
    values, skipped = distances(collect([]), collect([]), None, force_fid=False)
    assert not values and {s.what for s in skipped} >= {"fid", "sfid", "kid"}
