"""Proves on a generated miniature that VTBench's splits are found in the layouts a copy can have, that each gets rows
of its own under the task it belongs to, and that text without known truth is marked and never empty.
"""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from smalti.cli import main
from smalti.eval.run.evaluate import Settings
from smalti.eval.run.result import read_result
from smalti.eval.run.tables import blocks
from smalti.eval.run.vtbench import evaluate_vtbench
from smalti.eval.run.vtbench_data import SPLITS, open_split
from smalti.hub import load
from smalti.images import read_images, write_image
from smalti.tokenizers.base import Tokenizer
from tests.tiny.llamagen import tiny_llamagen_tokenizer

PLAIN = Settings(networks=False, budgets=(14, 130), baselines=False)
BY_LABEL = {split.label: split for split in SPLITS}


@pytest.fixture(scope="module")
def mini() -> Tokenizer:
    """The packaged tokenizer."""
    model = load("mini/var")
    assert isinstance(model, Tokenizer)
    return model


def words(path: Path, text: str) -> None:
    """An image of a word, 64 pixels."""
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).text((4, 20), text, "black", ImageFont.load_default(18))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four of the ten splits as folders, one of them without a folder for its only split."""
    root, rng = tmp_path_factory.mktemp("vtbench"), torch.Generator().manual_seed(0)
    for place in ("task1-high-resolution/test", "task2-detail-preservation"):
        for i in range(3):
            image = torch.rand(1, 3, 6, 8, generator=rng)
            write_image(torch.nn.functional.interpolate(image, (72, 96))[0], root / place / f"{i}.png")
    for i, text in enumerate(("HELLO", "WORLD")):
        words(root / f"task3-movie-posters/test/{i}.png", text)
        words(root / f"task3-multilingual/Hindi/{i}.png", text)
    return root


@pytest.fixture(scope="module")
def run(mini: Tokenizer, copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of the miniature."""
    out = tmp_path_factory.mktemp("run")
    evaluate_vtbench([mini], copy, out, PLAIN)
    return out


def test_seven_configurations() -> None:
    """Names as the dataset has them; ten splits with the four languages."""
    assert len({s.config for s in SPLITS}) == 7 and len(SPLITS) == 10
    assert [s.config for s in SPLITS if s.task == "detail"] == ["task2-detail-preservation"]


def test_rows_by_split_and_task(run: Path, mini: Tokenizer) -> None:
    """Three tables with the names of the tasks, a row per split and budget, missing splits listed, the CSV joined."""
    result = read_result(run)
    tables = {title: [line[:2] for line in rows] for title, _, rows in blocks(result)}
    assert list(tables) == ["reconstruction", "detail", "text"]
    assert tables["reconstruction"] == [["mini/var [task1-high-resolution]", k] for k in ("14", "130")]
    assert tables["detail"][1] == ["mini/var [task2-detail-preservation]", "130"]
    assert result.data["images"] == 10 and len(result.data["splits"]) == 4
    assert {s.what for s in result.skipped} >= {"task1-imagenet", "task3-multilingual/Korean"}
    row = result.row("mini/var [task1-high-resolution]@130")
    assert row.protocol["protocol"] == "native/1" and row.summary["psnr"].n == 3
    with (run / "per_image.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["subject"] == row.key]
    assert sum(float(line["psnr"]) for line in lines) / 3 == pytest.approx(row.summary["psnr"].value)
    assert (run / "task1-high-resolution/metrics.json").is_file()
    picture = row.tasks["pictures"][0]["file"]
    assert picture.startswith("task1-high-resolution/") and (run / picture).is_file()


def test_text_is_read_against_the_original_and_says_so(run: Path) -> None:
    """CER on posters for the whole sequence only; Hindi cannot be read here, with the reason."""
    result = read_result(run)
    value = result.row("mini/var [task3-movie-posters]@130").summary["cer_to_original"]
    assert value.value is not None and value.value >= 0 and value.n == 2 and "not against known text" in value.note
    assert "cer_to_original" not in result.row("mini/var [task3-movie-posters]@14").summary
    assert "cer_to_original" not in result.row("mini/var [task3-multilingual/Hindi]@130").summary
    (reason,) = [s.reason for s in result.skipped if s.what == "cer_to_original"]
    assert "not measurable here" in reason and "hindi" in reason


def test_a_second_start_computes_nothing_again(run: Path, mini: Tokenizer, copy: Path, monkeypatch) -> None:
    """All chunks and readings are there: the reader is not asked, and the result is the same."""
    from smalti.eval.text.ocr import Reader

    def never(*_: object) -> str:
        raise AssertionError("read again")

    before = json.loads((run / "metrics.json").read_text())
    monkeypatch.setattr(Reader, "pages", never)
    evaluate_vtbench([mini], copy, run, PLAIN)
    after = json.loads((run / "metrics.json").read_text())
    for data in (before, after):
        for row in data["rows"]:
            del row["timing"]
    assert after == before


def test_by_its_own_protocol(mini: Tokenizer, copy: Path, tmp_path: Path) -> None:
    """Protocol vtbench: 256 pixels, the legacy label and its faults; a tokenizer of 64 pixels is refused."""
    settings = Settings(networks=False, baselines=False, protocol="vtbench")
    model = tiny_llamagen_tokenizer(encoder_multipliers=(1, 1, 1, 2), decoder_multipliers=(1, 1, 1, 2))
    model.name = "tiny"
    result = evaluate_vtbench([model], copy, tmp_path / "out", replace(settings, budgets=(1024,)), 1)
    assert {r.protocol["protocol"] for r in result.rows} == {"vtbench/1 (legacy)"}
    assert result.row("tiny [task1-high-resolution]@1024").summary["bpp"].value == pytest.approx(6 * 1024 / 256**2)
    assert any(fault.startswith("V1") for fault in result.settings["protocol"]["faults"])
    text = result.row("tiny [task3-movie-posters]@1024").tasks["text_to_original"]
    assert set(text["values"]) == {"cer", "wer"} and text["protocol"] == "vtbench/1 (legacy)"
    with pytest.raises(ValueError, match="64"):
        evaluate_vtbench([mini], copy, tmp_path / "mini", settings, 1)


def test_layouts(copy: Path, tmp_path: Path, monkeypatch) -> None:
    """A README that declares files elsewhere, a `data` folder, shards without pyarrow, a limit."""
    posters = BY_LABEL["task3-movie-posters"]
    words(tmp_path / "elsewhere/x/a.jpg", "A")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: task3-movie-posters\n  data_files:\n  - split: test\n    path: elsewhere/**/*\n"
        "---\n"
    )
    source = open_split(tmp_path, posters)
    assert source is not None and source.names == ("elsewhere/x/a.jpg",)
    words(tmp_path / "data/task3-arxiv-abstracts/test/b.png", "B")
    assert open_split(tmp_path, BY_LABEL["task3-arxiv-abstracts"]) is not None
    assert open_split(tmp_path, BY_LABEL["task1-imagenet"]) is None
    limited = open_split(copy, BY_LABEL["task2-detail-preservation"], 2)
    assert limited is not None and len(limited) == 2
    (tmp_path / "task1-imagenet").mkdir()
    (tmp_path / "task1-imagenet/val-00000-of-00001.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        open_split(tmp_path, BY_LABEL["task1-imagenet"])


def test_parquet_shards(copy: Path, tmp_path: Path) -> None:
    """Images inside two shards of two row groups are those of the files, with their digests and names."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    files = sorted((copy / "task1-high-resolution/test").glob("*.png"))
    column = pa.array([{"bytes": f.read_bytes(), "path": f.name} for f in files] + [{"bytes": b"broken", "path": None}])
    place = tmp_path / "task1-high-resolution"
    place.mkdir()
    for i in range(2):
        table = pa.table({"image": column.slice(2 * i, 2), "label": [0, 1]})
        parquet.write_table(table, place / f"test-0000{i}-of-00002.parquet", row_group_size=1)
    source = open_split(tmp_path, BY_LABEL["task1-high-resolution"])
    assert source is not None and len(source) == 4 and len(set(source.names)) == 4
    direct = open_split(copy, BY_LABEL["task1-high-resolution"])
    assert direct is not None
    for i, file in enumerate(files):
        assert torch.equal(source.read(i), read_images(file)) and source.digest(i) == direct.digest(i)
        assert file.name in source.names[i]
    with pytest.raises(ValueError, match="test-00001"):
        source.read(3)
    parquet.write_table(pa.table({"text": ["a"]}), place / "test-00000-of-00002.parquet")
    with pytest.raises(ValueError, match="columns text"):
        open_split(tmp_path, BY_LABEL["task1-high-resolution"])


def test_bad_input(mini: Tokenizer, tmp_path: Path, copy: Path, capsys) -> None:
    """No folder, a folder of something else, no hub; the verb runs to a page and status 0 with missing splits."""
    with pytest.raises(FileNotFoundError, match="huaweilin/VTBench"):
        evaluate_vtbench([mini], tmp_path / "no", tmp_path, PLAIN)
    with pytest.raises(ValueError, match="no split of VTBench"):
        evaluate_vtbench([mini], tmp_path, tmp_path, PLAIN)
    with pytest.raises(FileNotFoundError, match="hf download"):
        evaluate_vtbench([mini], None, tmp_path, PLAIN)
    arguments = ["--suite", "vtbench", "--data", str(copy), "--n", "1", "--budget", "130", "--no-baselines"]
    assert main(["eval", "--tokenizer", "mini/var", *arguments, "--out", str(tmp_path / "out")]) == 0
    assert "not measured: task1-imagenet" in capsys.readouterr().out
    page = (tmp_path / "out/report.html").read_text()
    assert "what the reader makes of the original" in page and "is not reproduced" in page
