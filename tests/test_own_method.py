"""Proves that adding one's own tokenizer and generator is one file under 80 lines, which runs through the demo and
`generate`. The contract suites (test_tokenizer_contract.py, test_contracts.py) run over it as well.
"""

from pathlib import Path

import torch

from smalti.decoding.guidance import Guidance
from smalti.eval.demo import run_demo
from smalti.eval.demo_files import write_demo
from smalti.pipeline import ImageGenerator
from tests import own_method


def pipeline() -> ImageGenerator:
    """Tokenizer and generator put together."""
    torch.manual_seed(0)
    tokenizer = own_method.MeanColor().eval()
    tokenizer.name = "own/mean-color"
    return ImageGenerator(generator=own_method.Bigrams().eval(), tokenizer=tokenizer, name="own/bigrams")


def test_it_is_short() -> None:
    """Comments and imports included."""
    assert len(Path(own_method.__file__).read_text().splitlines()) < 80


def test_it_generates() -> None:
    """Classes, seeds, guidance and streaming work without another line."""
    model = pipeline()
    out = model.generate(classes=[0, 2], seed=3, guidance=Guidance(scale=2.0))
    assert out.images.shape == (2, 3, 32, 32)
    assert torch.equal(out.images, model.generate(classes=[0, 2], seed=3, guidance=Guidance(scale=2.0)).images)
    steps = list(model.stream(classes=[1], seed=0))
    assert len(steps) == 16 and steps[-1].done


def test_it_runs_through_the_demo(tmp_path: Path) -> None:
    """Reconstruction, generation and the page."""
    model = pipeline()
    result = run_demo(model.tokenizer, model, pipeline(), handover=8)
    write_demo(result, tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert result.sweep is not None and len(result.by_class) == 3
