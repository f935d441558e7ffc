"""Proves that an image's noise is its own: the same bits alone, in a batch, in another process; ids then agree too."""

import subprocess
import sys

import torch

import smalti
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.pipeline import ImageGenerator

STEPS = (0, 1, 255)


def test_noise_is_the_same_alone_in_a_batch_of_32_and_in_another_process() -> None:
    """Uniform, normal and Gumbel numbers of image 7, bit for bit."""
    batch, alone = Noise.of(100, 32), Noise.of(107, 1)
    for step in STEPS:
        for kind in ("uniform", "normal", "gumbel"):
            rows = getattr(batch, kind)(step, (5, 3))
            assert torch.equal(rows[7:8], getattr(alone, kind)(step, (5, 3)))
    code = (
        "from smalti.decoding.noise import Noise; n = Noise.of(107, 1); "
        f"print([n.uniform(s, (5, 3)).double().flatten().tolist() for s in {STEPS}])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert eval(said) == [batch.uniform(s, (5, 3))[7].double().flatten().tolist() for s in STEPS]


def test_a_trained_model_makes_the_same_ids_alone_and_in_a_batch() -> None:
    """All ids of the packaged generator agree here; only draws nearer than rounding to a boundary could differ."""
    model = smalti.load("mini/var-gen")
    assert isinstance(model, ImageGenerator)
    batch = model.generate(text=["a red apple"], n=8, seed=3, sampling=Sampling(temperature=1.0))
    for i in (0, 5):
        alone = model.generate(text=["a red apple"], seed=3 + i, sampling=Sampling(temperature=1.0))
        same = (alone.tokens.ids == batch.tokens.ids[i : i + 1]).float().mean()
        assert same > 0.98, f"{same:.1%} of the ids are the same"
