"""Proves that a result of the text task names its fonts and its reader by content, and that the page shows them."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import ImageFont

from smalti.eval.report.eval_page import page
from smalti.eval.run.result import EvalResult, Row
from smalti.eval.tasks.text import text
from smalti.eval.text.instruments import font_facts, instruments
from smalti.eval.text.ocr import reader
from smalti.eval.text.scripts import NAMES


def dejavu() -> Path:
    return Path(pytest.importorskip("matplotlib.font_manager").findfont("DejaVu Sans"))


def test_the_font_inside_pillow() -> None:
    """Named with the version of Pillow; the hash is that of the bytes it draws with."""
    found = font_facts(None)
    face = ImageFont.load_default(40)
    assert isinstance(face, ImageFont.FreeTypeFont)
    assert (found["family"], found["style"]) == face.getname() and found["file"].startswith("inside Pillow ")
    assert found["sha256"] == sha256(face.font_bytes).hexdigest()


def test_fonts_of_the_user_and_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file that is drawn with, without its folder; scripts without a font are absent."""
    monkeypatch.setattr("smalti.eval.text.scripts.font_folders", lambda: [tmp_path])
    given, installed = tmp_path / "own.ttf", tmp_path / "Lohit-Devanagari.ttf"
    for file in (given, installed):
        file.write_bytes(dejavu().read_bytes())
    fonts = instruments(None, {"latin": given}, NAMES)["fonts"]
    expected = {"family": "DejaVu Sans", "style": "Book", "sha256": sha256(given.read_bytes()).hexdigest()}
    assert fonts == {"latin": expected | {"file": "own.ttf"}, "hindi": expected | {"file": installed.name}}
    assert set(instruments(None, {}, ("latin",))["fonts"]) == {"latin"}
    broken = tmp_path / "NotoSansKR.ttf"
    broken.write_bytes(b"no font")
    told = {"family": "", "style": "", "file": broken.name, "sha256": sha256(b"no font").hexdigest()}
    assert instruments(None, {}, NAMES)["fonts"]["korean"] == told


def test_the_result_and_the_page(tmp_path: Path) -> None:
    """Models of the reader by their hash; all of it is JSON; the page names font, reader and both models."""
    rapidocr = pytest.importorskip("rapidocr")
    result = text(lambda x: x, 64, quick=True, seed=0, parts=("documents",))
    plain = json.loads(json.dumps(result.to_dict()))
    told = plain["facts"]["recognizer"]
    assert told["name"] == "rapidocr" and told["version"] in plain["engine"]
    for part in ("detection", "recognition"):
        file = Path(rapidocr.__file__).parent / "models" / told[part]["file"]
        assert told[part]["sha256"] == sha256(file.read_bytes()).hexdigest()
    assert Path(told["recognition"]["file"]).stem in plain["engine"]
    assert set(plain["facts"]["fonts"]) == {"latin"}, "no other script was shown"
    shown = page(one_row(plain), tmp_path)
    font = plain["facts"]["fonts"]["latin"]
    for words in (plain["engine"], told["detection"]["file"], font["family"], font["file"], font["sha256"][:16]):
        assert words in shown


def test_without_a_reader_the_fonts_are_still_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And pages of results that do not tell anything are made as before."""
    reader.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    result = text(lambda x: x, 64, quick=True, seed=0, engine="tesseract", parts=("documents",))
    assert result.facts["recognizer"] is None and result.facts["fonts"]["latin"]["family"]
    assert "font, latin" in page(one_row(result.to_dict()), tmp_path)
    old = {k: v for k, v in result.to_dict().items() if k != "facts"}
    assert "font, latin" not in page(one_row(old), tmp_path)
    read = replace(one_row(old).rows[0], tasks={"text_to_original": {"engine": "eye 1.0"}})
    vtbench = replace(one_row(old), suite="vtbench", rows=[replace(read, facts={"task": "text"})])
    assert "eye 1.0" in page(vtbench, tmp_path)


def one_row(task: dict) -> EvalResult:
    """A run of one tokenizer that was asked for text alone."""
    rules = {"name": "native", "version": 1, "digest": "0", "title": "", "faults": []}
    return EvalResult(
        suite="quick",
        data={"name": "none", "images": 0, "fingerprint": ""},
        rows=[Row(subject="x", kind="tokenizer", protocol={"protocol": "native/1"}, tasks={"text": task})],
        skipped=[],
        settings={"protocol": rules, "seed": 0},
        environment={"smalti": "0", "device": "cpu", "packages": {"torch": "0"}},
    )
