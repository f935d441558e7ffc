"""Proves what is LARP's own: clips in the contract, codes drawn with a given rng, the prior and the smoothed labels."""

import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from smalti.tokenizers.larp.objective import LARPObjective, LARPObjectiveConfig
from smalti.tokenizers.larp.prior import Prior, prior_loss
from smalti.training.recipe import TrainingConfig
from smalti.training.trainer import Trainer
from tests.tiny.larp import tiny_larp, tiny_larp_objective


def seeded(seed: int = 0) -> torch.Generator:
    """A fresh random generator."""
    return torch.Generator().manual_seed(seed)


CLIPS = torch.rand(2, 3, 4, 16, 16, generator=seeded(5))


def test_clips_are_cut_and_scaled_frame_by_frame_and_other_shapes_refused() -> None:
    """`preprocess` treats a frame as an image; still images and other lengths get an error that names the frames."""
    tokenizer = tiny_larp()
    wide = torch.rand(2, 3, 4, 20, 32, generator=seeded(1))
    small = tokenizer.preprocess(wide)
    assert small.shape == (2, 3, 4, 16, 16)
    assert torch.equal(small[:, :, 2], tokenizer.preprocess(wide[:, :, 2:3].expand(-1, -1, 4, -1, -1))[:, :, 0])
    for bad in (wide[:, :, 0], CLIPS[:, :, :3]):
        with pytest.raises(ValueError, match="4 frames"):
            tokenizer.encode(bad)


def test_codes_are_drawn_only_with_a_given_rng() -> None:
    """The same seed gives the same codes; a cold temperature gives the nearest ones."""
    warm, cold = tiny_larp(temperature=1.0), tiny_larp(temperature=1e-6)
    ids = [warm.encode(CLIPS, rng=rng).ids for rng in (seeded(1), seeded(1), seeded(2), None)]
    assert torch.equal(ids[0], ids[1])  # type: ignore[arg-type]
    assert not torch.equal(ids[0], ids[2])  # type: ignore[arg-type]
    assert torch.equal(ids[3], warm.quantizer.nearest(warm.features(CLIPS)))  # type: ignore[arg-type]
    assert torch.equal(cold.encode(CLIPS, rng=seeded(1)).ids, cold.encode(CLIPS).ids)  # type: ignore[arg-type]


def test_the_prior_sees_the_past_alone_and_its_loss_is_the_cross_entropy() -> None:
    """A later code changes no earlier guess; without drawing, every round costs the same."""
    torch.manual_seed(0)
    prior = Prior(channels=4, length=6, width=16, depth=2, heads=2)
    codebook = torch.nn.functional.normalize(torch.randn(10, 4), dim=-1)
    ids = torch.randint(10, (2, 6))
    codes = codebook[ids]
    guesses = prior(codes)
    assert guesses.shape == (2, 5, 4)
    other = codes.clone()
    other[:, 3] = -other[:, 3]
    assert torch.allclose(prior(other)[:, :3], guesses[:, :3], atol=1e-6)
    expected = -(guesses @ codebook.T).log_softmax(-1).gather(-1, ids[:, 1:, None]).mean()
    for rounds in (1, 3):
        loss = prior_loss(prior, codes, ids, codebook, replaced=0.0, rounds=rounds, rng=seeded())
        assert torch.isclose(loss, expected, atol=1e-6)
    drawn = prior_loss(prior, codes, ids, codebook, replaced=1.0, rounds=2, rng=seeded())
    assert not torch.isclose(drawn, expected, atol=1e-6)


def test_the_prior_shapes_the_encoder() -> None:
    """Its loss alone moves the encoder, through the codes."""
    model = tiny_larp().train()
    config = LARPObjectiveConfig(l1=0, quantization=0, perceptual=0, adversarial=0, prior=1, prior_width=16,
                                 prior_depth=1, prior_heads=2)  # fmt: skip
    LARPObjective(model, config).train()(CLIPS, 0, seeded()).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert not any(p.grad is not None and p.grad.any() for p in model.decoder.parameters())


def test_the_discriminator_learns_every_fifth_step_from_smoothed_labels() -> None:
    """At logits of 0 any label costs 2 log 2; confident right answers cost more than with hard labels."""
    objective = tiny_larp_objective(tiny_larp())
    assert [objective(CLIPS, step, seeded()).adversarial is not None for step in (0, 1, 4, 5)] == [1, 0, 0, 1]
    objective = LARPObjective(objective.model, LARPObjectiveConfig(perceptual=0, adversarial=0, prior=0, lecam=0))
    zeros = torch.zeros(64, 1)
    assert torch.isclose(objective._discriminate(zeros, zeros, seeded()), torch.tensor(2 * math.log(2)))
    assert objective._discriminate(zeros + 20, zeros - 20, seeded()) > 1


def test_a_few_steps_through_the_trainer_move_model_prior_and_discriminator(tmp_path: Path) -> None:
    """The trainer takes clips like images; the prior is trained along and is no part of the model."""
    model = tiny_larp().train()
    objective = tiny_larp_objective(model)
    parts = {"model": model, "prior": objective.helpers, "discriminator": objective.discriminator}
    before = {name: [p.detach().clone() for p in part.parameters()] for name, part in parts.items() if part}
    trainer = Trainer(
        objective,
        lambda call, size, rank: CLIPS,
        TrainingConfig(steps=3, batch=2, warmup=0, evaluations=0),
        accelerator=Accelerator(cpu=True),
        out=tmp_path,
        recipe={},
    )
    trainer.run()
    for name, part in parts.items():
        assert part is not None
        moved = [not torch.equal(a, b) for a, b in zip(before[name], part.parameters(), strict=True)]
        assert sum(moved) > 0.8 * len(moved), name
    assert not any("helpers" in key for key in model.state_dict())
