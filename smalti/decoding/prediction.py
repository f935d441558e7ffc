"""What a generator predicts for the positions of one step, and how a choice is drawn from it.

Shape suffixes: R branches (conditional, null), B batch, n positions, V codes, C latent channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.tokens import Choice


class Prediction(Protocol):
    """The distribution over the tokens of a step."""

    def draw(self, guidance: Guidance, sampling: Sampling, noise: Noise, *, step: int, steps: int) -> Choice:
        """One choice per image and position; `step` counts in the full schedule of `steps`."""
        ...


@dataclass(frozen=True, eq=False)
class Categorical:
    """Distribution over codes."""

    logits_RBnV: Tensor
    """float32 [R, B, n, V], one row block per branch."""

    def guided(self, guidance: Guidance, step: int, steps: int) -> Tensor:
        """Guided logits [B, n, V]."""
        return guidance.apply(self.logits_RBnV, step, steps)

    def draw(self, guidance: Guidance, sampling: Sampling, noise: Noise, *, step: int, steps: int) -> Choice:
        """Ids with their log-probabilities; with `sampling.soft` also the mixture weights over the codes."""
        logits_BnV = self.guided(guidance, step, steps)
        ids_Bn, logprobs_BnV = _drawn(logits_BnV, sampling, noise, step)
        logprobs_Bn = logprobs_BnV.gather(-1, ids_Bn[..., None])[..., 0]
        if not sampling.soft:
            return Choice(ids=ids_Bn, logprobs=logprobs_Bn)
        soft = _soft(sampling.filter(logits_BnV, step), noise, step / (steps - 1) if steps > 1 else 1.0, step)
        return Choice(ids=soft.argmax(dim=-1), logprobs=logprobs_Bn, soft=soft)


def _drawn(logits_BnV: Tensor, sampling: Sampling, noise: Noise, step: int) -> tuple[Tensor, Tensor]:
    """Ids int64 [B, n], and the log-probabilities [B, n, V] they were drawn from."""
    filtered_BnV = sampling.filter(logits_BnV, step)
    logprobs_BnV = filtered_BnV.log_softmax(dim=-1)
    if sampling.is_greedy(step):
        return filtered_BnV.argmax(dim=-1), logprobs_BnV
    return noise.categorical(logprobs_BnV.exp(), step), logprobs_BnV


def _soft(logits_BnV: Tensor, noise: Noise, ratio: float, step: int) -> Tensor:
    """Gumbel-softmax mixture of VAR's `more_smooth`: sharper and cooler with the relative step `ratio`."""
    temperature = max(0.27 * (1 - 0.95 * ratio), 0.005)
    gumbel_BnV = noise.gumbel(step, tuple(logits_BnV.shape[1:]))
    return ((logits_BnV * (1 + ratio) + gumbel_BnV) / temperature).softmax(dim=-1)


@dataclass(frozen=True, eq=False)
class Confident:
    """Distribution over codes at the open positions; the surest `count` are decided (MaskGIT, arXiv 2202.04200).

    Every open position draws a code. Its confidence is the code's guided logit; at a temperature T above 0 it is
    logit / T + Gumbel noise, so that the positions, too, are drawn (TiTok's rule, arXiv 2406.07550: noise of the same
    size on both). Known positions are decided first: they need no draw and leave the others the more steps.

    Shape suffixes: m open positions, n decided ones.
    """

    logits_RBmV: Tensor
    """float32 [R, B, m, V], one row block per branch."""
    positions_Bm: Tensor
    """int64 [B, m]: places of the open positions in the sequence."""
    ids_Bm: Tensor
    """int64 [B, m]: what is known there; -1 elsewhere."""
    count: int
    """n, at most m."""

    def guided(self, guidance: Guidance, step: int, steps: int) -> Tensor:
        """Guided logits [B, m, V]."""
        return guidance.apply(self.logits_RBmV, step, steps)

    def draw(self, guidance: Guidance, sampling: Sampling, noise: Noise, *, step: int, steps: int) -> Choice:
        """Ids [B, n] and their positions [B, n]."""
        logits_BmV = self.guided(guidance, step, steps)
        ids_Bm, logprobs_BmV = _drawn(logits_BmV, sampling, noise, step)
        known_Bm = self.ids_Bm >= 0
        ids_Bm = torch.where(known_Bm, self.ids_Bm, ids_Bm)
        sure_Bm = logits_BmV.gather(-1, ids_Bm[..., None])[..., 0].float()
        if not sampling.is_greedy(step):
            gumbel_Bm = noise.gumbel(step, (ids_Bm.shape[1],), stream=1)
            sure_Bm = sure_Bm / sampling.temperature_at(step) + gumbel_Bm
        sure_Bm = sure_Bm.masked_fill(known_Bm, torch.inf)
        chosen_Bn = sure_Bm.argsort(dim=-1, descending=True, stable=True)[:, : self.count]
        logprobs_Bm = logprobs_BmV.gather(-1, ids_Bm[..., None])[..., 0]
        return Choice(
            ids=ids_Bm.gather(1, chosen_Bn),
            logprobs=logprobs_Bm.gather(1, chosen_Bn),
            positions=self.positions_Bm.gather(1, chosen_Bn),
        )


def time_grid(steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """The `steps` + 1 times of Euler steps from noise (0) to data (1): u / (u + f - f u) with u = i / steps, shift f.

    f = 1 is even; a larger f puts more of the steps near the noise (arXiv 2403.03206).

    >>> time_grid(4, shift=3.0)
    (0.0, 0.1, 0.25, 0.5, 1.0)
    """
    even = [i / steps for i in range(steps + 1)]
    return tuple(u / (u + shift - shift * u) for u in even)


@dataclass(frozen=True, eq=False)
class Velocity:
    """A velocity field over latents, integrated from noise (t = 0) to data (t = 1) by Euler steps.

    Rectified flow (arXiv 2209.03003): x_t = (1 - t) noise + t data, velocity = data - noise.
    """

    net: Callable[[Tensor, int], Tensor]
    """(x [r*B, n, C], i) -> velocity [r*B, n, C] at time i of the grid, branches stacked along the batch; r is R, or 1
    in a step that is not guided."""
    shape: tuple[int, int, int, int]
    """R, B, n, C."""
    device: torch.device
    integration_steps: int = 20
    """Number of Euler steps."""
    time_shift: float = 1.0
    """f of `time_grid`."""
    guidance: Guidance | None = None
    """Used instead of the guidance that is asked for; None = that one."""

    def draw(self, guidance: Guidance, sampling: Sampling, noise: Noise, *, step: int, steps: int) -> Choice:
        """Latents; the guided velocity is integrated, `sampling.temperature` scales the start noise."""
        branches, batch, count, channels = self.shape
        guidance = self.guidance or guidance
        rows = branches if guidance.guides(step, steps) else 1
        temperature = sampling.temperature[step] if isinstance(sampling.temperature, tuple) else sampling.temperature
        times = time_grid(self.integration_steps, self.time_shift)
        x_BnC = noise.normal(step, (count, channels)).to(self.device) * temperature
        for i in range(self.integration_steps):
            velocity = self.net(x_BnC.repeat(rows, 1, 1), i).unflatten(0, (rows, batch))
            x_BnC = x_BnC + guidance.apply(velocity, step, steps) * (times[i + 1] - times[i])
        return Choice(latents=x_BnC)
