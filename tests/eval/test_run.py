"""Proves that an evaluation run is honest: killed and resumed it gives the same result, bad images are counted, results
of identical images are perfect, conditions decide the exit status, and no network is touched.
"""

import csv
import json
import socket
from pathlib import Path

import pytest
import torch

from smalti.cli import main
from smalti.eval.run.asserts import failures, parse
from smalti.eval.run.chunks import Chunk, ChunkStore
from smalti.eval.run.curves import budget_curve
from smalti.eval.run.evaluate import Settings, evaluate_pairs, evaluate_tokenizers
from smalti.eval.run.result import SCHEMA, read_result
from smalti.eval.run.sources import folder, pairs
from smalti.eval.run.suites import Suite
from smalti.eval.run.tables import latex, markdown
from smalti.hub import load
from smalti.images import write_image
from smalti.tokenizers.base import Tokenizer

SUITE = Suite(tokens=True)
PLAIN = Settings(chunk=2, networks=False, budgets=(1, 14, 130))


@pytest.fixture(scope="module")
def mini() -> Tokenizer:
    """The packaged tokenizer."""
    model = load("mini/var")
    assert isinstance(model, Tokenizer)
    return model


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five smooth images of 64 pixels."""
    rng = torch.Generator().manual_seed(0)
    for i in range(5):
        small = torch.rand(1, 3, 4, 4, generator=rng)
        image = torch.nn.functional.interpolate(small, 64, mode="bicubic").clamp(0, 1)[0]
        write_image(image, tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def plain(path: Path) -> dict:
    """metrics.json without what depends on the clock."""
    data = json.loads((path / "metrics.json").read_text())
    for row in data["rows"]:
        del row["timing"]
    return data


def test_a_killed_run_goes_on_and_ends_the_same(mini: Tokenizer, images: Path, tmp_path: Path, monkeypatch) -> None:
    """Killed after the second of three chunks, then started again: the same JSON and CSV, nothing computed twice."""
    source = folder(images)
    evaluate_tokenizers([mini], source, SUITE, tmp_path / "whole", PLAIN, "test")
    write, written = ChunkStore.write, []

    def dying(self: ChunkStore, i: int, chunk: Chunk) -> None:
        if i == 2 and len(written) == 2:
            written.append(i)
            raise KeyboardInterrupt
        written.append(i)
        write(self, i, chunk)

    monkeypatch.setattr(ChunkStore, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tokenizers([mini], source, SUITE, tmp_path / "killed", PLAIN, "test")
    assert not (tmp_path / "killed" / "metrics.json").exists()
    evaluate_tokenizers([mini], source, SUITE, tmp_path / "killed", PLAIN, "test")
    assert written == [0, 1, 2, 2]
    assert plain(tmp_path / "killed") == plain(tmp_path / "whole")
    assert (tmp_path / "killed/per_image.csv").read_text() == (tmp_path / "whole/per_image.csv").read_text()
    with pytest.raises(ValueError, match="other settings"):
        evaluate_tokenizers([mini], source, SUITE, tmp_path / "killed", Settings(chunk=3, networks=False), "test")


def test_batches_change_nothing(mini: Tokenizer, images: Path, tmp_path: Path) -> None:
    """Chunks of 1 and of 5 images: the same numbers up to rounding."""
    results = [
        evaluate_tokenizers([mini], folder(images), SUITE, tmp_path / str(n), Settings(chunk=n, networks=False), "test")
        for n in (1, 5)
    ]
    for a, b in zip(*(r.rows for r in results), strict=True):
        assert a.key == b.key
        for name in a.summary:
            assert a.summary[name].value == pytest.approx(b.summary[name].value, abs=1e-6), (a.key, name)


def test_the_result_holds_what_is_promised(mini: Tokenizer, images: Path, tmp_path: Path) -> None:
    """Schema, budgets with knee and area, baselines at the same rate, interval around the mean, statistics, exports."""
    result = evaluate_tokenizers([mini], folder(images), SUITE, tmp_path, PLAIN, "test")
    again = read_result(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["schema"] == SCHEMA
    assert [r.key for r in again.rows] == [r.key for r in result.rows]
    ours = result.row("mini/var@130")
    psnr = ours.summary["psnr"]
    assert psnr.ci_lo <= psnr.value <= psnr.ci_hi and psnr.n == 5
    assert result.row("mini/var@1").summary["psnr"].value < psnr.value
    assert result.budget_curves["mini/var"]["psnr"]["budgets"] == (1, 14, 130)
    for row in result.rows:
        if row.kind == "baseline":
            assert row.summary["bpp"].value <= ours.summary["bpp"].value + 1e-9
    assert ours.tasks["tokens"]["images"] == 5 and ours.tasks["stability"]["images"] == 5
    assert markdown(result).count("\n") == 2 + len(result.rows) and r"\pm" in latex(result)


def test_identical_pairs_are_perfect_and_broken_files_are_counted(images: Path, tmp_path: Path) -> None:
    """PSNR capped and counted as identical, SSIM 1; an unreadable image is in `skipped` with its reason."""
    (images / "broken.png").write_bytes(b"no picture")
    result = evaluate_pairs(*pairs(images, images), tmp_path / "out", PLAIN, name="same")
    row = result.rows[0]
    assert (row.summary["psnr"].value, row.summary["n_identical"].value) == (100.0, 5.0)
    assert row.summary["ssim"].value == pytest.approx(1)
    assert row.summary["frc_resolution_half"].value is None  # never falls below one half
    (skip,) = [s for s in result.skipped if s.what == "broken.png"]
    assert "broken.png" in skip.reason


def test_a_metric_that_some_sizes_do_not_have(tmp_path: Path) -> None:
    """MS-SSIM of two images of three, FRC not of the smallest: N says so, the table has a gap."""
    rng = torch.Generator().manual_seed(0)
    for i, side in enumerate((40, 176, 176)):
        image = torch.rand(3, side, side, generator=rng)
        write_image(image, tmp_path / "a" / f"{i}.png")
        write_image(image.roll(1, -1) * 0.9, tmp_path / "b" / f"{i}.png")
    for chunk in (1, 3):
        settings = Settings(networks=False, chunk=chunk)
        row = evaluate_pairs(*pairs(tmp_path / "a", tmp_path / "b"), tmp_path / str(chunk), settings, "x").rows[0]
        assert (row.summary["ms_ssim"].n, row.summary["ssim"].n) == (2, 3) and "frc" in row.curves
        lines = list(csv.DictReader((tmp_path / str(chunk) / "per_image.csv").open()))
        assert [line["image"] for line in lines if not line["ms_ssim"]] == ["0.png"]
        values = [float(line["ms_ssim"]) for line in lines if line["ms_ssim"]]
        assert row.summary["ms_ssim"].value == pytest.approx(sum(values) / 2)


def test_pairs_that_do_not_match_are_refused(images: Path, tmp_path: Path) -> None:
    """A missing partner is an error that names it; another size is left out with both sizes."""
    other = tmp_path / "other"
    for i in range(4):
        write_image(torch.zeros(3, 64, 64), other / f"{i}.png")
    with pytest.raises(ValueError, match="1 images have no partner.*4"):
        pairs(images, other)
    write_image(torch.zeros(3, 32, 32), other / "4.png")
    result = evaluate_pairs(*pairs(images, other), tmp_path / "out", PLAIN, name="other")
    assert any("never resized silently" in s.reason for s in result.skipped)


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    """Both say what is wrong."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image files"):
        folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no folder"):
        folder(tmp_path / "absent")


def test_one_image_and_mixed_sizes(mini: Tokenizer, tmp_path: Path) -> None:
    """One image has no spread; images of other sizes are brought to the tokenizer's."""
    write_image(torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(0)), tmp_path / "a" / "x.png")
    settings = Settings(networks=False, budgets=(130,), baselines=False)
    one = evaluate_tokenizers([mini], folder(tmp_path / "a"), SUITE, tmp_path / "one", settings, "test")
    psnr = one.rows[0].summary["psnr"]
    assert psnr.ci_lo == psnr.value == psnr.ci_hi
    write_image(torch.rand(3, 70, 64, generator=torch.Generator().manual_seed(1)), tmp_path / "a" / "y.png")
    two = evaluate_tokenizers([mini], folder(tmp_path / "a"), SUITE, tmp_path / "two", settings, "test")
    assert two.rows[0].summary["psnr"].n == 2


def test_conditions(mini: Tokenizer, images: Path, tmp_path: Path) -> None:
    """Whole sequences by default, one row by name; what was not measured does not hold."""
    result = evaluate_tokenizers([mini], folder(images), SUITE, tmp_path, PLAIN, "test")
    value = result.row("mini/var@130").summary["psnr"].value
    assert not failures(result, [parse(f"psnr>={value - 1}"), parse("mini/var@1:psnr>1")])
    assert len(failures(result, [parse("psnr>=99"), parse("fid<10"), parse("absent@3:psnr>1")])) == 3
    with pytest.raises(ValueError, match="is not understood"):
        parse("psnr at least 20")


def test_knee_and_area() -> None:
    """A straight line has no knee; its area is its middle value."""
    straight = budget_curve([1, 2, 4], [8, 16, 32], [10, 20, 30])
    assert straight.knee is None and straight.area == pytest.approx(20)
    assert budget_curve([1], [8], [10]).area is None


def test_the_command_runs_offline(images: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Exit status by condition and by skipped images; no socket is opened; the page stands on its own."""

    def forbidden(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    base = ["eval", "--pairs", str(images), str(images), "--out", str(tmp_path / "out")]
    assert main([*base, "--assert", "ssim>=0.99"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "").split("Provenance")[0] and "<script" not in page
    assert main([*base, "--assert", "psnr<50"]) == 1 and "does not hold" in capsys.readouterr().out
    (images / "broken.png").write_bytes(b"")
    other = [*base[:-1], str(tmp_path / "second")]
    assert main(other) == 1 and main([*other, "--max-skipped", "1"]) == 0
    assert main(["eval", "--out", str(tmp_path)]) == 2 and "say what to evaluate" in capsys.readouterr().err
    assert main(["eval", "doctor"]) == 0 and "lpips-alex" in capsys.readouterr().out
