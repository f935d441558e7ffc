"""Proves that a comparison puts into one column only what was measured alike, that paired differences are those of the
images, and that the exports hold the table.
"""

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from smalti.cli import main
from smalti.eval.bootstrap import mean_interval
from smalti.eval.run.compare import compare, shown
from smalti.eval.run.evaluate import Settings, evaluate_pairs, evaluate_tokenizers
from smalti.eval.run.export import exported
from smalti.eval.run.generation import evaluate_generation
from smalti.eval.run.result import Value, read_result, write_result
from smalti.eval.run.sources import folder, pairs
from smalti.eval.run.suites import Suite
from smalti.hub import load
from smalti.images import read_images, write_image
from smalti.tokenizers.base import Tokenizer

PLAIN = Settings(networks=False)


def pictures(place: Path, n: int, seed: int = 0) -> Path:
    """Smooth images of 64 pixels."""
    rng = torch.Generator().manual_seed(seed)
    for i in range(n):
        image = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4, generator=rng), 64, mode="bicubic")
        write_image(image.clamp(0, 1)[0], place / f"{i}.png")
    return place


def damaged(images: Path, place: Path, strength: float) -> Path:
    """The images with noise."""
    rng = torch.Generator().manual_seed(1)
    for path in images.iterdir():
        image = read_images(path)[0]
        write_image((image + strength * torch.randn(image.shape, generator=rng)).clamp(0, 1), place / path.name)
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Light and heavy noise natively, heavy noise by another protocol, a tokenizer, other images."""
    root = tmp_path_factory.mktemp("runs")
    images, other = pictures(root / "images", 6), pictures(root / "other", 6, seed=5)
    light, heavy = damaged(images, root / "light images", 0.05), damaged(images, root / "heavy images", 0.2)
    legacy = Settings(networks=False, protocol="llamagen")
    evaluate_pairs(*pairs(images, light), root / "light", PLAIN, name="light noise")
    evaluate_pairs(*pairs(images, heavy), root / "heavy", PLAIN, name="heavy noise")
    evaluate_pairs(*pairs(images, heavy), root / "legacy", legacy, name="heavy noise")
    evaluate_pairs(*pairs(other, other), root / "elsewhere", PLAIN, name="elsewhere")
    mini = load("mini/var")
    assert isinstance(mini, Tokenizer)
    for name in ("mini", "again"):
        evaluate_tokenizers([mini], folder(images), Suite(tokens=True), root / name, PLAIN, "test")
    return {p.name: p for p in root.iterdir()}


def test_one_table_and_paired_differences(runs: dict[str, Path]) -> None:
    """Rows of both runs; the difference is that of the CSVs, with its interval, and its sign says who is better."""
    found = compare([runs["light"], runs["heavy"]])
    title, header, body = shown(found)[0]
    assert title == "all" and [line[0] for line in body] == ["light noise", "heavy noise"] and "PSNR" in header
    (psnr,) = [d for d in found.differences if d.metric == "psnr"]
    columns = []
    for run in ("light", "heavy"):
        with (runs[run] / "per_image.csv").open() as file:
            columns.append(torch.tensor([float(line["psnr"]) for line in csv.DictReader(file)]))
    expected = mean_interval(columns[0].double() - columns[1].double())
    assert (psnr.value, psnr.low, psnr.high, psnr.n) == pytest.approx((expected.value, expected.low, expected.high, 6))
    assert psnr.value > 0 and psnr.clear
    means = [e.row.summary["psnr"].value for e in found.entries]
    assert psnr.value == pytest.approx(means[0] - means[1], abs=1e-5)
    turned = compare([runs["heavy"], runs["light"]])
    assert next(d for d in turned.differences if d.metric == "psnr").value == pytest.approx(-psnr.value)


def test_protocols_never_share_a_column(runs: dict[str, Path]) -> None:
    """Refused with both labels and the way out; with split, two PSNR columns, each with one row; no difference."""
    with pytest.raises(ValueError, match=r"cannot stand in one column.*llamagen.*--split"):
        compare([runs["heavy"], runs["legacy"]])
    found = compare([runs["heavy"], runs["legacy"]], split=True)
    _, header, body = shown(found)[0]
    at = [i for i, heading in enumerate(header) if heading.startswith("PSNR")]
    assert len(at) == 2 and [[line[i] == "-" for i in at] for line in body] == [[False, True], [True, False]]
    assert [line[0] for line in body] == ["heavy noise (heavy)", "heavy noise (legacy)"]
    assert not found.differences


def test_distances_share_a_column_only_over_one_reference_and_number(runs: dict[str, Path], tmp_path: Path) -> None:
    """Two runs of samples with a KID each: other references are refused, as are other numbers of images."""
    images = runs["images"]
    places = []
    for i, (reference, n) in enumerate((("images", 4), ("other", 4), ("images", 5))):
        out = tmp_path / f"{i}"
        result = evaluate_generation(samples=images, reference=runs[reference], n=n, out=out, settings=PLAIN)
        result.rows[0].summary["kid"] = Value(value=0.1 * (i + 1), n=n, better="lower")
        write_result(out, result)
        places.append(out)
    with pytest.raises(ValueError, match="reference"):
        compare(places[:2])
    with pytest.raises(ValueError, match="number of images"):
        compare([places[0], places[2]])
    found = compare(places, split=True)
    (_, _, columns) = found.tables[0]
    assert [len(c.members) for c in columns if c.metric == "kid"] == [1, 1, 1]
    same = tmp_path / "same"
    write_result(same, read_result(places[0]))
    (kid,) = [c for c in compare([places[0], same]).tables[0][2] if c.metric == "kid"]
    assert len(kid.members) == 2 and kid.heading == "KID"


def test_other_images_are_a_remark_and_have_no_differences(runs: dict[str, Path]) -> None:
    """PSNR of other images may stand beside, but the note says that it compares nothing."""
    found = compare([runs["light"], runs["elsewhere"]])
    assert not found.differences and any("different images" in note for note in found.notes)


def test_tokenizers_and_pairs(runs: dict[str, Path]) -> None:
    """A tokenizer twice: codecs stand once, names carry the run, and only whole sequences are compared."""
    found = compare([runs["mini"], runs["again"], runs["light"]])
    baselines = [e.row.subject for e in found.entries if e.row.kind == "baseline"]
    assert baselines and len(baselines) == len(set(baselines))
    names = [(d.first, d.second) for d in found.differences if d.metric == "psnr"]
    assert names == [("mini/var (mini)@130", "mini/var (again)@130")]  # the pairs may be of another size
    assert any("scored at different sizes" in note and "64x64" in note for note in found.notes)
    same = next(d for d in found.differences if d.metric == "psnr")
    assert (same.value, same.low, same.high, same.clear) == (0, 0, 0, False)
    assert [title for title, _, _ in shown(found)][:2] == ["all", "paired differences"]
    assert [len(body) for title, _, body in shown(found) if title == "tokens"] == [2]


def test_exports(runs: dict[str, Path]) -> None:
    """CSV holds unrounded values; Markdown and LaTeX have a line per row."""
    found = compare([runs["light"], runs["heavy"]])
    lines = list(csv.DictReader(io.StringIO(exported(found, "csv"))))
    for line, entry in zip(lines, found.entries, strict=True):
        value = entry.row.summary["psnr"]
        assert (float(line["psnr"]), float(line["psnr low"])) == (value.value, value.ci_lo)
        assert line["protocol"] == "native/1" and line["run"] == entry.run
    assert "| light noise |" in exported(found, "markdown")
    assert exported(found, "latex").count(r"\begin{tabular}") == 2 and r"light noise &" in exported(found, "latex")


def test_the_verb(runs: dict[str, Path], tmp_path: Path, capsys) -> None:
    """Prints the table, writes JSON and a page without anything from outside; refusals have status 2."""
    light, heavy, legacy = (str(runs[name]) for name in ("light", "heavy", "legacy"))
    assert main(["compare", light, heavy, "--out", str(tmp_path)]) == 0
    assert "paired differences" in capsys.readouterr().out
    data = json.loads((tmp_path / "comparison.json").read_text())
    assert data["schema"] == "smalti-compare/1" and len(data["rows"]) == 2 and data["differences"][0]["clear"] is True
    page = (tmp_path / "report.html").read_text()
    assert "light noise" in page and "Paired differences" in page and "http" not in page and "<script" not in page
    assert main(["compare", light, heavy, "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("run,subject,tokens")
    assert main(["compare", light, legacy]) == 2
    assert "--split" in capsys.readouterr().err
    assert main(["compare", light, legacy, "--split", "--out", str(tmp_path / "split")]) == 0
    assert (tmp_path / "split/report.html").read_text().count("<h3>") >= 2


def test_bad_input(runs: dict[str, Path], tmp_path: Path) -> None:
    """One run, a run twice, a folder without result, a result of another schema."""
    for paths, message in (
        ([runs["light"]], "at least two"),
        ([runs["light"], runs["light"] / "metrics.json"], "given twice"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(paths)
    with pytest.raises(FileNotFoundError, match="finished"):
        compare([runs["light"], tmp_path])
    (tmp_path / "metrics.json").write_text('{"schema": "other/1"}')
    with pytest.raises(ValueError, match="schema"):
        compare([runs["light"], tmp_path])
