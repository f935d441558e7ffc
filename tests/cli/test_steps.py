"""Proves that `smalti generate --steps` reaches a model that leaves the number of steps open, that what is printed and
written says the number, and that other models refuse it in one line.
"""

import json
from pathlib import Path

import pytest
import torch

from smalti.decoding.settings import Settings
from smalti.generators.titok.config import authors_guidance, authors_sampling
from smalti.hub import load, save_pretrained
from smalti.pipeline import ImageGenerator
from smalti.tokens import Tokens
from tests.cli.conftest import Tiny
from tests.tiny.titok import tiny_titok, tiny_titok_generator


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a masked generator of 6 tokens in 4 steps."""
    root = tmp_path_factory.mktemp("masked")
    tokenizer = load(save_pretrained(tiny_titok(), root / "tokenizer", name="tiny/titok"))
    tokenizer.name = "tokenizer"
    settings = Settings(guidance=authors_guidance(2.0, "linear", 4), sampling=authors_sampling(3.0, 4))
    model = ImageGenerator(generator=tiny_titok_generator(), tokenizer=tokenizer, settings=settings, name="tiny/masked")  # type: ignore[arg-type]
    return str(save_pretrained(model, root / "generator"))


def test_steps_are_chosen_printed_and_written(smalti, masked: str, tmp_path: Path) -> None:
    """The tables of the settings are those of the number chosen, also beside other options."""
    asked = ("generate", masked, "--class", 1, "2", "--seed", 5)
    result = smalti(*asked, "--steps", 7, "--top-k", 20, "--out", tmp_path / "seven")
    assert result.status == 0 and "settings: guidance" in result.out and ", 7 steps" in result.out, result.err
    facts = json.loads((tmp_path / "seven" / "generation.json").read_text())
    assert (facts["steps"], len(facts["guidance"]["curve"]), len(facts["sampling"]["temperature"])) == (7, 7, 7)
    assert facts["sampling"]["top_k"] == 20
    smalti(*asked, "--steps", 3, "--save-steps", "--out", tmp_path / "three")
    assert len(list((tmp_path / "three").glob("0000-step*.png"))) == 3
    model = load(masked)
    assert isinstance(model, ImageGenerator)
    expected = model.generate(classes=[1, 2], seed=5, steps=3).tokens.values
    assert torch.equal(Tokens.load(tmp_path / "three" / "tokens.safetensors").values, expected)
    assert json.loads(smalti(*asked, "--out", tmp_path / "own", "--json").out)["steps"] == 4
    assert ", 1 step\n" in smalti(*asked, "--steps", 1, "--out", tmp_path / "one").out


@pytest.mark.parametrize(("steps", "words"), [(3, "fixed number of steps, 4"), (0, "fixed number of steps, 4")])
def test_other_models_refuse(smalti, tiny: Tiny, tmp_path: Path, steps: int, words: str) -> None:
    """Before anything is written."""
    result = smalti("generate", tiny.generator, "--steps", steps, "--out", tmp_path / "out")
    assert result.status == 2 and words in result.err and len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_less_than_one_step_is_refused(smalti, masked: str, tmp_path: Path) -> None:
    result = smalti("generate", masked, "--steps", 0, "--out", tmp_path / "out")
    assert result.status == 2 and "at least 1, got 0" in result.err
