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
from smalti.decoding.schedules import Schedule
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
    """Tokens that the steps so far decide; known tokens of later steps come on top."""
    values: Tensor
    """int64 [B, L], -1 where undecided; or latents float [B, L, C], 0 where undecided."""
    decided: Tensor
    """bool [B, L]."""
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
    """First step of its schedule that it does not make any more; None = to the end."""


def decode(
    stages: Sequence[Stage], condition: Condition, *, feedback: Feedback, noise: Noise, known: Known | None = None
) -> Iterator[Partial]:
    """Runs the stages one after the other over one sequence and yields after every step.

    A stage takes over with everything decided before it as known tokens: the first steps of its schedule that are known
    run in one pass, later known tokens are put in as they come. Step numbers, and with them guidance ramps, count in
    the stage's full schedule. Errors: ValueError, before any forward pass, for stages of different token layouts, a
    condition or guidance that a model cannot serve, known tokens of another shape.
    """
    first = stages[0].model
    for stage in stages:
        stage.model.check_condition(condition)
        stage.guidance.check(stage.model.branches, len(condition), len(stage.model.schedule()))
        stage.sampling.check(len(stage.model.schedule()))
        if stage.model.layout != first.layout:
            raise ValueError("a hand-over needs generators of the same token layout: these have different tokenizers")
    if known is not None:
        known.check(first.layout, len(condition))
        known = known.to(condition.classes.device)
    reported = 0
    for stage in stages:
        for partial in _run(stage, condition, feedback, noise, known, reported):
            aim = known.aim if known is not None else None
            known, reported = Known(values=partial.values, keep=partial.decided, aim=aim), partial.count
            yield partial


def _run(
    stage: Stage, condition: Condition, feedback: Feedback, noise: Noise, known: Known | None, reported: int
) -> Iterator[Partial]:
    """The loop: predict, draw, accept, yield. `reported` is the count of the last partial that was yielded."""
    model, schedule = stage.model, stage.model.schedule()
    steps = len(schedule)
    end = steps if stage.until is None else min(stage.until, steps)
    start = known.leading_steps(schedule) if known else 0
    if start >= end and end < steps:
        return
    sequence = _Sequence(schedule, feedback, known)
    if known is not None:
        _catch_up(feedback, known.alone(), start)
    if start and schedule.ends[start - 1] != reported:
        yield sequence.partial(start - 1, None)
    if start == end:
        return
    branches, last_guided = stage.guidance.branches(model.branches), stage.guidance.last_guided(steps)
    forced = known.whole_steps(schedule) if known else [False] * steps
    with torch.inference_mode():
        state = model.begin(condition, feedback=feedback, branches=branches, known=sequence.values, start=start)
    for i in range(start, end):
        with torch.inference_mode():
            if i <= last_guided:
                model.guide(state, stage.guidance.guides(i, steps))
            elif len(branches) > 1 and model.unguide(state):
                branches = branches[:1]
            prediction = model.predict(state)
            if forced[i]:
                choice = sequence.given(i)
            else:
                choice = prediction.draw(stage.guidance, stage.sampling, noise, step=i, steps=steps)
            if known is not None and schedule[i].positions is not None:
                choice = known.override(choice, sequence.positions(i), feedback)
            model.accept(state, choice)
            sequence.place(i, choice)
        yield sequence.partial(i, choice)


def _catch_up(feedback: Feedback, values: Tensor, start: int) -> None:
    """Lets the tokenizer's feedback consume the known first steps."""
    if feedback.steps > start and feedback.history() is not None:
        raise ValueError(
            "a model that is fed by its tokenizer can only hand over to one of the same schedule: the second would "
            f"begin at step {start}, {feedback.steps} steps were fed"
        )
    feedback.push_prefix(values, start)


class _Sequence:
    """The tokens decided so far; every partial holds copies."""

    def __init__(self, schedule: Schedule, feedback: Feedback, known: Known | None) -> None:
        self.schedule, self.feedback, self.known = schedule, feedback, known
        self.values = known.alone() if known else None
        self.decided = known.keep if known else None

    def positions(self, i: int) -> Tensor:
        """int64 [n]: those of a step of fixed order."""
        positions = self.schedule[i].positions
        assert positions is not None
        return positions.to(self.values.device) if self.values is not None else positions

    def given(self, i: int) -> Choice:
        """The known tokens of a step that needs no draw."""
        assert self.values is not None
        tokens = self.values[:, self.positions(i)]
        return Choice(ids=tokens) if tokens.ndim == 2 else Choice(latents=tokens)

    def place(self, i: int, choice: Choice) -> None:
        """Fills in what a step chose."""
        chosen = choice.ids if choice.ids is not None else choice.latents
        assert chosen is not None
        batch, length = chosen.shape[0], self.schedule.length
        if self.values is None or self.decided is None:
            self.values = chosen.new_full((batch, length, *chosen.shape[2:]), PAD if choice.ids is not None else 0.0)
            self.decided = torch.zeros(batch, length, dtype=torch.bool, device=chosen.device)
        positions = choice.positions if choice.positions is not None else self.positions(i).expand(batch, -1)
        rows = torch.arange(batch, device=chosen.device)[:, None]
        self.values = self.values.index_put((rows, positions), chosen)
        self.decided = self.decided.index_put((rows, positions), torch.ones_like(positions, dtype=torch.bool))

    def partial(self, i: int, choice: Choice | None) -> Partial:
        """What is yielded after step i."""
        assert self.values is not None and self.decided is not None
        return Partial(
            step=i,
            steps=len(self.schedule),
            count=self.schedule.ends[i],
            values=self.values,
            decided=self.decided,
            choice=choice,
            feedback=self.feedback,
        )
