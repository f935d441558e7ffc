"""Proves that a continuous tokenizer gets onto the rate axis: rows whose latents are really rounded, with the bits and
the entropy of their codes, next to the row as it is and to codecs at these rates, on the page and in what is asserted.
"""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from smalti.cli import main
from smalti.eval.latent_codes import entropy_share, fit_quantizers, present, rounded_latents
from smalti.eval.report.eval_page import page
from smalti.eval.run.asserts import failures, parse
from smalti.eval.run.evaluate import Settings, evaluate_tokenizers
from smalti.eval.run.result import EvalResult
from smalti.eval.run.sources import folder
from smalti.eval.run.suites import SUITES, Suite
from smalti.images import write_image
from smalti.tokens import Segment, TokenLayout, Tokens
from tests.tiny.kl import tiny_kl
from tests.tiny.llamagen import tiny_llamagen_tokenizer
from tests.tiny.mingtok import tiny_mingtok

PLAIN = Settings(chunk=3, networks=False, latent_bits=(8, 2, 4))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven smooth images of 16 and 24 pixels."""
    root, rng = tmp_path_factory.mktemp("images"), torch.Generator().manual_seed(0)
    for i in range(7):
        small = torch.rand(1, 3, 4, 4, generator=rng)
        image = torch.nn.functional.interpolate(small, 24 if i == 3 else 16, mode="bicubic").clamp(0, 1)[0]
        write_image(image, root / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def result(images: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalResult:
    """The tiny autoencoder of 2 x 2 pixels in 4 channels over them."""
    out = tmp_path_factory.mktemp("out")
    kl = tiny_kl()
    kl.name = "tiny"
    return evaluate_tokenizers([kl], folder(images), Suite(), out, PLAIN, "test")


def test_rows_have_the_bits_of_their_codes(result: EvalResult) -> None:
    """b bits of 4 channels on 4 pixels are b bits per pixel; entropy is less; more bits come nearer to the whole."""
    whole = result.row("tiny@64")
    assert "bpp" not in whole.summary and "entropy_bpp" not in whole.summary
    changes = []
    for depth in (2, 4, 8):
        row = result.row(f"tiny at {depth} bits per value")
        assert row.kind == "baseline" and row.summary["bpp"].value == depth and row.summary["psnr"].n == 7
        assert row.summary["bits"].value == pytest.approx(depth * (6 * 256 + 576) / 7)
        assert 0.3 * depth < row.summary["entropy_bpp"].value < depth
        changes.append(abs(row.summary["psnr"].value - whole.summary["psnr"].value))
        assert f"{depth} bits per value" in row.protocol["latents"] and len(row.facts["low"]) == 4
    assert changes[2] < 0.01 and changes[2] < changes[1] < changes[0]
    codecs = [r for r in result.rows if " bpp" in r.subject]
    assert {r.subject.split(" at ")[1] for r in codecs} == {"2.0000 bpp", "4.0000 bpp", "8.0000 bpp"}


def test_the_rows_on_the_page_and_in_conditions(result: EvalResult, tmp_path: Path) -> None:
    """One curve of the rounded latents; how they were rounded; conditions mean the row as it is unless named."""
    text = page(result, tmp_path)
    assert "tiny, rounded" in text and "uniform steps, 4 bits per value" in text and "entropy bit/px" in text
    psnr = [result.row(k).summary["psnr"].value for k in ("tiny@64", "tiny at 2 bits per value")]
    between = f"psnr>{sum(psnr) / 2}" if psnr[0] > psnr[1] else f"psnr<{sum(psnr) / 2}"
    assert not failures(result, [parse(between)])
    assert len(failures(result, [parse(f"tiny at 2 bits per value:{between}")])) == 1


def test_values_and_entropies_by_hand() -> None:
    """Rounded tokens are what the quantizer gives; padding is left alone, not counted; entropy as counted by hand."""
    latents = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([6, 4, 6, 1, 6])
    latents[torch.arange(6) >= lengths[:, None]] = 0
    layout = TokenLayout(segments=(Segment(shape=(6,), vocab=None),), prefixes=(6,), ragged=True)
    tokens = Tokens(layout=layout, latents=latents, lengths=lengths)
    values = present(tokens)
    assert values.shape == (23, 3)
    quantizer = fit_quantizers([values[:9], values[9:]], [3])[3]
    rounded, counts = rounded_latents(tokens, quantizer)
    assert torch.equal(present(rounded), quantizer(values)) and not rounded.latents[3, 1:].any()  # type: ignore[index]
    assert counts.shape == (3, 8) and counts.sum(dim=1).tolist() == [23] * 3
    by_hand = 0.0
    for column in quantizer.codes(values).T.tolist():
        by_hand -= sum(n / 23 * math.log2(n / 23) for n in Counter(column).values())
    assert entropy_share(counts) == pytest.approx(by_hand / 9)


def test_suites_and_refusals(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """standard rounds by default, --no-baselines leaves it out; depths without use or out of range are refused."""
    mingtok, llamagen = tiny_mingtok(), tiny_llamagen_tokenizer()
    mingtok.name, llamagen.name = "ming", "llama"
    assert SUITES["standard"].latent_bits == SUITES["quick"].latent_bits == (2, 4, 8)
    suite = Suite(latent_bits=(4,))
    keys = [
        [r.key for r in evaluate_tokenizers([mingtok], folder(images), suite, tmp_path / str(b), s, "test").rows]
        for b in (True, False)
        for s in [Settings(networks=False, baselines=b)]
    ]
    assert keys[0][:2] == ["ming@4", "ming at 4 bits per value"] and keys[1] == ["ming@4"]
    with pytest.raises(ValueError, match="llama has a codebook"):
        evaluate_tokenizers([llamagen], folder(images), suite, tmp_path, PLAIN, "test")
    with pytest.raises(ValueError, match=r"2 to 8 bits per value, got \[9\]"):
        evaluate_tokenizers([mingtok], folder(images), suite, tmp_path, Settings(latent_bits=(9,)), "test")
    base = ["eval", "--tokenizer", "mini/var", "--out", str(tmp_path), "--latent-bits"]
    assert main([*base, "two"]) == 2 and "--latent-bits takes numbers" in capsys.readouterr().err
    assert main([*base, "4"]) == 2 and "has a codebook" in capsys.readouterr().err


def test_images_of_another_size_are_whole(images: Path, tmp_path: Path) -> None:
    """A tokenizer of any size: an image larger than its default is evaluated with all of its tokens."""
    llamagen = tiny_llamagen_tokenizer()
    llamagen.name = "llama"
    out = evaluate_tokenizers([llamagen], folder(images), Suite(), tmp_path, Settings(networks=False), "test")
    row = out.row("llama@16")
    assert row.summary["psnr"].n == 7 and not [s for s in out.skipped if s.what.endswith(".png")]
    assert row.summary["bits"].value == pytest.approx(6 * (6 * 16 + 36) / 7)
    assert row.summary["bpp"].value == pytest.approx(6 / 16)
