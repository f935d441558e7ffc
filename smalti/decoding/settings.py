"""The sampler settings a model was published or evaluated with."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from smalti.decoding.guidance import Guidance
from smalti.decoding.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `generate` uses where the caller says nothing."""

    guidance: Guidance = field(default_factory=Guidance)
    """Classifier-free guidance."""
    sampling: Sampling = field(default_factory=Sampling)
    """Temperature, top-k, top-p."""
    then: str | None = None
    """Name of the generator that takes over (CoDe's refiner)."""
    handover: int | None = None
    """First step that `then` makes."""

    def __str__(self) -> str:
        """One line for people: what differs from plain sampling."""
        g, s = self.guidance, self.sampling
        parts = [f"guidance {_short(g.scale)}" + (f" ({'table' if isinstance(g.curve, tuple) else g.curve})")]
        parts += [f"image guidance {g.image_scale}"] if g.image_scale is not None else []
        parts += [f"temperature {_short(s.temperature)}", f"top-k {_short(s.top_k) if s.top_k else 'all'}"]
        parts += [f"top-p {_short(s.top_p)}"]
        parts += [f"{self.then} from step {self.handover}"] if self.then else []
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`; lists from JSON become tuples again."""
        plain: dict[str, dict[str, Any]] = {
            k: {n: tuple(v) if isinstance(v, list) else v for n, v in data.get(k, {}).items()} for k in _PARTS
        }
        rest = {k: v for k, v in data.items() if k not in _PARTS}
        return cls(guidance=Guidance(**plain["guidance"]), sampling=Sampling(**plain["sampling"]), **rest)


_PARTS = ("guidance", "sampling")


def _short(value: float | tuple[float, ...]) -> str:
    """A number, or the ends of a list of them."""
    if not isinstance(value, tuple):
        return f"{value:g}"
    return f"{value[0]:g}" if len(set(value)) == 1 else f"{value[0]:g}..{value[-1]:g}"
