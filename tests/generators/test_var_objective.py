"""Proves which tokens count in the objective of the next-scale transformer, and that cheap steps are evenly spread."""

from itertools import pairwise

import pytest
import torch

from smalti.generators.base import Condition
from smalti.generators.var.objective import VARObjective, VARObjectiveConfig
from tests.tiny.var import tiny_var_generator, tiny_var_tokenizer


def losses(config: VARObjectiveConfig, step: int, ids: torch.Tensor, training: bool = True) -> float:
    """The loss of a batch of two."""
    objective = VARObjective(tiny_var_generator(), tiny_var_tokenizer(), config).train(training)
    return float(objective((ids, Condition.of_classes([0, 1])), step, torch.Generator()).total.detach())


@pytest.fixture
def ids() -> torch.Tensor:
    """Random tokens of 30 positions, scales 1 + 4 + 9 + 16."""
    return torch.randint(32, (2, 30), generator=torch.Generator().manual_seed(0))


def test_coarse_steps_ignore_the_fine_tokens(ids):
    config, other = VARObjectiveConfig(coarse=0.5, coarse_scales=3), ids.clone()
    other[:, 14:] = 0
    cheap = [step for step in range(100) if losses(config, step, ids) == losses(config, step, other)]
    assert abs(len(cheap) - 50) <= 1
    assert all(b - a <= 3 for a, b in pairwise(cheap)), "they are spread evenly"
    whole = losses(VARObjectiveConfig(), 0, ids)
    assert losses(config, cheap[0], ids, training=False) == whole, "evaluation is always whole"
    assert losses(config, cheap[0], ids) == pytest.approx(losses(VARObjectiveConfig(last_scale=2), 0, ids), rel=1e-5)


def test_a_refiner_counts_its_own_scales_only(ids):
    config = VARObjectiveConfig(first_scale=2)
    model, tokenizer = tiny_var_generator(), tiny_var_tokenizer()
    objective = VARObjective(model, tokenizer, config)
    condition = Condition.of_classes([0, 1])
    with torch.no_grad():
        logits = model.logits(tokenizer.feedback(2).push_prefix(ids, 3), condition)[:, 5:]
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 5:].flatten())
    assert torch.allclose(objective((ids, condition), 0, torch.Generator()).total, expected)


def test_after_its_own_draws_the_targets_lead_back_to_the_image(ids):
    """What the model is fed holds its draws; the last map codes what they leave of the image, as nearly as it can."""
    model, tokenizer = tiny_var_generator(), tiny_var_tokenizer()
    condition, rng = Condition.of_classes([0, 1]), torch.Generator().manual_seed(0)
    whole = tokenizer.quantizer.codes_of(ids).movedim(-1, 1)
    objective = VARObjective(model, tokenizer, VARObjectiveConfig(self_correction=1.0))
    targets, inputs = objective.corrected(ids, condition, 4, rng)
    clean = tokenizer.feedback(2).push_prefix(ids, 3)
    assert inputs is not None and clean is not None
    assert inputs.shape == clean.shape
    assert torch.equal(targets[:, :1], ids[:, :1]), "nothing stands before the first scale"
    assert not torch.equal(targets, ids) and not torch.equal(inputs, clean)
    fed = inputs[:, 13:].transpose(1, 2).unflatten(2, (4, 4))  # the sum of the first three maps, at full size
    last = tokenizer.quantizer.match((whole - fed).flatten(2).transpose(1, 2))
    assert torch.equal(targets[:, 14:], last)


def test_self_correction_draws_from_the_rng_in_training_only(ids):
    config, condition = VARObjectiveConfig(self_correction=0.5), Condition.of_classes([0, 1])
    objective = VARObjective(tiny_var_generator(), tiny_var_tokenizer(), config)

    def total(seed: int) -> float:
        return float(objective((ids, condition), 0, torch.Generator().manual_seed(seed)).total.detach())

    assert total(0) == total(0) != total(1)
    objective.eval()
    assert total(0) == total(1) == losses(VARObjectiveConfig(), 0, ids, training=False)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="coarse_scales must lie between first_scale 0 and the 4 scales"):
        losses(VARObjectiveConfig(coarse=0.5), 0, torch.zeros(2, 30, dtype=torch.int64))
    with pytest.raises(ValueError, match="pass a teacher"):
        losses(VARObjectiveConfig(distillation=0.5), 0, torch.zeros(2, 30, dtype=torch.int64))
