"""Proves that a run says how fast each metric was and what memory it took: times add up over chunks and survive a kill,
every metric that was measured is there, and table, page and terminal show the same numbers.
"""

import json
import time
from pathlib import Path

import pytest
import torch

from smalti.eval.moments import Moments
from smalti.eval.report.eval_page import page
from smalti.eval.run.chunks import ChunkStore
from smalti.eval.run.evaluate import Settings, evaluate_pairs, evaluate_tokenizers
from smalti.eval.run.features import SetFeatures, set_distances
from smalti.eval.run.result import EvalResult, read_result
from smalti.eval.run.sources import folder, pairs
from smalti.eval.run.speeds import speeds
from smalti.eval.run.suites import Suite
from smalti.eval.stopwatch import Stopwatch
from smalti.images import write_image
from tests.tiny.llamagen import tiny_llamagen_tokenizer

PLAIN = Settings(chunk=2, networks=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of 64 pixels."""
    root, rng = tmp_path_factory.mktemp("images"), torch.Generator().manual_seed(0)
    for i in range(5):
        write_image(torch.rand(3, 64, 64, generator=rng), root / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[EvalResult, Path]:
    """A tiny tokenizer, with codecs."""
    out, model = tmp_path_factory.mktemp("out"), tiny_llamagen_tokenizer(image_size=64)
    model.name = "tiny"
    return evaluate_tokenizers([model], folder(images), Suite(), out, PLAIN, "standard"), out


def test_a_stopwatch_adds_up() -> None:
    """Sums of two, rates of the sums; a block that raises counts for nothing."""
    a, b = Stopwatch(), Stopwatch({"x": [1.0, 2]})
    with a.measure("x", 3):
        time.sleep(0.02)
    assert 0.02 <= a.sums["x"][0] < 1
    a.merge(b.to_dict())
    a.add("none", 0.0, 4)
    assert a.sums["x"][1] == 5 and a.rates() == {"x": 5 / a.sums["x"][0]} and a.seconds()["none"] == 0
    with pytest.raises(ValueError, match="no"), a.measure("y", 1):
        raise ValueError("no")
    assert "y" not in a.sums


def test_every_metric_has_a_rate_that_its_chunks_add_up_to(run: tuple[EvalResult, Path]) -> None:
    """Seconds are the sums of the chunks, rates are of all 5 images; a codec is not encoded by the tokenizer."""
    result, out = run
    row = read_result(out).row("tiny@256")
    rates, seconds = row.timing["images_per_second"], row.timing["seconds"]
    assert set(rates) == {"read", "encode", "decode", "rounding", "psnr", "ssim", "frc"} == set(seconds)
    for name in rates:
        assert rates[name] * seconds[name] == pytest.approx(5)
    assert row.timing["encode_seconds_per_image"] == pytest.approx(seconds["encode"] / 5)
    (work,) = (out / "work").iterdir()
    plan = json.loads((work / "settings.json").read_text())
    parts = [c.facts["times"] for c in ChunkStore(work, plan).all(3)]
    assert seconds["ssim"] == pytest.approx(sum(p["tiny@256"]["ssim"][0] for p in parts))
    assert seconds["encode"] == pytest.approx(sum(p[""]["encode"][0] for p in parts))
    for baseline in (r for r in result.rows if r.kind == "baseline"):
        assert {"code", "read", "psnr"} <= set(baseline.timing["seconds"])
        assert not {"encode", "decode"} & set(baseline.timing["seconds"])
    assert 50 < row.timing["peak_megabytes"] < 100_000


def test_the_table_and_the_page(run: tuple[EvalResult, Path]) -> None:
    """One line a step and a metric, pooled over rows; peak memory last; the page has the same cells."""
    result, out = run
    found = speeds(result)
    assert found is not None
    title, header, body = found
    names = [line[0] for line in body]
    assert (title, header) == ("speed", ["", "images/s", "seconds"])
    assert names[:3] == ["tiny: read", "tiny: encode", "tiny: decode 256 tokens"] and names[-1] == "peak memory"
    assert sum(name.startswith("JPEG") for name in names) == 1 and "PSNR" in names and "LPIPS (alex)" not in names
    seconds = sum(row.timing["seconds"]["ssim"] for row in result.rows)
    (ssim,) = [line for line in body if line[0] == "SSIM"]
    assert float(ssim[1]) == pytest.approx(5 * len(result.rows) / seconds, rel=1e-3)
    text = page(result, out)
    assert "Peak" in text.title() and body[-1][1].endswith("MB") and all(f">{line[1]}<" in text for line in body)


def test_pairs_and_results_without_times(images: Path, tmp_path: Path) -> None:
    """Pairs are read, not decoded; a result of an earlier version, without rates, has no table."""
    result = evaluate_pairs(*pairs(images, images), tmp_path, PLAIN, name="same")
    assert set(result.rows[0].timing["seconds"]) == {"read", "rounding", "psnr", "ssim", "frc"}
    result.rows[0].timing.clear()
    assert speeds(result) is None


def test_distances_of_sets_are_timed() -> None:
    """FID is refused for few images and has no time; KID and precision have theirs, per image."""
    sets = []
    for seed in (0, 1):
        features = torch.rand(6, 2048, generator=torch.Generator().manual_seed(seed))
        moments = Moments(2048)
        moments.update(features)
        sets.append(SetFeatures(moments=moments, kept_ND=features))
    watch = Stopwatch()
    found, skipped = set_distances(*sets, watch=watch)
    assert set(watch.sums) == {"kid", "precision"} and watch.sums["kid"][1] == 6
    assert "kid" in found and [s.what for s in skipped] == ["fid"]
