"""Proves that --window runs encode, decode and reconstruct in windows, and is refused where that cannot be."""

from pathlib import Path

import torch

from smalti.hub import load, save_pretrained
from smalti.images import read_images, write_image
from smalti.tokenizers.windows import WindowedTokenizer
from smalti.tokens import Tokens
from tests.cli.conftest import Tiny
from tests.tiny.llamagen import tiny_llamagen_tokenizer


def test_window(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """The verbs give what the library gives."""
    model, picture, file = tmp_path / "model", tmp_path / "large.png", tmp_path / "t.safetensors"
    save_pretrained(tiny_llamagen_tokenizer(), model, name="tiny/llamagen", license="Apache-2.0")
    write_image(torch.rand(3, 48, 80, generator=torch.Generator().manual_seed(0)), picture)
    windowed = WindowedTokenizer(load(model), window=32)  # type: ignore[arg-type]
    tokens = windowed.encode(read_images(picture))

    result = smalti("encode", picture, "--tokenizer", model, "--window", 32, "--out", file)
    assert result.status == 0, result.err
    assert torch.equal(Tokens.load(file).ids, tokens.ids)
    assert "windows of 32 pixels" in Tokens.load(file).origin.preprocessing
    result = smalti("decode", file, "--window", 32, "--out", tmp_path / "out")
    assert result.status == 0, result.err
    assert (read_images(tmp_path / "out" / "0000.png") - windowed.decode(tokens)).abs().max() <= 0.5 / 255 + 1e-6
    result = smalti("reconstruct", picture, "--tokenizer", model, "--window", 32, "--out", tmp_path / "rec")
    assert result.status == 0, result.err
    assert (read_images(tmp_path / "rec" / "large-0240.png") - windowed.decode(tokens)).abs().max() <= 1 / 255

    result = smalti("encode", tiny.image, "--tokenizer", tiny.tokenizer, "--window", 32, "--out", file)
    assert result.status == 2
    assert "windows need a tokenizer of images of many sizes" in result.err
