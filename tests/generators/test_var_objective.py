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


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="coarse_scales must lie between first_scale 0 and the 4 scales"):
        losses(VARObjectiveConfig(coarse=0.5), 0, torch.zeros(2, 30, dtype=torch.int64))
    with pytest.raises(ValueError, match="pass a teacher"):
        losses(VARObjectiveConfig(distillation=0.5), 0, torch.zeros(2, 30, dtype=torch.int64))
