"""Decoding schedules: which positions are decided in which step.

With fixed positions a schedule is data. `Step.positions` None means "the most confident `count` of the open
positions" (MaskGIT, arXiv 2202.04200), which is only known while decoding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from smalti.tokens import TokenLayout


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One decoding step."""

    positions: Tensor | None
    """int64 [n], indices into the token sequence; None = chosen by confidence."""
    count: int
    """Number of tokens decided."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """Ordered steps that decide every position exactly once."""

    steps: tuple[Step, ...]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, i: int) -> Step:
        return self.steps[i]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Number of tokens decided after each step."""
        ends, total = [], 0
        for step in self.steps:
            total += step.count
            ends.append(total)
        return tuple(ends)

    @property
    def by_confidence(self) -> bool:
        """True if positions are chosen while decoding."""
        return any(step.positions is None for step in self.steps)

    @property
    def length(self) -> int:
        """Number of tokens decided in all."""
        return self.ends[-1]

    def positions_before(self, step: int) -> Tensor:
        """int64: the positions decided by the steps before `step`, in decoding order."""
        parts = [s.positions for s in self.steps[:step]]
        if any(p is None for p in parts):
            raise ValueError("positions of a confidence-ordered schedule are known only while decoding")
        return torch.cat([torch.empty(0, dtype=torch.int64), *[p for p in parts if p is not None]])

    def steps_for_budget(self, tokens: int) -> int:
        """How many steps stay within `tokens` decided tokens; at least one."""
        return max(1, sum(end <= tokens for end in self.ends))


def _fixed(groups: Sequence[Tensor]) -> Schedule:
    return Schedule(tuple(Step(positions=p, count=len(p)) for p in groups))


def next_scale(layout: TokenLayout) -> Schedule:
    """All tokens of a segment at once, segment after segment (VAR, arXiv 2404.02905)."""
    return _fixed([torch.arange(a, b) for a, b in zip(layout.starts, layout.starts[1:], strict=False)])


def raster(layout: TokenLayout) -> Schedule:
    """One token after the other in sequence order."""
    return _fixed(list(torch.arange(layout.length)[:, None]))


def neighbor(layout: TokenLayout) -> Schedule:
    """All tokens of a grid at the same Manhattan distance from the first corner at once (NAR, arXiv 2503.10696).

    For a grid of any number of axes: step d holds the cells whose coordinates sum to d, in raster order.
    """
    if len(layout.segments) != 1:
        raise ValueError(f"the neighbor order needs one grid of tokens, got {len(layout.segments)} segments")
    axes = torch.meshgrid(*(torch.arange(n) for n in layout.segments[0].shape), indexing="ij")
    distance = torch.stack(axes).sum(0).flatten()
    return _fixed([(distance == d).nonzero()[:, 0] for d in range(int(distance.max()) + 1)])


def next_detail(layout: TokenLayout, group: int, head: int) -> Schedule:
    """The first `head` tokens one by one, then `group` at a time (DetailFlow, arXiv 2505.21473)."""
    length = layout.length
    if not 0 <= head <= length or (length - head) % group:
        raise ValueError(f"{length} tokens are not a head of {head} and groups of {group}")
    groups = torch.arange(head, length).split(group) if head < length else ()
    return _fixed([*torch.arange(head)[:, None], *groups])


def random_order(layout: TokenLayout, seed: int) -> Schedule:
    """One token after the other in an order drawn from a seed."""
    return ordered(torch.randperm(layout.length, generator=torch.Generator().manual_seed(seed)))


def confidence(counts: Sequence[int]) -> Schedule:
    """The most confident open positions, as many a step as given (MaskGIT, arXiv 2202.04200)."""
    if not counts or min(counts) < 0:
        raise ValueError(f"a confidence schedule needs numbers of tokens, none negative, got {list(counts)}")
    return Schedule(tuple(Step(positions=None, count=int(n)) for n in counts))


def ordered(order: Sequence[int] | Tensor, group: int = 1) -> Schedule:
    """The positions in a given order, `group` at a time."""
    order = torch.as_tensor(order, dtype=torch.int64)
    if sorted(order.tolist()) != list(range(len(order))):
        raise ValueError(f"an order must hold each of 0..{len(order) - 1} exactly once")
    return _fixed(list(order.split(group)))
