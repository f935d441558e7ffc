"""Proves that readers read known text offline, remember, and say how to get them where they are missing."""

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from smalti.eval.text.ocr import EngineMissingError, Found, Reader, Tesseract, enlarged, in_reading_order, reader
from smalti.eval.text.pages import documents
from smalti.eval.text.render import ladder
from smalti.eval.text.scripts import SCRIPTS

ALPHABETS = {s.name: s.alphabet for s in SCRIPTS}


@pytest.fixture(scope="module")
def rapid() -> Reader:
    """The default engine, loaded once; no socket may be opened while it is."""
    pytest.importorskip("rapidocr")
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_args: object, **_kwargs: object) -> None:
            raise AssertionError("a socket was opened")

        patch.setattr(socket, "socket", refuse)
        found = reader("rapidocr")
        found.pages(torch.ones(1, 3, 32, 32))
        found.words(torch.ones(1, 3, 32, 32), [[(0, 0, 32, 32)]])
    return found


def test_words_in_their_boxes(rapid: Reader) -> None:
    shown = ladder("words", 16, 64, characters=12, seed=0)
    got = rapid.words(shown.images, [[w.box for w in words] for words in shown.words])
    assert [t.lower() for t in got] == [w.text for words in shown.words for w in words]


def test_a_page_in_its_order(rapid: Reader) -> None:
    shown = documents(128, 1, 0)
    assert rapid.pages(shown.images)[0].split() == shown.texts()[0].split()


def test_empty_images_give_empty_text(rapid: Reader) -> None:
    assert rapid.pages(torch.ones(1, 3, 64, 64)) == [""]
    assert rapid.words(torch.ones(1, 3, 64, 64), [[]]) == []


def test_scripts_that_the_models_know(rapid: Reader) -> None:
    known = {name: rapid.reads(name, alphabet) for name, alphabet in ALPHABETS.items()}
    assert known == {"chinese": True, "japanese": True, "korean": False, "hindi": False}


class Counting:
    """An engine that tells sizes instead of texts, and counts."""

    label = "counting"

    def __init__(self) -> None:
        self.calls = 0

    def strings(self, images: Sequence[np.ndarray], script: str) -> list[str]:
        self.calls += len(images)
        return [f"{image.shape[1]}x{image.shape[0]}" for image in images]

    def page(self, pixels: np.ndarray) -> list[Found]:
        self.calls += 1
        return [Found(text="page", box=(0, 0, 1, 1))]

    def reads(self, script: str, alphabet: Sequence[str]) -> bool:
        return True


def test_the_same_pixels_are_read_once() -> None:
    engine = Counting()
    read = Reader(engine)
    images = torch.rand(2, 3, 32, 32)
    boxes = [[(4, 4, 14, 12)], [(4, 4, 14, 12), (4, 4, 14, 12)]]
    first = read.words(images, boxes)
    assert first == ["28x20"] * 3, "widened by 2 and 1 pixels a side, then enlarged twice"
    assert engine.calls == 2
    assert read.words(images, boxes) == first and engine.calls == 2
    assert read.pages(images[:1]) == ["page"] and engine.calls == 3
    assert read.words(images, boxes, "hindi") == first and engine.calls == 5


def test_enlarging_is_bicubic() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 2:] = 200
    large = enlarged(pixels)
    assert large.shape == (8, 8, 3) and large.max() > 200, "bicubic overshoots at an edge"


def test_reading_order() -> None:
    pieces = [("c", (0, 22, 9, 30)), ("b", (20, 1, 29, 11)), ("a", (0, 3, 9, 13)), ("d", (20, 19, 29, 29))]
    assert in_reading_order([Found(text=t, box=b) for t, b in pieces]) == "a b\nc d"
    assert in_reading_order([]) == ""


def test_unknown_and_missing_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'easyocr' is unknown; allowed: rapidocr, tesseract"):
        reader("easyocr")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissingError, match="apt-get install tesseract-ocr"):
        Tesseract()


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="no tesseract on this machine")
def test_tesseract_reads_strings_and_pages() -> None:
    read = reader("tesseract")
    shown = ladder("words", 24, 128, characters=20, seed=0)
    truth = [w.text for words in shown.words for w in words]
    got = read.words(shown.images, [[w.box for w in words] for words in shown.words])
    assert sum(a == b.lower() for a, b in zip(truth, got, strict=True)) >= len(truth) - 1
    page = documents(192, 1, 0)
    seen, known = read.pages(page.images)[0].split(), page.texts()[0].split()
    assert len(set(known) & set(seen)) >= 0.8 * len(set(known))
