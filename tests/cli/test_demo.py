"""Proves that `smalti demo` runs with models given by path, prints the table, and refuses bad prompts at once."""

import json
from pathlib import Path

from tests.cli.conftest import Tiny


def test_demo(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """Report, numbers and pictures; plain progress lines on standard error, numbers on standard output."""
    result = smalti(
        "demo", "--tokenizer", tiny.tokenizer, "--generator", tiny.generator, "--refiner", tiny.class_generator,
        "--handover", 3, "--prompt", "a red apple", "--out", tmp_path / "demo", "--json",
    )  # fmt: skip
    assert result.status == 2, "a refiner of classes cannot finish a text"
    assert "classes only" in result.err
    assert not (tmp_path / "demo").exists()
    result = smalti(
        "demo", "--tokenizer", tiny.tokenizer, "--generator", tiny.generator, "--refiner", tiny.generator,
        "--handover", 3, "--prompt", "a red apple", "--out", tmp_path / "demo", "--json",
    )  # fmt: skip
    assert result.status == 0, result.err
    data = json.loads(result.out)
    assert data["hand_over"]["handover"] == 3
    assert data["hand_over"]["mean_absolute_difference"] == 0
    assert data["generated"]["text"][0]["label"] == "a red apple"
    assert Path(data["report"]).read_text().startswith("<!doctype html>")
    assert "Reconstructing at every budget: done" in result.err


def test_demo_refuses_an_empty_prompt(smalti, tmp_path: Path) -> None:
    """Before any model is loaded."""
    result = smalti("demo", "--prompt", "a red apple", "", "--out", tmp_path / "demo")
    assert result.status == 2
    assert "empty" in result.err
    assert not (tmp_path / "demo").exists()
