"""Proves that schedules decide every position once and predecessors first, and that hand-over works between any two.

Schedules of a fixed order are tested as data, on layouts drawn at random.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.schedules import Schedule, confidence, neighbor, next_detail, ordered, random_order, raster
from smalti.generators.base import Condition
from smalti.tokens import Segment, TokenLayout
from tests.toys import GridTokenizer, ToyGenerator

sides = st.integers(1, 6)


def grid(*shape: int) -> TokenLayout:
    """One segment."""
    count = int(torch.tensor(shape).prod())
    return TokenLayout(segments=(Segment(shape=shape, vocab=8),), prefixes=(count,))


def order_of(schedule: Schedule) -> list[int]:
    """All positions in decoding order."""
    return schedule.positions_before(len(schedule)).tolist()


@given(st.lists(sides, min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_neighbors_come_in_diagonals(shape: list[int]) -> None:
    """Every cell once, after all cells one nearer to the corner; the fewest steps that allows."""
    layout = grid(*shape)
    schedule = neighbor(layout)
    assert sorted(order_of(schedule)) == list(range(layout.length))
    assert len(schedule) == sum(n - 1 for n in shape) + 1
    step_of = torch.empty(layout.length, dtype=torch.int64)
    for i, step in enumerate(schedule):
        step_of[step.positions] = i
    cells = step_of.view(*shape)
    for axis in range(len(shape)):
        assert bool((cells.diff(dim=axis) == 1).all()), "a neighbor along every axis is exactly one step later"


@given(st.integers(0, 6), st.integers(1, 5), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_next_detail_is_a_head_and_groups(head: int, group: int, groups: int) -> None:
    """In sequence order; the head one by one, the rest in groups."""
    if head + group * groups == 0:
        return
    schedule = next_detail(grid(head + group * groups), group, head)
    assert order_of(schedule) == list(range(head + group * groups))
    assert [step.count for step in schedule] == [1] * head + [group] * groups


def test_orders_that_cannot_be_are_refused() -> None:
    """Each error says what would be allowed."""
    with pytest.raises(ValueError, match="not a head of 3 and groups of 4"):
        next_detail(grid(16), 4, 3)
    with pytest.raises(ValueError, match="one grid"):
        neighbor(TokenLayout.scales((1, 2), vocab=8))
    with pytest.raises(ValueError, match="none negative"):
        confidence([3, -1])
    with pytest.raises(ValueError, match="known only while decoding"):
        confidence([3, 1]).positions_before(1)
    assert sorted(order_of(random_order(grid(16), seed=3))) == list(range(16))


SCHEDULES = {
    "raster": raster(grid(4, 4)),
    "neighbor": neighbor(grid(4, 4)),
    "backwards in fours": ordered(list(range(15, -1, -1)), 4),
    "random": random_order(grid(4, 4), seed=1),
}


def toy(name: str, seed: int) -> ToyGenerator:
    """A generator over a 4 x 4 grid in one of the orders."""
    torch.manual_seed(seed)
    return ToyGenerator(GridTokenizer().layout(), SCHEDULES[name]).eval()


def run(*stages: Stage) -> list[torch.Tensor]:
    """The sequences after every step."""
    feedback = GridTokenizer().feedback(2)
    return [p.values for p in decode(stages, Condition.of_classes([0, 1]), feedback=feedback, noise=Noise.of(0, 2))]


@pytest.mark.parametrize("first", SCHEDULES)
@pytest.mark.parametrize("second", SCHEDULES)
def test_hand_over_between_any_two_orders(first: str, second: str) -> None:
    """What the first decided stays, the second fills the rest; after 0 or all steps it is one model alone."""
    drafter, refiner = toy(first, 1), toy(second, 2)
    steps = len(drafter.schedule())
    for n in (0, steps // 2, steps):
        both = run(Stage(model=drafter, until=n), Stage(model=refiner))
        assert bool((both[-1] >= 0).all())
        if n in (0, steps):
            assert torch.equal(both[-1], run(Stage(model=refiner if n == 0 else drafter))[-1])
        else:
            drafted = run(Stage(model=drafter))[n - 1]
            assert torch.equal(both[-1][drafted >= 0], drafted[drafted >= 0])


def test_stages_may_differ_in_guidance_and_curves_count_in_their_own_schedule() -> None:
    """A table of one weight per step must fit the stage's own number of steps; otherwise nothing is run."""
    table = Guidance(scale=2.0, curve=(0.0,) * 6 + (1.0,))
    run(Stage(model=toy("raster", 1), until=3), Stage(model=toy("neighbor", 2), guidance=table))
    with pytest.raises(ValueError, match="weights for 7 steps, the schedule has 16"):
        run(Stage(model=toy("raster", 1), guidance=table))
