"""Proves that `smalti restyle` decodes the named segments of one image with the rest of others, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from smalti.hub import load, save_pretrained
from smalti.images import read_images, write_image
from smalti.tokens import Tokens
from tests.cli.conftest import Tiny
from tests.tiny.hita import tiny_hita_tokenizer


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two images, and style.png beside it."""
    rng = torch.Generator().manual_seed(0)
    for name in ("content/a.png", "content/b.png", "style.png"):
        write_image(torch.rand(3, 16, 16, generator=rng), tmp_path / name)
    return tmp_path


def test_holistic_tokens_of_one_image_with_the_patches_of_others(smalti, pictures: Path) -> None:
    """Tokens and pixels are those of the library."""
    save_pretrained(tiny_hita_tokenizer(), pictures / "hita", name="tiny/hita", license="MIT")
    result = smalti("restyle", pictures / "content", pictures / "style.png", "--tokenizer", pictures / "hita",
                    "--out", pictures / "out", "--json")  # fmt: skip
    assert result.status == 0, result.err
    facts = json.loads(result.out)
    assert facts["segments"] == ["holistic"]
    assert [Path(p).name for p in facts["images"]] == ["a.png", "b.png"]
    tokenizer = load(pictures / "hita")
    contents = tokenizer.encode(read_images([pictures / "content" / f"{n}.png" for n in "ab"]))
    style = tokenizer.encode(read_images([pictures / "style.png"] * 2))
    mixed = Tokens.load(pictures / "out" / "tokens.safetensors")
    assert torch.equal(mixed.segment(0), style.segment(0))
    assert torch.equal(mixed.segment(1), contents.segment(1))
    expected = tokenizer.decode(contents.with_segment("holistic", style))
    assert (read_images(facts["images"]) - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_several_segments_by_name_or_number(smalti, tiny: Tiny, pictures: Path) -> None:
    """The coarse maps of the style image under the fine ones of the content image."""
    arguments = ("--tokenizer", tiny.tokenizer, "--segment", "1x1", "1", "--out", pictures / "out")
    result = smalti("restyle", tiny.image, pictures / "style.png", *arguments)
    assert result.status == 0 and "1 image with 1x1, 2x2 of" in result.out, result.err
    mixed, tokenizer = Tokens.load(pictures / "out" / "tokens.safetensors"), load(tiny.tokenizer)
    content, style = (tokenizer.encode(read_images(p)).ids for p in (tiny.image, pictures / "style.png"))
    assert torch.equal(mixed.ids, torch.cat([style[:, :5], content[:, 5:]], dim=1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("IMAGE", "IMAGE"), "no segment 'holistic'; it has 1x1, 2x2, 3x3, 4x4"),
        (("IMAGE", "IMAGE", "--segment", "0", "1", "2", "3"), "takes 4 of them"),
        (("IMAGE", "absent.png", "--segment", "1x1"), "absent.png"),
    ],
)
def test_what_is_refused(smalti, tiny: Tiny, tmp_path: Path, arguments: tuple, words: str) -> None:
    """One line, and nothing is written."""
    given = [tiny.image if a == "IMAGE" else a for a in arguments]
    result = smalti("restyle", *given, "--tokenizer", tiny.tokenizer, "--out", tmp_path / "out")
    assert result.status == 2 and words in result.err and len(result.err.strip().splitlines()) == 1, result.err
    assert not (tmp_path / "out").exists()
