"""Proves that the text task shows what it says it shows: all ink is in boxes, every box has ink, seeds rule."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from smalti.eval.text.pages import documents, posters
from smalti.eval.text.render import LETTERS, SIZES, Kind, TextImages, ladder, load_font, page_text, script_ladder

KINDS: tuple[Kind, ...] = ("words", "random", "digits")


def ink(shown: TextImages, index: int) -> torch.Tensor:
    """bool [S, S]: where black on white is not white."""
    return shown.images[index].mean(dim=0) < 0.97


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [6, 24])
def test_ink_lies_in_the_boxes_and_nowhere_else(kind: Kind, size: int) -> None:
    shown = ladder(kind, size, 128, characters=80, seed=3)
    assert shown.images.shape[1:] == (3, 128, 128)
    assert torch.equal(shown.images, (shown.images * 255).round() / 255)
    for i, words in enumerate(shown.words):
        rest = ink(shown, i)
        for word in words:
            left, top, right, bottom = word.box
            assert 0 <= left < right <= 128 and 0 <= top < bottom <= 128
            assert rest[top:bottom, left:right].any(), f"{word} has no ink"
            rest[top:bottom, max(left - 1, 0) : right + 1] = False
        assert not rest.any()


@pytest.mark.parametrize("kind", KINDS)
def test_enough_characters_of_the_kind(kind: Kind) -> None:
    shown = ladder(kind, 12, 64, characters=50, seed=0)
    text = "".join(word.text for words in shown.words for word in words)
    assert 50 <= len(text) < 70
    assert all(len(words) <= 16 for words in shown.words)
    assert set(text) <= set({"words": LETTERS + "ilo", "random": LETTERS, "digits": "0123456789"}[kind])
    assert shown.x_height in ((7, 8, 9) if kind == "digits" else (6, 7))


def test_the_same_seed_gives_the_same_images_and_another_one_others() -> None:
    for make in (lambda seed: ladder("random", 10, 64, characters=40, seed=seed), lambda seed: posters(96, 2, seed)):
        first, again, other = make(1), make(1), make(2)
        assert torch.equal(first.images, again.images) and first.words == again.words
        assert first.words != other.words


def test_places_are_not_bound_to_pixels() -> None:
    shown = ladder("digits", 12, 64, characters=200, seed=0)
    columns = {round(float(1 - image.mean(dim=0)[:, :8].mean(dim=0).min()), 2) for image in shown.images}
    assert len(columns) > 5


def test_random_strings_are_as_long_as_words_where_they_fit() -> None:
    lengths = {}
    for kind in ("words", "random"):
        shown = ladder(kind, 8, 256, characters=1500, seed=0)
        texts = [word.text for words in shown.words for word in words]
        lengths[kind] = sum(map(len, texts)) / len(texts)
    assert lengths["random"] == pytest.approx(lengths["words"], rel=0.05)


def test_what_does_not_fit_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"words of 48 px do not fit an image of 64 px"):
        ladder("words", 48, 64, characters=10, seed=0)
    with pytest.raises(ValueError, match=r"random of 48 px do not fit an image of 32 px"):
        ladder("random", 48, 32, characters=10, seed=0)


def test_every_size_of_the_ladder_fits_256_pixels() -> None:
    for size in SIZES:
        assert len(ladder("words", size, 256, characters=1, seed=0).images) == 1


@pytest.mark.parametrize("make", [posters, documents])
@pytest.mark.parametrize("size", [56, 64, 256])
def test_pages_hold_whole_words_inside_the_image(make: Callable[..., TextImages], size: int) -> None:
    shown = make(size, 3, 0)
    assert shown.images.shape == (3, 3, size, size)
    for image, words in zip(shown.images, shown.words, strict=True):
        assert len({w.line for w in words}) >= 2
        boxes = [w.box for w in words]
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= size and 0 <= top < bottom <= size
            part = image[:, top:bottom, left:right]
            assert float(part.amax() - part.amin()) > 0.3
        assert boxes == sorted(boxes, key=lambda b: (b[1], b[0])), "words are in the order of reading"
        assert page_text(words).count("\n") == len({w.line for w in words}) - 1


def test_fonts_by_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no font file"):
        load_font(tmp_path / "none.ttf", 12)
    (tmp_path / "text.ttf").write_text("no font")
    with pytest.raises(ValueError, match="is not a font"):
        load_font(tmp_path / "text.ttf", 12)


def test_a_script_of_a_font_file() -> None:
    font = pytest.importorskip("matplotlib.font_manager").findfont("DejaVu Sans")
    shown = script_ladder("greek", tuple("αβγδεζ"), 16, 64, characters=20, seed=0, font=font)
    texts = [word.text for words in shown.words for word in words]
    assert set("".join(texts)) <= set("αβγδεζ") and all(2 <= len(t) <= 5 for t in texts)
    assert 8 <= shown.x_height <= 16
