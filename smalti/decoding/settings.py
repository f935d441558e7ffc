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
