"""Proves that `smalti inpaint` keeps the tokens outside the mask, paints the rest, and says what it cannot do."""

import json
from pathlib import Path

import pytest
import torch

from smalti.hub import load
from smalti.images import read_images, write_image
from smalti.tokens import Tokens
from tests.cli.conftest import Tiny


def _masked(folder: Path) -> Path:
    """The right half is white."""
    mask = torch.zeros(3, 16, 16)
    mask[..., 8:] = 1
    return write_image(mask, folder / "mask.png")


def test_the_image_outside_the_mask_stays(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """Two versions of one class: whole maps that are kept are the image's, the rest differs; settings are printed."""
    arguments = ("--class", "cat", "--n", 2, "--seed", 1, "--out", tmp_path / "out")
    result = smalti("inpaint", tiny.generator, tiny.image, "--mask", _masked(tmp_path), *arguments)
    assert result.status == 0 and "settings: guidance" in result.out, result.err
    painted = Tokens.load(tmp_path / "out" / "tokens.safetensors")
    original = load(tiny.tokenizer).encode(read_images(tiny.image)).ids[0]
    assert torch.equal(painted.ids[:, :1], original[:1].expand(2, -1))
    assert not torch.equal(painted.ids[0], painted.ids[1])
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["0000.png", "0001.png"]


def test_pasting_keeps_the_pixels(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """The left half is the original's to the bit."""
    result = smalti("inpaint", tiny.generator, tiny.image, "--mask", _masked(tmp_path), "--paste", "--out", tmp_path)
    assert result.status == 0, result.err
    painted = read_images(tmp_path / "0000.png")
    assert torch.equal(painted[..., :8], read_images(tiny.image)[..., :8])


def test_out_painting_shrinks_the_image_and_paints_the_margin(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """The provenance holds the margin."""
    result = smalti("inpaint", tiny.generator, tiny.image, "--margin", 4, "--text", "a red apple",
                    "--out", tmp_path, "--json")  # fmt: skip
    assert result.status == 0, result.err
    facts = json.loads(result.out)
    assert (facts["margin"], facts["mask"], facts["text"]) == (4, None, ["a red apple"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--mask MASK.png"),
        (("--margin", 4, "--mask", "IMAGE"), "one of them"),
        (("--margin", 8), "1..7 pixels"),
        (("--mask", "SMALL"), "give a mask of its size"),
        (("--margin", 4, "--class", "dgo"), "dog"),
    ],
)
def test_what_cannot_be_painted_is_one_line(smalti, tiny: Tiny, tmp_path: Path, arguments: tuple, words: str) -> None:
    """Nothing is written."""
    small = write_image(torch.zeros(3, 8, 8), tmp_path / "small.png")
    places = {"IMAGE": tiny.image, "SMALL": small}
    given = [places.get(a, a) for a in arguments]
    result = smalti("inpaint", tiny.generator, tiny.image, *given, "--out", tmp_path / "out")
    assert result.status == 2 and words in result.err
    assert not (tmp_path / "out").exists()
