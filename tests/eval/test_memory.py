"""Proves that memory does not grow with the number of images, but for a few numbers per image: the peak of a whole run
over 512 images is that of one over 64, resamples and runs of codes are counted in bounded memory and give what they
gave before, files are read only as far as asked, and the peak told is that of this process.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from smalti.eval import bootstrap
from smalti.eval.run.chunks import Chunk, ChunkStore
from smalti.eval.stopwatch import peak_megabytes
from smalti.eval.token_stats import codebook
from smalti.eval.token_stats.collector import TokenStatistics
from smalti.images import write_image
from smalti.tokens import TokenLayout, Tokens

RUN = """
import sys
from pathlib import Path
import torch
from smalti.eval.run.evaluate import Settings, evaluate_tokenizers
from smalti.eval.run.sources import folder
from smalti.eval.run.suites import Suite
from smalti.eval.stopwatch import peak_megabytes
from tests.tiny.llamagen import tiny_llamagen_tokenizer

torch.set_num_threads(1)
images, out, n = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
tokenizer = tiny_llamagen_tokenizer()
tokenizer.name = "tiny"
settings = Settings(networks=False, baselines=False)
evaluate_tokenizers([tokenizer], folder(images, limit=n), Suite(tokens=True), out, settings, "test")
print(peak_megabytes())
"""


@pytest.mark.slow
def test_a_run_over_eight_times_the_images_has_the_same_peak(tmp_path: Path) -> None:
    """64 and 512 images of 32 pixels in processes of their own; 448 images held whole would be 5.5 MB and more."""
    rng = torch.Generator().manual_seed(0)
    for i in range(512):
        write_image(torch.rand(3, 32, 32, generator=rng), tmp_path / "images" / f"{i:03d}.png")

    def peak(n: int) -> float:
        command = [sys.executable, "-c", RUN, str(tmp_path / "images"), str(tmp_path / str(n)), str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        return float(done.stdout.split()[-1])

    assert peak(512) < peak(64) + 5


def test_the_peak_is_of_this_process(tmp_path: Path) -> None:
    """A child of a process that holds more than it ever will."""
    held = np.ones(40 << 20, np.float64)  # 320 MB
    done = subprocess.run(
        [sys.executable, "-c", "from smalti.eval.stopwatch import peak_megabytes; print(peak_megabytes())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert peak_megabytes() > held.nbytes / 2**20
    assert 10 < float(done.stdout) < peak_megabytes()


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_resamples_a_few_at_a_time_are_the_same(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit what one array of all draws gives."""
    values = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    numbers = values.numpy()
    picks = np.random.default_rng(3).integers(n, size=(1000, n))
    low, high = np.percentile(numbers[picks].mean(axis=1), [2.5, 97.5])
    for at_once in (1, 3 * n + 1, 1 << 20):
        monkeypatch.setattr(bootstrap, "AT_ONCE", at_once)
        found = bootstrap.mean_interval(values, seed=3)
        assert (found.low, found.high) == (low, high)


def test_runs_and_neighbors_are_of_the_first_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for 20 tokens: those of the 2 images that begin within them, whatever the batches; codes are of all."""
    layout = TokenLayout.scales((4,), vocab=50)
    ids = torch.randint(0, 50, (9, 16), generator=torch.Generator().manual_seed(0))

    def counted(batches: list[torch.Tensor]) -> tuple:
        statistics = TokenStatistics(layout)
        for batch in batches:
            statistics.add(Tokens(layout=layout, ids=batch), size=(8, 8))
        book = statistics.summary().codebooks[0]
        return book.ngrams, book.neighbors, book.tokens, book.entropy_bits

    everything = counted([ids])
    first = counted([ids[:2]])
    monkeypatch.setattr(codebook, "MOST_TOKENS", 20)
    for size in (1, 2, 5, 9):
        ngrams, neighbors, tokens, entropy = counted(list(ids.split(size)))
        assert ngrams == first[0] and {k: v.pairs for k, v in neighbors.items()} == dict.fromkeys(neighbors, 24)
        assert (tokens, entropy) == everything[2:] and everything[2] == 144


def test_a_chunk_is_read_as_far_as_asked(tmp_path: Path) -> None:
    """One name of two."""
    store = ChunkStore(tmp_path, {})
    store.write(0, Chunk(tensors={"a|psnr": torch.ones(2), "a|features": torch.zeros(2, 9)}, facts={"names": ["x"]}))
    (chunk,) = store.all(1, lambda name: name.endswith("psnr"))
    assert list(chunk.tensors) == ["a|psnr"] and chunk.facts == {"names": ["x"]}
    assert len(store.read(0).tensors) == 2
