"""The authors' sampler for another number of steps.

Guidance weights and temperatures are kept as one value per step. Which of the authors' rules made them is read off the
values, and the same rule makes those of another number. What no rule made stays as it is; so do fewer than three
values, which do not tell their rule.
"""

import math
from dataclasses import replace
from typing import Any

from smalti.decoding.guidance import Guidance
from smalti.decoding.sampling import Sampling
from smalti.decoding.settings import Settings
from smalti.generators.titok.config import Decay, authors_guidance, authors_sampling

_FEWEST = 3  # values that tell one rule from another
_DIGITS = 9  # decimals of the power and the temperature that are read off


def resampled(settings: Settings, steps: int) -> Settings:
    """The settings with the tables of `authors_guidance` and `authors_sampling` made for `steps` steps."""
    return replace(settings, guidance=_guidance(settings.guidance, steps), sampling=_sampling(settings.sampling, steps))


def _guidance(guidance: Guidance, steps: int) -> Guidance:
    curve = guidance.curve
    if not isinstance(curve, tuple) or len(curve) < _FEWEST:
        return guidance
    rules: tuple[tuple[Decay, float], ...] = (("linear", 1.0), ("power-cosine", _power(curve)))
    for decay, power in rules:  # the weights do not depend on the scale
        if _same(curve, authors_guidance(1.0, decay, len(curve), power).curve):
            return replace(guidance, curve=authors_guidance(1.0, decay, steps, power).curve)
    return guidance


def _power(curve: tuple[float, ...]) -> float:
    """p of w = (1 - cos(pi r^p)) / 2 from the last weight, at r = (n - 1) / n; 1 where that has no solution."""
    reached = math.acos(min(1.0, max(-1.0, 1 - 2 * curve[-1]))) / math.pi
    if not 0 < reached < 1:
        return 1.0
    return round(math.log(reached) / math.log(1 - 1 / len(curve)), _DIGITS)


def _sampling(sampling: Sampling, steps: int) -> Sampling:
    table = sampling.temperature
    if not isinstance(table, tuple) or len(table) < _FEWEST:
        return sampling
    for softened in (True, False):
        unit = authors_sampling(1.0, len(table), softened=softened).temperature_at(0)
        temperature = round(table[0] / unit, _DIGITS)
        if _same(table, authors_sampling(temperature, len(table), softened=softened).temperature):
            return replace(sampling, temperature=authors_sampling(temperature, steps, softened=softened).temperature)
    return sampling


def _same(table: tuple[float, ...], made: Any) -> bool:
    """Equal up to what reading off a rule's numbers costs."""
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(table, made, strict=True))
