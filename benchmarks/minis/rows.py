"""One measured number with its floor, as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from smalti.eval.bootstrap import Interval

Kind = Literal["floor", "target", "report"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A number, what it must reach, and on how many images it was measured."""

    group: str
    """Floor it belongs to: a to e, or speed."""
    name: str
    """What was measured, on what."""
    value: float
    low: float | None = None
    """95 % interval, where there is one."""
    high: float | None = None
    n: int = 0
    """Images (or pairs)."""
    kind: Kind = "report"
    """floor: must be met; target: wanted; report: for information."""
    at_least: float | None = None
    at_most: float | None = None
    on_interval: bool = False
    """The whole interval must be on the right side, not only the value."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        if self.at_least is None and self.at_most is None:
            return None
        low, high = (self.low, self.high) if self.on_interval else (self.value, self.value)
        assert low is not None, f"{self.name} has no interval to judge"
        assert high is not None, f"{self.name} has no interval to judge"
        above = self.at_least is None or low >= self.at_least
        return above and (self.at_most is None or high <= self.at_most)

    @property
    def protocol(self) -> str:
        """For a model card: group, number of images, interval."""
        interval = "" if self.low is None else f", 95 % interval {self.low:.4g} to {self.high:.4g}"
        return f"benchmarks.minis ({self.group}), N = {self.n}{interval}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "met": self.met}


def row(group: str, name: str, interval: Interval, **changes: Any) -> Row:
    """A row from an interval."""
    return Row(
        group=group, name=name, value=interval.value, low=interval.low, high=interval.high, n=interval.n, **changes
    )


def table(rows: Sequence[Row]) -> str:
    """All rows as aligned text."""
    lines = [("", "what", "value", "95 % interval", "bar", "met", "N", "")]
    for r in rows:
        digits = 3 if abs(r.value) < 10 else 2
        interval = "" if r.low is None else f"{r.low:.{digits}f} .. {r.high:.{digits}f}"
        limits = ((">=", r.at_least), ("<=", r.at_most))
        bars = [f"{sign} {limit:.4g}" for sign, limit in limits if limit is not None]
        met = {None: "", True: "yes", False: "NO"}[r.met]
        bar = " ".join(bars) + (" (target)" if r.kind == "target" else "")
        lines.append((r.group, r.name, f"{r.value:.{digits}f}", interval, bar, met, str(r.n or ""), r.note))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def verdict(rows: Sequence[Row]) -> str:
    """One line: how many floors and targets are met."""
    parts = []
    for kind in ("floor", "target"):
        judged = [r for r in rows if r.kind == kind]
        missed = [f"{r.group} {r.name}" for r in judged if not r.met]
        parts.append(
            f"{len(judged) - len(missed)} of {len(judged)} {kind}s met" + (f"; missed: {missed}" * bool(missed))
        )
    return "\n".join(parts)
