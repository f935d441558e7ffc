"""The one decoding loop, and the hand-over from one generator to the next built on it.

Shape suffixes: B batch, L tokens, n positions of a step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.known import Known
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.decoding.schedules import Schedule, Step
from smalti.generators.base import Condition, Generator
from smalti.tokenizers.base import Feedback
from smalti.tokens import PAD, Choice


@dataclass(frozen=True, kw_only=True, eq=False)
class Partial:
    """State of the generation after a step."""

    step: int
    """Index in the full schedule."""
    steps: int
    """Steps of the full schedule."""
    count: int
    """Tokens decided so far."""
    values: Tensor
    """int64 [B, L], -1 where undecided; or latents float [B, L, C], 0 where undecided."""
    choice: Choice | None
    """The choice of this step; None where known tokens were taken over without a draw."""
    feedback: Feedback
    """What the tokenizer knows of the sequence so far."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One generator and how it decodes, up to a step of the full schedule."""

    model: Generator
    sampling: Sampling = field(default_factory=Sampling)
    guidance: Guidance = field(default_factory=Guidance)
    until: int | None = None
    """First step that is not this stage's any more; None = to the end."""


def decode(
    stages: Sequence[Stage], condition: Condition, *, feedback: Feedback, noise: Noise, known: Known | None = None
) -> Iterator[Partial]:
    """Runs the stages one after the other over one sequence and yields after every step.

    A stage takes over with everything decided before it, run in one pass; step numbers, and with them guidance ramps,
    count in the full schedule. Steps whose tokens are all known are not drawn. Errors: ValueError for stages of
    different token layouts or schedules, or a condition that a model cannot serve.
    """
    schedule = stages[0].model.schedule()
    for stage in stages:
        stage.model.check_condition(condition)
        if stage.model.layout != stages[0].model.layout:
            raise ValueError("a hand-over needs generators of the same token layout: these have different tokenizers")
    values: Tensor | None = None
    begin = known.leading_steps(schedule) if known else 0
    if known and begin:
        positions = schedule.positions_before(begin)
        values = torch.full_like(known.ids, PAD)
        values[:, positions] = known.ids[:, positions]
        feedback.push_prefix(values, begin)
        yield _partial(begin - 1, schedule, values, None, feedback)
    for stage in stages:
        end = len(schedule) if stage.until is None else min(stage.until, len(schedule))
        for partial in _run(stage, condition, schedule, range(begin, end), values, feedback, noise, known):
            values = partial.values
            yield partial
        begin = max(begin, end)


def _run(
    stage: Stage,
    condition: Condition,
    schedule: Schedule,
    span: range,
    values: Tensor | None,
    feedback: Feedback,
    noise: Noise,
    known: Known | None,
) -> Iterator[Partial]:
    """The loop: predict, draw, accept, yield."""
    if not span:
        return
    model, steps = stage.model, len(schedule)
    branches = model.branches if stage.guidance.active else ("cond",)
    if stage.guidance.active and len(branches) == 1:
        raise ValueError("this generator was trained without an empty condition and cannot be guided: use guidance 1")
    with torch.inference_mode():
        state = model.begin(condition, feedback=feedback, branches=branches, known=values, start=span.start)
    for i in span:
        with torch.inference_mode():
            choice = model.predict(state).draw(stage.guidance, stage.sampling, noise, step=i, steps=steps)
            if known is not None and schedule[i].positions is not None:
                choice = known.override(choice, schedule[i].positions)  # type: ignore[arg-type]
            model.accept(state, choice)
            values = _place(values, choice, schedule[i], schedule.length)
        yield _partial(i, schedule, values, choice, feedback)


def _place(values: Tensor | None, choice: Choice, step: Step, length: int) -> Tensor:
    """A copy of the sequence with the step's tokens filled in."""
    assert step.positions is not None
    chosen = choice.ids if choice.ids is not None else choice.latents
    assert chosen is not None
    if values is None:
        empty = PAD if choice.ids is not None else 0.0
        values = chosen.new_full((chosen.shape[0], length, *chosen.shape[2:]), empty)
    values = values.clone()
    values[:, step.positions.to(values.device)] = chosen
    return values


def _partial(i: int, schedule: Schedule, values: Tensor, choice: Choice | None, feedback: Feedback) -> Partial:
    steps, count = len(schedule), schedule.ends[i]
    return Partial(step=i, steps=steps, count=count, values=values, choice=choice, feedback=feedback)
