"""Which results may stand in one column."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from smalti.eval.protocols.base import Protocol

SET_METRICS = (
    *("fid", "sfid", "kid", "inception_score", "precision", "recall", "density", "coverage", "cmmd", "fd_infinity"),
)
"""Metrics of a set of images against another: their value depends on the reference set and on the number of images."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What a result was measured by."""

    protocol: str
    """Label, such as "native/1"."""
    digest: str
    """Digest of the protocol."""
    n: int
    """Number of images."""
    reference_sha256: str | None = None
    """Digest of the reference file or of the set of reference images, for metrics of sets."""

    @classmethod
    def of(cls, protocol: Protocol, *, n: int, reference_sha256: str | None = None) -> "Stamp":
        """The stamp of a result under a protocol. Errors: ValueError for another reference than the protocol's own."""
        if protocol.reference_sha256 and reference_sha256 and protocol.reference_sha256 != reference_sha256:
            raise ValueError(
                f"protocol {protocol.label} compares with {protocol.reference} ({protocol.reference_sha256}), got a "
                f"reference of sha256 {reference_sha256}"
            )
        return cls(protocol=protocol.label, digest=protocol.digest, n=n, reference_sha256=reference_sha256)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def check_column(metric: str, stamps: Mapping[str, Stamp]) -> None:
    """A ValueError if results, by run, were not measured alike in `metric`.

    All metrics: one protocol, the same version of it. Metrics of sets: also one reference and one number of images.
    """
    asked = [("protocol", lambda s: f"{s.protocol} ({s.digest[:8]})")]
    if metric in SET_METRICS:
        asked += [("reference", lambda s: str(s.reference_sha256)[:12]), ("number of images", lambda s: str(s.n))]
    for what, read in asked:
        groups: dict[str, list[str]] = {}
        for run, stamp in stamps.items():
            groups.setdefault(read(stamp), []).append(run)
        if len(groups) > 1:
            listed = "; ".join(f"{value}: {', '.join(runs)}" for value, runs in groups.items())
            raise ValueError(
                f"{metric} of these runs cannot stand in one column, they differ in {what} ({listed}): measure them "
                "again by one protocol, or show them in columns of their own"
            )


def meets(protocol: Protocol, n: int) -> str | None:
    """Why a result of n images must not carry the protocol's name without a remark; None = it may."""
    if protocol.n is None or n == protocol.n:
        return None
    return f"{protocol.label} is of {protocol.n} images, this is of {n}"
