"""Proves the terms of the training mixture on every family that has them: the default is the family's own loss bit for
bit, the masked term does not see what it predicts and sees everything else, the next-all term does not see the future,
gradients reach model and helpers, and helpers are no part of the model. Groups, heads and orders have their tests with
the families.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from smalti.generators.base import Condition
from smalti.generators.detailflow.model import DetailFlowGenerator
from smalti.generators.detailflow.objective import DetailFlowObjective, DetailFlowObjectiveConfig
from smalti.generators.hita.model import HitaGenerator
from smalti.generators.hita.objective import HitaObjective, HitaObjectiveConfig
from smalti.generators.llamagen.model import LlamaGenGenerator
from smalti.generators.llamagen.objective import LlamaGenObjective, LlamaGenObjectiveConfig
from smalti.generators.nar.model import NARGenerator
from smalti.generators.nar.objective import NARObjective, NARObjectiveConfig
from smalti.generators.rar.model import RARGenerator
from smalti.generators.rar.objective import RARObjective, RARObjectiveConfig
from smalti.nn.losses import Losses
from smalti.nn.mixture import Mixable, Mixture, MixtureConfig
from tests.tiny.detailflow import tiny_detailflow_generator
from tests.tiny.flextok import WITH_TEXT, captions, flexar_objective, tiny_flexar
from tests.tiny.generators import texts
from tests.tiny.hita import tiny_hita_generator
from tests.tiny.llamagen import TEXT, tiny_llamagen_generator
from tests.tiny.nar import CLIP, tiny_nar
from tests.tiny.rar import tiny_rar


@dataclass
class Family:
    """A model, how it is asked, and its objective for weights of the mixture."""

    model: Any
    condition: Condition
    objective: Callable[..., Any]
    vocab: int
    own: tuple[str, ...] = ("cross_entropy",)
    """Parts of the losses that add up to the family's own."""
    unfed: int = 1
    """Number of tokens at the end that are never an input."""


def llamagen_objective(model: LlamaGenGenerator, **mixture: Any) -> LlamaGenObjective:
    """Half of the conditions dropped."""
    config = LlamaGenObjectiveConfig(condition_dropout=0.5, mixture=MixtureConfig(**mixture))
    return LlamaGenObjective(model, None, config)


def nar_objective(model: NARGenerator, **mixture: Any) -> NARObjective:
    """Half of the conditions dropped."""
    return NARObjective(model, None, NARObjectiveConfig(condition_dropout=0.5, mixture=MixtureConfig(**mixture)))


def detailflow_objective(model: DetailFlowGenerator, **mixture: Any) -> DetailFlowObjective:
    """Half of the conditions dropped, all images fed wrong tokens where the batch brings them."""
    config = DetailFlowObjectiveConfig(condition_dropout=0.5, correction=1.0, mixture=MixtureConfig(**mixture))
    return DetailFlowObjective(model, None, config)


def hita_objective(model: HitaGenerator, **mixture: Any) -> HitaObjective:
    """Half of the conditions dropped."""
    return HitaObjective(model, None, HitaObjectiveConfig(condition_dropout=0.5, mixture=MixtureConfig(**mixture)))


def rar_objective(model: RARGenerator, **mixture: Any) -> RARObjective:
    """Half of the conditions dropped; random orders in training."""
    return RARObjective(model, None, RARObjectiveConfig(condition_dropout=0.5, mixture=MixtureConfig(**mixture)))


def detailflow(**changes: Any) -> Family:
    """16 tokens in groups."""
    model = tiny_detailflow_generator(**changes)
    return Family(model, Condition.of_classes([1, 4]), detailflow_objective, 64, unfed=model.config.group)


def hita() -> Family:
    """6 holistic tokens and 16 patches."""
    streams = ("holistic", "patches")
    return Family(tiny_hita_generator(), Condition.of_classes([1, 4]), hita_objective, 64, own=streams)


FAMILIES: dict[str, Callable[[], Family]] = {
    "detailflow": detailflow,
    "detailflow long head": lambda: detailflow(head=8),
    "detailflow one by one": lambda: detailflow(group=1),
    "flextok": lambda: Family(tiny_flexar(), Condition.of_classes([1, 4]), flexar_objective, 120),
    "flextok text rotary": lambda: Family(
        tiny_flexar(**WITH_TEXT, rotary=100.0, positions="none"), captions([0, 1]), flexar_objective, 120
    ),
    "flextok sincos": lambda: Family(
        tiny_flexar(positions="sincos"), Condition.of_classes([1, -1]), flexar_objective, 120
    ),
    "hita": hita,
    "llamagen": lambda: Family(tiny_llamagen_generator(), Condition.of_classes([1, 4]), llamagen_objective, 64),
    "llamagen text": lambda: Family(tiny_llamagen_generator(**TEXT), texts(6)([0, 1]), llamagen_objective, 64),
    "nar": lambda: Family(tiny_nar(), Condition.of_classes([1, 4]), nar_objective, 64),
    "nar text": lambda: Family(tiny_nar(**TEXT), texts(6)([0, 1]), nar_objective, 64),
    "nar clip": lambda: Family(tiny_nar(**CLIP), Condition.of_classes([1, 4]), nar_objective, 32),
    "rar": lambda: Family(tiny_rar(), Condition.of_classes([1, 4]), rar_objective, 64),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    """One family after the other."""
    return FAMILIES[request.param]()


def ids_of(family: Family, seed: int = 0) -> Tensor:
    """Random tokens of two images."""
    shape = (2, family.model.layout.length)
    return torch.randint(family.vocab, shape, generator=torch.Generator().manual_seed(seed))


def mixture(family: Family, **weights: Any) -> Mixture:
    """The terms of a family."""
    torch.manual_seed(5)
    helpers = family.objective(family.model, **weights).helpers
    assert isinstance(helpers, Mixture)
    return helpers


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def losses_of(family: Family, **weights: Any) -> Losses:
    """Of one training step, with the same draws whatever the weights."""
    objective = family.objective(family.model, **weights).train()
    torch.manual_seed(7)
    return objective((ids_of(family), family.condition), 3, rng())


def own_of(family: Family, losses: Losses) -> Tensor:
    """The family's own loss, from the parts."""
    return torch.stack([losses.parts[name] for name in family.own]).sum()


def test_the_default_is_the_familys_own_loss(family: Family) -> None:
    """Bit for bit: without the terms, with their weights at 1 / 0 / 0, and as a part of any mixture."""
    plain = losses_of(family)
    assert family.objective(family.model).helpers is None and not {"masked", "next_all"} & set(plain.parts)
    assert torch.equal(losses_of(family, next=1, masked=0, next_all=0).total, plain.total)
    assert torch.equal(own_of(family, losses_of(family, next=3.0, masked=2.0, next_all=1.0)), plain.total)
    terms = Mixture(MixtureConfig(), length=family.model.layout.length, width=family.model.config.width)
    hidden = torch.zeros(1)
    total, parts = terms(family.model, plain.total, hidden, (ids_of(family), family.condition), 3, rng())
    assert torch.equal(total, plain.total) and not parts and not list(terms.parameters())


def test_the_terms_add_up(family: Family) -> None:
    """0.5 own + 2 masked + 3 next-all; a weight of 0 costs nothing and has no parameter."""
    ids = ids_of(family)
    objective = family.objective(family.model, next=0.5, masked=2.0, next_all=3.0).eval()
    losses = objective((ids, family.condition), 1, rng())
    parts = losses.parts
    expected = 0.5 * own_of(family, losses) + 2 * parts["masked"] + 3 * parts["next_all"]
    assert torch.allclose(losses.total, expected)
    alone = family.objective(family.model, next_all=1.0)
    assert {name for name, _ in alone.helpers.named_parameters()} == {"queries"}
    assert "masked" not in alone((ids, family.condition), 1, rng()).parts


def test_the_masked_term_sees_all_but_what_it_predicts(family: Family) -> None:
    """Other tokens in the hidden places change no state; another one in any visible place changes every state."""
    model: Mixable = family.model
    ids, mask = ids_of(family), torch.ones(family.model.config.width)
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked[:, [1, 3]] = True
    with torch.no_grad():
        before = model.hidden(ids, family.condition, masked=masked, mask=mask)
        hidden_changed = torch.where(masked, (ids + 1) % family.vocab, ids)
        assert torch.equal(model.hidden(hidden_changed, family.condition, masked=masked, mask=mask), before)
        for place in [i for i in range(ids.shape[1] - family.unfed) if i not in (1, 3)]:
            other = ids.clone()
            other[:, place] = (other[:, place] + 1) % family.vocab
            after = model.hidden(other, family.condition, masked=masked, mask=mask)
            changed = (after - before).abs().amax(dim=-1) > 1e-6
            assert changed.all(), f"token {place} is not seen everywhere"


def test_the_masked_loss_is_that_of_the_hidden_tokens(family: Family) -> None:
    """By its definition, from the states and the places that were drawn."""
    helpers, ids = mixture(family, masked=1.0, masked_share=(0.5, 0.5)), ids_of(family)
    places = helpers.hide(ids, 0, rng(2))
    count = round(ids.shape[1] / 2)
    assert places.shape == (2, count) and all(len(set(row.tolist())) == count for row in places)
    masked = torch.zeros_like(ids, dtype=torch.bool).scatter(1, places, True)
    with torch.no_grad():
        loss = helpers.masked(family.model, ids, family.condition, 0, rng(2))
        h = family.model.hidden(ids, family.condition, masked=masked, mask=helpers.mask)
        logprobs = family.model.logits_of(h).log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    assert torch.allclose(loss, -logprobs[masked].mean(), atol=1e-5)


def test_next_all_predicts_the_rest_from_the_past(family: Family) -> None:
    """For every place k: later tokens change the targets, never the state; the loss is by its definition."""
    helpers, ids = mixture(family, next_all=1.0), ids_of(family)
    length = ids.shape[1]
    seen = set()
    for step in range(4 * length):
        with torch.no_grad():
            h = family.model.hidden(ids, family.condition)
            loss = helpers.next_all(family.model, h, ids, step)
            each = [
                -family.model.logits_of(h[:, k : k + 1] + helpers.queries[k:], torch.arange(k, length)).log_softmax(-1)
                .gather(-1, ids[:, k:, None]).mean()
                for k in range(length)
            ]  # fmt: skip
        fits = [k for k in range(length) if torch.allclose(loss, each[k], atol=1e-5)]
        assert len(fits) == 1
        k = fits[0]
        if k in seen:
            continue
        seen.add(k)
        future = ids.clone()
        future[:, k:] = (future[:, k:] + 1) % family.vocab
        with torch.no_grad():
            assert torch.allclose(family.model.hidden(future, family.condition)[:, k], h[:, k], atol=1e-5)
    assert seen == set(range(length)), "every place gets its turn"


def test_gradients_reach_model_and_helpers(family: Family) -> None:
    """Every parameter of both; the helpers' are not the model's."""
    objective = family.objective(family.model, next=0.0, masked=1.0, next_all=1.0).train()
    for step in range(8):
        objective((ids_of(family, step), family.condition), step, rng(step)).total.backward()
    for module in (objective.model, objective.helpers):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    model, helpers = ({id(p) for p in module.parameters()} for module in (objective.model, objective.helpers))
    assert not model & helpers
    assert not any("queries" in key or "mask" in key for key in objective.model.state_dict())


def test_shares_are_spread_evenly() -> None:
    """From one token to all of them, as many at each number; at least one."""
    helpers = Mixture(MixtureConfig(masked=1.0), length=10, width=4)
    ids = torch.zeros(1, 10, dtype=torch.int64)
    counts = [helpers.hide(ids, step, rng()).shape[1] for step in range(1000)]
    assert set(counts) == set(range(1, 11))
    assert all(abs(counts.count(n) - 100) < 8 for n in range(2, 10))
    assert helpers.hide(ids, 0, rng(1)).tolist() != helpers.hide(ids, 0, rng(2)).tolist()


@pytest.mark.parametrize("name", ["llamagen", "rar"])
def test_weights_of_images_and_further_terms_do_not_go_together(name: str) -> None:
    family = FAMILIES[name]()
    objective = family.objective(family.model, masked=1.0)
    with pytest.raises(ValueError, match="leave out the weights of images"):
        objective((ids_of(family), family.condition, torch.ones(2)), 0, rng())


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="0 <= low <= high <= 1"):
        MixtureConfig(masked_share=(0.5, 0.2))
    with pytest.raises(ValueError, match="must not be negative"):
        MixtureConfig(next=-1.0)
