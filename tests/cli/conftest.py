"""Tiny real models in a folder, made once, and the command run inside this process."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from smalti.cli import main
from smalti.hub import load, save_pretrained
from smalti.images import write_image
from smalti.pipeline import ImageGenerator
from smalti.text import packaged
from smalti.tokenizers.base import Tokenizer
from tests.tiny.var import tiny_var_generator, tiny_var_tokenizer

CLASSES = ("cat", "dog", "fish", "tree", "house")


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """Folders of tiny models, and an image."""

    tokenizer: str
    other_tokenizer: str
    generator: str
    """Knows five classes and text."""
    class_generator: str
    """Knows five classes."""
    image: str


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """16 px models with random weights."""
    root = tmp_path_factory.mktemp("models")
    save_pretrained(tiny_var_tokenizer(), root / "tokenizer", name="tiny/var", license="Apache-2.0")
    other = tiny_var_tokenizer()
    torch.nn.init.normal_(other.quantizer.codebook, std=2.0)
    save_pretrained(other, root / "other", name="tiny/other", license="Apache-2.0")
    tokenizer = load(root / "tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    tokenizer.name = "tokenizer"  # the folder beside the generators'
    for name, features in (("generator", packaged().width), ("class-generator", 0)):
        model = ImageGenerator(
            generator=tiny_var_generator(text_features=features),
            tokenizer=tokenizer,
            text_encoder=packaged() if features else None,
            classes=CLASSES,
            name=f"tiny/{name}",
            license="Apache-2.0",
        )
        save_pretrained(model, root / name)
    image = torch.linspace(0, 1, 16 * 16).view(1, 16, 16).expand(3, 16, 16)
    write_image(image, root / "ramp.png")
    folders = (str(root / n) for n in ("tokenizer", "other", "generator", "class-generator", "ramp.png"))
    a, b, c, d, e = folders
    return Tiny(tokenizer=a, other_tokenizer=b, generator=c, class_generator=d, image=e)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def smalti(capsys: pytest.CaptureFixture[str]):
    """Runs the command with these arguments; its exit status and what it printed."""

    def run(*arguments: str | Path) -> Result:
        capsys.readouterr()
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else 1
        printed = capsys.readouterr()
        return Result(status=status, out=printed.out, err=printed.err)

    return run
