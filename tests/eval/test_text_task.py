"""Proves that the text task tells what is legible from what is not, and says so of all that it cannot measure."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smalti.eval.detail.result import Part
from smalti.eval.tasks.detail_parts.setup import Reconstruct, Setup
from smalti.eval.tasks.text import PARTS, text
from smalti.eval.tasks.text_parts.ladders import Ladder, climbed, ladder_part
from smalti.eval.tasks.text_parts.scripts import _script
from smalti.eval.tasks.text_parts.setup import TextSetup, open_reader
from smalti.eval.text.render import Kind, ladder
from smalti.eval.text.scripts import SCRIPTS, Script, find_font

pytest.importorskip("rapidocr")
SIZE = 64
GEORGIAN = Script(
    name="georgian", title="Georgian", alphabet=tuple("აბგდევზთიკლმნოპრსტუფქყშჩცხჯ"), fonts=("none",), package=""
)
CAPITALS = replace(GEORGIAN, name="capitals", title="Capitals", alphabet=tuple("ABDEFGHKMNPRT"))


def small(images: torch.Tensor) -> torch.Tensor:
    """A quarter of the resolution: nothing below about 20 px is legible."""
    down = torch.nn.functional.avg_pool2d(images, 4)
    up = torch.nn.functional.interpolate(down, images.shape[-2:], mode="bilinear")
    return (up.clamp(0, 1) * 255).round() / 255


def setup_of(reconstruct: Reconstruct, engine: str = "rapidocr") -> TextSetup:
    reader, reason = open_reader(engine)
    charts = Setup(reconstruct=reconstruct, size=SIZE, stride=None, quick=True, seed=0, batch=8)
    return TextSetup(charts=charts, engine=engine, reader=reader, reason=reason, fonts={})


def dejavu() -> str:
    return pytest.importorskip("matplotlib.font_manager").findfont("DejaVu Sans")


def climb(setup: TextSetup, kind: Kind, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> tuple[Ladder, Part]:
    monkeypatch.setattr("smalti.eval.tasks.text_parts.setup.QUICK_SIZES", sizes)
    made = climbed(
        setup, kind, kind, lambda s: ladder(kind, s, SIZE, characters=25, seed=0), "latin"
    )  # fmt: skip
    return made, ladder_part(made, 0)


def test_nothing_lost_is_nothing_lost() -> None:
    result = text(lambda x: x, SIZE, quick=True, seed=0, parts=("documents",))
    values = {q.name: q.value or 0.0 for q in result.quantities}
    assert values["documents_dcer"] == 0
    assert values["documents_cer"] == values["documents_cer_original"] <= 0.05
    assert values["documents_bow_f1"] == values["documents_bow_f1_original"] >= 0.9
    assert values["documents_end_to_end_f1"] == values["documents_end_to_end_f1_original"] >= 0.9
    spotted = {f"{m}_{share}" for m in ("detection", "end_to_end") for share in ("precision", "recall", "f1")}
    assert set(values) == {
        f"documents_{m}{s}" for m in {"cer", "wer", "one_minus_ned", "bow_f1"} | spotted for s in ("", "_original")
    } | {"documents_dcer"}


def test_small_text_is_lost_before_large(monkeypatch: pytest.MonkeyPatch) -> None:
    made, part = climb(setup_of(small), "digits", (12, 32), monkeypatch)
    by_size = {r.shown.size: r.readings.dcer for r in made.rungs}
    assert by_size[12] > 0.5 > by_size[32]
    values = {q.name: q.value or 0.0 for q in part.quantities}
    assert values["digits_dcer"] > 0.1
    assert values["digits_dcer"] == pytest.approx(values["digits_cer"] - values["digits_cer_original"])
    assert part.curves[0].x == (12, 32) and part.curves[0].y[0] == by_size[12]
    assert part.pictures[0].original.shape == part.pictures[0].reconstruction.shape == (3, SIZE, SIZE)


def test_unmeasurable_and_too_large_sizes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader cannot read 4 px at all; words of 48 px do not fit: neither counts as a failure."""
    made, part = climb(setup_of(lambda x: x), "words", (4, 16, 48), monkeypatch)
    assert [r.shown.size for r in made.measurable] == [16]
    smallest = next(q for q in part.quantities if q.name == "words_smallest_legible")
    assert smallest.value == 16
    assert "unmeasurable, as the reader fails on the originals: 4 px" in smallest.note
    assert "too large for the image: 48 px" in smallest.note and "x-height 9 px" in smallest.note
    assert part.curves[0].x == (16,) and part.curves[1].x == (4, 16)


def test_without_a_measurable_size_there_is_no_value_but_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    _, part = climb(setup_of(lambda x: x), "random", (4,), monkeypatch)
    assert all(q.value is None and "unmeasurable at every size" in q.note for q in part.quantities)


def test_a_missing_engine_is_skipped_and_templates_still_score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from smalti.eval.text.ocr import reader

    reader.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("smalti.eval.text.scripts.font_folders", list)
    called = []
    result = text(lambda x: x, SIZE, quick=True, seed=0, engine="tesseract", on_part=called.append)
    assert called == list(PARTS)
    reasons = {s.metric: s.reason for s in result.skipped}
    assert {"words", "random strings", "digits", "posters", "documents"} < set(reasons)
    assert "apt-get install tesseract-ocr" in reasons["words"]
    assert result.engine == "" and result.quantity("glyphs_latin_threshold").value is not None
    for script in SCRIPTS:
        quantity = result.quantity(f"{script.name}_dcer")
        assert quantity.value is None and "not measurable here: no" in quantity.note and script.package in quantity.note
    plain = json.loads(json.dumps(result.to_dict()))
    assert {"quantities", "curves", "pictures", "skipped"} <= set(plain)


def test_a_script_that_the_reader_does_not_know_is_scored_by_templates() -> None:
    part = _script(replace(setup_of(lambda x: x), fonts={"georgian": dejavu()}), GEORGIAN)
    values = {q.name: q for q in part.quantities}
    assert values["glyphs_georgian_threshold"].value is not None
    assert values["georgian_dcer"].value is None
    assert "not measurable here: rapidocr" in values["georgian_dcer"].note
    assert part.skipped[0].metric == "georgian_dcer"


def test_a_script_that_the_reader_knows_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smalti.eval.tasks.text_parts.setup.QUICK_SIZES", (24,))
    monkeypatch.setattr("smalti.eval.tasks.text_parts.setup.QUICK_CHARACTERS", 20)
    part = _script(replace(setup_of(lambda x: x), fonts={"capitals": dejavu()}), CAPITALS)
    values = {q.name: q.value for q in part.quantities}
    assert values["capitals_dcer"] == 0 and "glyphs_capitals_threshold" in values


def test_a_font_without_the_script_is_not_read_as_boxes() -> None:
    part = _script(replace(setup_of(lambda x: x), fonts={"hindi": dejavu()}), SCRIPTS[-1])
    assert [q.value for q in part.quantities] == [None]
    assert "has no glyph for" in part.quantities[0].note


def test_fonts_of_the_system_are_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "WQY-MicroHei.ttc", "DejaVuSans.ttf"):
        (tmp_path / name).touch()
    monkeypatch.setattr("smalti.eval.text.scripts.font_folders", lambda: [tmp_path])
    found = {script.name: find_font(script) for script in SCRIPTS}
    assert found["chinese"] == found["korean"] == tmp_path / "NotoSansCJK-Regular.ttc"
    assert found["hindi"] is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 16}, ValueError, "at least 32 pixels a side, got size=16"),
        ({"parts": ("poems",)}, ValueError, "unknown parts"),
        ({"engine": "eye"}, ValueError, "unknown; allowed: rapidocr, tesseract"),
        ({"fonts": {"klingon": "a.ttf"}}, ValueError, "allowed: latin, chinese"),
        ({"fonts": {"latin": "none.ttf"}}, FileNotFoundError, "no font file none.ttf for latin"),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        text(lambda x: x, **({"size": SIZE, "quick": True, "seed": 0} | arguments))


def test_bad_reconstructions_are_refused() -> None:
    cases = [(lambda x: x[..., :32], "bring it back to the size"), (lambda x: x * torch.nan, "(?i)nan|finite")]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            text(wrong, SIZE, quick=True, seed=0, parts=("documents",))
