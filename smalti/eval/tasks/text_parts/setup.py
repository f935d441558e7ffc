"""What every part of the text task is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smalti.eval.detail.result import Quantity, Skipped
from smalti.eval.tasks.detail_parts.setup import Setup
from smalti.eval.text.ocr import EngineMissingError, Reader, reader
from smalti.eval.text.render import SIZES
from smalti.eval.weights import installed

QUICK_SIZES = (8, 12, 16, 24, 32)
QUICK_CHARACTERS, CHARACTERS = 60, 200
QUICK_PAGES, PAGES = 3, 12


@dataclass(frozen=True, kw_only=True, eq=False)
class TextSetup:
    """One run over all text."""

    charts: Setup
    engine: str
    reader: Reader | None
    """None: this machine has none; `reason` says what is missing."""
    reason: str
    fonts: Mapping[str, Path]
    """By script."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Font sizes in pixels."""
        return QUICK_SIZES if self.charts.quick else SIZES

    @property
    def characters(self) -> int:
        """At least so many at each size."""
        return QUICK_CHARACTERS if self.charts.quick else CHARACTERS

    @property
    def pages(self) -> int:
        """Images of each kind of page."""
        return QUICK_PAGES if self.charts.quick else PAGES


def open_reader(engine: str) -> tuple[Reader | None, str]:
    """The reader, or None with what is missing and how to get it. Errors: ValueError for an unknown engine."""
    try:
        installed("jiwer", "rapidfuzz", "scipy")
        return reader(engine), ""
    except (EngineMissingError, ImportError) as error:
        return None, str(error)


def no_reader(setup: TextSetup, *metrics: str) -> tuple[Skipped, ...]:
    """One entry a metric."""
    return tuple(Skipped(metric=m, reason=f"no text recognition ({setup.engine}): {setup.reason}") for m in metrics)


def rate(name: str, value: tuple[float, float, float], n: int, *, better: str = "lower", note: str = "") -> Quantity:
    """A share with its band over resampled texts."""
    middle, low, high = value
    return Quantity(name=name, value=middle, low=low, high=high, n=n, unit="", better=better, note=note)  # type: ignore[arg-type]


def absent(name: str, note: str, *, unit: str = "", n: int = 0) -> Quantity:
    """A quantity that has no value here, with the reason."""
    return Quantity(name=name, value=None, low=None, high=None, n=n, unit=unit, better="lower", note=note)
