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
        logits_BnV = sampling.filter(self.guided(guidance, step, steps), step)
        logprobs_BnV = logits_BnV.log_softmax(dim=-1)
        greedy = sampling.is_greedy(step)
        ids_Bn = logits_BnV.argmax(dim=-1) if greedy else noise.categorical(logprobs_BnV.exp(), step)
        soft = _soft(logits_BnV, noise, step / (steps - 1) if steps > 1 else 1.0, step) if sampling.soft else None
        logprobs_Bn = logprobs_BnV.gather(-1, ids_Bn[..., None])[..., 0]
        return Choice(ids=soft.argmax(dim=-1) if soft is not None else ids_Bn, logprobs=logprobs_Bn, soft=soft)


def _soft(logits_BnV: Tensor, noise: Noise, ratio: float, step: int) -> Tensor:
    """Gumbel-softmax mixture of VAR's `more_smooth`: sharper and cooler with the relative step `ratio`."""
    temperature = max(0.27 * (1 - 0.95 * ratio), 0.005)
    gumbel_BnV = noise.gumbel(step, tuple(logits_BnV.shape[1:]))
    return ((logits_BnV * (1 + ratio) + gumbel_BnV) / temperature).softmax(dim=-1)


@dataclass(frozen=True, eq=False)
class Confident:
    """Distribution over codes at all positions, of which the surest `count` are decided (MaskGIT, arXiv 2202.04200).

    A position's confidence is the guided logit of the code drawn there. Positions whose id is known count as decided
    first: they cost no draw and leave the others the more steps.
    """

    logits_RBLV: Tensor
    """float32 [R, B, L, V], one row block per branch."""
    ids_BL: Tensor
    """int64 [B, L]: what is decided or known; -1 elsewhere."""
    counted_BL: Tensor
    """bool [B, L]: positions that earlier steps decided."""
    count: int
    """Positions to decide."""

    def guided(self, guidance: Guidance, step: int, steps: int) -> Tensor:
        """Guided logits [B, L, V]."""
        return guidance.apply(self.logits_RBLV, step, steps)

    def draw(self, guidance: Guidance, sampling: Sampling, noise: Noise, *, step: int, steps: int) -> Choice:
        """Ids [B, n] and their positions [B, n]."""
        logits_BLV = self.guided(guidance, step, steps)
        drawn = Categorical(logits_BLV[None]).draw(Guidance(), sampling, noise, step=step, steps=steps)
        assert drawn.ids is not None and drawn.logprobs is not None
        known_BL = self.ids_BL >= 0
        ids_BL = torch.where(known_BL, self.ids_BL, drawn.ids)
        sure_BL = logits_BLV.gather(-1, ids_BL[..., None])[..., 0].float()
        sure_BL = sure_BL.masked_fill(known_BL, torch.inf).masked_fill(self.counted_BL, -torch.inf)
        positions_Bn = sure_BL.argsort(dim=-1, descending=True, stable=True)[:, : self.count]
        return Choice(
            ids=ids_BL.gather(1, positions_Bn),
            logprobs=drawn.logprobs.gather(1, positions_Bn),
            positions=positions_Bn,
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
