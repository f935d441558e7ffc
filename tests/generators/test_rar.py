"""RAR beyond its goldens: modulations computed ahead and shared, any order, the annealing of its objective, and the
order of its further terms.
"""

import math

import pytest
import torch

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.rar import model as rar
from smalti.generators.rar.config import RARConfig, authors_guidance
from smalti.generators.rar.model import RARGenerator
from smalti.generators.rar.objective import RARObjective, RARObjectiveConfig
from smalti.nn.mixture import MixtureConfig
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import Choice, Tokens
from tests.tiny.rar import tiny_rar

RNG = torch.Generator().manual_seed(0)
IDS = torch.randint(64, (3, 16), generator=RNG)
ORDERS = torch.rand(3, 16, generator=RNG).argsort(dim=1)
CONDITION = Condition.of_classes([0, 3, 3])


def stepwise(model: RARGenerator, start: int = 0) -> torch.Tensor:
    """Logits [2, B, L - start, V] of IDS, token by token after a prefix."""
    with torch.inference_mode():
        state = model.begin(
            CONDITION, feedback=NoFeedback(), branches=("cond", "null"), known=IDS if start else None, start=start
        )
        parts = []
        for i in range(start, 16):
            parts.append(model.predict(state).logits_RBnV)
            model.accept(state, Choice(ids=IDS[:, i : i + 1]))
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("start", [0, 5, 15])
@pytest.mark.parametrize("ahead", [1, 9, 10_000])
def test_modulations_ahead_change_nothing(start: int, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many places are computed at once, the logits are those of one pass."""
    monkeypatch.setattr(rar, "AHEAD", ahead)
    model, tokens = tiny_rar(), Tokens(layout=tiny_rar().layout, ids=IDS)
    with torch.no_grad():
        whole = torch.cat([model(tokens, c).logits_RBnV for c in (CONDITION, CONDITION.null())])
    assert torch.allclose(stepwise(model, start), whole[:, :, start:], atol=1e-5)


def test_images_of_one_class_and_null_rows_share_their_modulations() -> None:
    """Six rows, three different conditions."""
    state = tiny_rar().begin(CONDITION, feedback=NoFeedback(), branches=("cond", "null"))
    assert len(state.conditions_UD) == 3 and state.rows_R.tolist() == [0, 1, 1, 2, 2, 2]


def test_rows_that_guide_no_more_are_dropped_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidance that ends early: the same ids with the null rows kept to the end."""
    model = tiny_rar()
    stage = Stage(model=model, guidance=Guidance(scale=3.0, curve="interval", stop=0.5), sampling=Sampling())

    def ids() -> torch.Tensor:
        return list(decode([stage], CONDITION, feedback=NoFeedback(), noise=Noise.of(0, 3)))[-1].values

    dropped = ids()
    monkeypatch.setattr(model, "unguide", lambda state: False)
    assert torch.equal(dropped, ids())


def test_guidance_in_the_authors_words() -> None:
    """A cosine of a power of i / n; power 0 is constant, scale 0 is none."""
    assert not authors_guidance(0.0, 2.75, 16).active
    curve = [authors_guidance(16.0, 2.75, 256).at(i, 256) for i in range(256)]
    assert curve == pytest.approx([1 + 15 * (1 - math.cos(math.pi * (i / 256) ** 2.75)) / 2 for i in range(256)])
    assert {authors_guidance(4.0, 0.0, 9).at(i, 9) for i in range(9)} == {4.0}


# ---- orders ----------------------------------------------------------------------------------------------------------


def test_raster_is_an_order_like_any_other() -> None:
    """Given or not."""
    model, tokens = tiny_rar(), Tokens(layout=tiny_rar().layout, ids=IDS)
    with torch.no_grad():
        plain, given = model(tokens, CONDITION), model(tokens, CONDITION, orders=torch.arange(16))
    assert torch.allclose(plain.logits_RBnV, given.logits_RBnV, atol=1e-6)


def test_a_token_sees_those_before_it_in_the_order_and_no_other() -> None:
    """Another token at place p changes exactly the places decided after p, each image in its order."""
    model = tiny_rar()
    changed = IDS.clone()
    place = ORDERS[:, 6]
    rows = torch.arange(3)
    changed[rows, place] = (changed[rows, place] + 1) % 64
    with torch.no_grad():
        before, after = (
            model(Tokens(layout=model.layout, ids=ids), CONDITION, orders=ORDERS).logits_RBnV[0]
            for ids in (IDS, changed)
        )
    differs = (before - after).abs().amax(-1).gather(1, ORDERS)
    assert (differs[:, :7] < 1e-6).all() and (differs[:, 7:] > 1e-3).all()


def test_no_orders_are_refused() -> None:
    """Not permutations, or of another size."""
    model = tiny_rar()
    tokens = Tokens(layout=model.layout, ids=IDS)
    for wrong in (torch.zeros(16, dtype=torch.int64), torch.arange(15), ORDERS[:2]):
        with pytest.raises(ValueError, match=r"each of 0..15 once, \[16\] or \[3, 16\]"):
            model(tokens, CONDITION, orders=wrong)
    with pytest.raises(ValueError, match="whole sequences of 16 ids"):
        model(Tokens(layout=model.layout, ids=IDS[:, :4]), CONDITION)
    with pytest.raises(ValueError, match="width 30 and 4 heads"):
        RARConfig(width=30, heads=4)


# ---- objective -------------------------------------------------------------------------------------------------------


def test_orders_calm_down_over_the_training() -> None:
    """Random for half of it, raster for the last quarter, a falling share in between."""
    objective = RARObjective(tiny_rar())
    for progress, share in ((0.0, 1.0), (0.5, 1.0), (0.625, 0.5), (0.7, 0.2), (0.75, 0.0), (1.0, 0.0)):
        objective.progress = progress
        assert objective.randomness == pytest.approx(share)
        orders = objective.orders(2000, torch.Generator().manual_seed(0))
        assert (orders.sort(dim=1).values == torch.arange(16)).all()
        shuffled = (orders != torch.arange(16)).any(dim=1).float().mean()
        assert float(shuffled) == pytest.approx(share, abs=0.04)
    sudden = RARObjective(tiny_rar(), config=RARObjectiveConfig(random_until=0.5, raster_from=0.5))
    assert sudden.randomness == 1
    sudden.progress = 0.5
    assert sudden.randomness == 0
    with pytest.raises(ValueError, match="0.8 and 0.75"):
        RARObjectiveConfig(random_until=0.8)
    with pytest.raises(ValueError, match="no teacher"):
        RARObjective(tiny_rar(), teacher=tiny_rar())


def test_the_loss_is_that_of_the_order_it_draws() -> None:
    """Without dropout: cross entropy of the places, predicted in the image's order; weights of 0 take images out."""
    model = tiny_rar(dropout=0.0)
    objective = RARObjective(model, config=RARObjectiveConfig(condition_dropout=0.0)).train()
    orders = objective.orders(3, torch.Generator().manual_seed(4))
    with torch.no_grad():
        total = objective((IDS, CONDITION), 0, torch.Generator().manual_seed(4)).total
        logits = model(Tokens(layout=model.layout, ids=IDS), CONDITION, orders=orders).logits_RBnV[0]
        each = -logits.log_softmax(-1).gather(-1, IDS[..., None])[..., 0].mean(1)
        assert total == pytest.approx(float(each.mean()), rel=1e-5)
        weights = torch.tensor([0.0, 1.0, 0.0])
        part = objective((IDS, CONDITION, weights), 0, torch.Generator().manual_seed(4)).total
    assert part == pytest.approx(float(each[1]), rel=1e-5)


def test_the_further_terms_follow_the_orders() -> None:
    """Each image in its own; the tokens from k on in the order are asked for by the queries of their places."""
    model, mixture = tiny_rar(), MixtureConfig(masked=1.0, next_all=1.0, masked_share=(0.5, 0.5))
    config = RARObjectiveConfig(condition_dropout=0.0, mixture=mixture)
    objective = RARObjective(model, config=config).train()
    model.eval()  # no dropout
    helpers, draws, k = objective.helpers, torch.Generator().manual_seed(4), 3  # step 3: (0.5 + 3 * 0.57) % 1 * 16
    assert helpers is not None
    orders, _ = objective.orders(3, draws), torch.rand(3, generator=draws)  # and the conditions
    ids, lines = IDS.gather(1, orders), torch.arange(3)[:, None]
    with torch.no_grad():
        parts = objective((IDS, CONDITION), 3, torch.Generator().manual_seed(4)).parts
        states = model.hidden(ids, CONDITION, orders_BL=orders)[:, k : k + 1] + helpers.queries[orders[:, k:]]
        each = model.logits_of(states).log_softmax(-1).gather(-1, ids[:, k:, None])
        assert torch.allclose(parts["next_all"], -each.mean(), atol=1e-5)
        places = helpers.hide(ids, 3, draws)
        masked = torch.zeros(3, 16, dtype=torch.bool).scatter(1, places, True)
        states = model.hidden(ids, CONDITION, masked=masked, mask=helpers.mask, orders_BL=orders)[lines, places]
        each = model.logits_of(states).log_softmax(-1).gather(-1, ids[lines, places][..., None])
    assert torch.allclose(parts["masked"], -each.mean(), atol=1e-5)
