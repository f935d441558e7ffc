"""Proves that draws follow the stated distribution, noise belongs to the image, and schedules are complete."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smalti.decoding.guidance import Guidance
from smalti.decoding.noise import Noise
from smalti.decoding.prediction import Categorical, Velocity
from smalti.decoding.sampling import Sampling
from smalti.decoding.schedules import Schedule, next_scale, ordered, raster
from smalti.tokens import TokenLayout

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def expected(sampling: Sampling) -> list[float]:
    """The distribution by the definitions, in plain Python."""
    t = sampling.temperature or 1.0
    assert isinstance(t, float)
    logits = {i: v / (t if sampling.temperature_order == "first" else 1.0) for i, v in enumerate(LOGITS.tolist())}
    if sampling.top_k:
        logits = dict(sorted(logits.items(), key=lambda kv: -kv[1])[: sampling.top_k])  # type: ignore[misc]
    if sampling.top_p < 1:  # type: ignore[operator]
        total, kept, mass = sum(math.exp(v) for v in logits.values()), {}, 0.0
        for i, v in sorted(logits.items(), key=lambda kv: -kv[1]):
            if mass < sampling.top_p:
                kept[i] = v
            mass += math.exp(v) / total
        logits = kept
    if sampling.temperature_order == "last":
        logits = {i: v / t for i, v in logits.items()}
    total = sum(math.exp(v) for v in logits.values())
    return [math.exp(logits[i]) / total if i in logits else 0.0 for i in range(len(LOGITS))]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.7),
        Sampling(top_k=3),
        Sampling(top_p=0.8),
        Sampling(temperature=1.5, top_k=4, top_p=0.9),
        Sampling(temperature=1.5, top_k=4, top_p=0.9, temperature_order="last"),
    ],
)
def test_draws_follow_the_stated_distribution(sampling: Sampling) -> None:
    """100,000 draws: chi-square below its 99.99 % quantile, and never a code of probability zero."""
    count = 100_000
    prediction = Categorical(LOGITS.expand(1, 1, count, -1))
    ids = prediction.draw(Guidance(), sampling, Noise([3]), step=0, steps=1).ids
    seen, probabilities = torch.bincount(ids[0], minlength=6).tolist(), expected(sampling)
    statistic = sum((n - count * p) ** 2 / (count * p) for n, p in zip(seen, probabilities, strict=True) if p)
    assert all(n == 0 for n, p in zip(seen, probabilities, strict=True) if p == 0)
    assert statistic < 27.9  # quantile for 5 degrees of freedom; fewer give a smaller one


def test_log_probabilities_are_those_of_the_drawn_distribution() -> None:
    """They sum to one over the kept codes."""
    sampling = Sampling(temperature=0.7, top_k=3)
    choice = Categorical(LOGITS.expand(1, 1, 64, -1)).draw(Guidance(), sampling, Noise([1]), step=0, steps=1)
    probabilities = torch.tensor(expected(sampling))
    assert torch.allclose(choice.logprobs.exp(), probabilities[choice.ids], atol=1e-6)


def test_per_step_values_and_greedy() -> None:
    """Each step takes its own value; temperature 0 and top-k 1 take the best code."""
    sampling = Sampling(temperature=(0.0, 1.0), top_k=(0, 1))
    prediction = Categorical(LOGITS.expand(1, 1, 8, -1))
    for step in (0, 1):
        assert (prediction.draw(Guidance(), sampling, Noise([0]), step=step, steps=2).ids == 0).all()
    with pytest.raises(ValueError, match="step 2 has none"):
        prediction.draw(Guidance(), sampling, Noise([0]), step=2, steps=3)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_k": -1}, {"top_p": 1.5}, {"top_p": (0.5, 2)}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    """With the allowed range in the message."""
    with pytest.raises(ValueError, match="must be"):
        Sampling(**wrong)


def test_noise_belongs_to_the_image() -> None:
    """Bitwise the same alone, in a batch of 32, and at another place of the batch; different per step and seed."""
    batch = Noise.of(100, 32).uniform(3, (50,))
    for i in (0, 7, 31):
        assert torch.equal(batch[i], Noise([100 + i]).uniform(3, (50,))[0])
    assert not torch.equal(batch, Noise.of(100, 32).uniform(4, (50,)))
    assert len(batch.unique()) > 1590
    with pytest.raises(ValueError, match="negative"):
        Noise([-1])


def test_gumbel_noise_is_gumbel() -> None:
    """Mean is Euler's constant, variance pi^2 / 6 (100,000 numbers)."""
    noise = Noise([5]).gumbel(0, (100_000,))
    assert abs(noise.mean() - 0.5772) < 0.02 and abs(noise.var() - math.pi**2 / 6) < 0.05


def test_a_code_of_probability_zero_is_never_drawn() -> None:
    """Not even where rounding lets the cumulative sum end below the uniform number."""
    probs = torch.zeros(1, 20_000, 3)
    probs[..., 1] = 1
    assert (Noise([2]).categorical(probs, 0) == 1).all()


def test_guidance_curves() -> None:
    """u + s (c - u), VAR's ramp, the interval, per-image scales, and unknown names."""
    rows = torch.stack([torch.full((2, 1), 3.0), torch.full((2, 1), 1.0)])
    assert Guidance(scale=2.5, curve="linear").apply(rows, 9, 10).tolist() == [[6.0], [6.0]]
    assert Guidance(scale=2.5, curve="linear").apply(rows, 0, 10).tolist() == [[3.0], [3.0]]
    assert Guidance(scale=(1.0, 2.0)).apply(rows, 0, 1).tolist() == [[3.0], [5.0]]
    interval = Guidance(scale=3.0, curve="interval", start=0.25, stop=0.5)
    assert [interval.at(i, 5) for i in range(5)] == [1.0, 3.0, 3.0, 1.0, 1.0]
    assert Guidance(scale=3.0, curve="decreasing").at(4, 5) == 1.0
    assert math.isclose(Guidance(scale=3.0, curve="cosine").at(2, 5), 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allowed: constant, linear"):
        Guidance(curve="steep")  # type: ignore[arg-type]


def complete(schedule: Schedule) -> bool:
    """Each position once."""
    return sorted(schedule.positions_before(len(schedule)).tolist()) == list(range(schedule.length))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_scale_and_raster_schedules_decide_each_position_once_in_order(sides: list[int]) -> None:
    """Predecessors come before successors."""
    layout = TokenLayout.scales(sorted(sides), vocab=4)
    for schedule in (next_scale(layout), raster(layout)):
        assert complete(schedule)
        assert schedule.positions_before(len(schedule)).tolist() == list(range(layout.length))
    assert next_scale(layout).ends == layout.prefixes


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(9)), st.integers(1, 9))
def test_any_order_is_followed(order: list[int], group: int) -> None:
    """In groups; a broken order is refused."""
    schedule = ordered(order, group)
    assert complete(schedule) and schedule.positions_before(len(schedule)).tolist() == list(order)
    with pytest.raises(ValueError, match="exactly once"):
        ordered([*order[:-1], order[0]] if len(set(order)) > 1 else [1])


def test_velocity_integrates_the_guided_field() -> None:
    """A constant field moves the noise by exactly one unit of the guided velocity."""
    field = Velocity(
        lambda x, t: torch.cat([torch.full_like(x[:2], 3.0), torch.full_like(x[:2], 1.0)]),
        (2, 2, 4, 3),
        torch.device("cpu"),
    )
    latents = field.draw(Guidance(scale=2.0), Sampling(), Noise([0, 1]), step=0, steps=1).latents
    assert torch.allclose(latents - Noise([0, 1]).normal(0, (4, 3)), torch.full((2, 4, 3), 5.0), atol=1e-5)
