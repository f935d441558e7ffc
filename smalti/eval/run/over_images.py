"""What the images say of one subject: its rows with their values, times and facts, from working files that resume."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smalti.eval.latent_codes import entropy_share
from smalti.eval.progress import stage
from smalti.eval.protocols.base import Protocol
from smalti.eval.protocols.columns import Stamp, meets
from smalti.eval.protocols.pixels import pixel_means
from smalti.eval.run.chunks import ChunkStore, settings_digest
from smalti.eval.run.features import set_distances, taken
from smalti.eval.run.latent_rows import describe_rounding
from smalti.eval.run.result import METRICS, Row, Skip, Value, summary_of
from smalti.eval.run.sources import Source, fingerprint
from smalti.eval.run.subjects import RowName, Subject, TokenizerSubject
from smalti.eval.stopwatch import Stopwatch, peak_device_megabytes, peak_megabytes
from smalti.eval.tasks.gathering import Gathered, feature_batches, gather
from smalti.eval.tasks.reconstruction import SOURCE, Networks, run_chunks

if TYPE_CHECKING:
    from smalti.eval.run.evaluate import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What the images say of one subject."""

    rows: list[Row]
    skipped: list[Skip]
    table: list[tuple[str, list[str], dict[str, Tensor]]]
    """Key, images and columns [N] of every row, for per_image.csv."""
    digests: list[str]
    store: ChunkStore
    count: int
    """Number of chunks."""


def over_images(
    subject: Subject, source: Source, out: Path, protocol: Protocol, networks: Networks, settings: "Settings"
) -> Part:
    """Computes the chunks that are missing, then makes the rows. Errors: ValueError if no image could be evaluated."""
    store = ChunkStore(
        out / "work" / settings_digest({"subject": subject.name}), _plan(subject, source, protocol, networks, settings)
    )
    chunks = -(-len(source) // settings.chunk)
    with stage(f"{subject.name}: images", chunks) as advance:
        count = run_chunks(
            subject, source, store, protocol, networks, chunk=settings.chunk, on_chunk=lambda _: advance()
        )
    found, skipped, digests = gather(subject, store, count)
    if not found:
        reasons = "; ".join(f"{s.what}: {s.reason}" for s in skipped[:3])
        raise ValueError(f"none of the {len(source)} images could be evaluated ({reasons})")
    originals = taken(feature_batches(store, count, SOURCE)) if networks.inception is not None else None
    rows, table = [], []
    for name in subject.rows():
        part = found[name.key]
        summary = _summary(part, protocol, settings.seed)
        if originals is not None:
            ours = taken(feature_batches(store, count, name.key))
            distances, refused = set_distances(ours, originals, force_fid=settings.force_fid, watch=part.times)
            summary |= distances
            skipped += [s for s in refused if s not in skipped]
        stamp = Stamp.of(protocol, n=len(part.names), reference_sha256=fingerprint(digests)).to_dict()
        rows.append(_row(name, subject, part, summary, stamp, protocol))
        table.append((name.key, part.names, part.columns))
    return Part(rows=rows, skipped=skipped, table=table, digests=digests, store=store, count=count)


def _plan(
    subject: Subject, source: Source, protocol: Protocol, networks: Networks, settings: "Settings"
) -> dict[str, Any]:
    """What an unfinished run is recognized by."""
    return vars(settings) | {
        "subject": subject.name,
        "weights": getattr(getattr(subject, "tokenizer", None), "fingerprint", ""),
        "rows": [str(row) for row in subject.rows()],
        "images": list(source.names),
        "protocol": protocol.digest,
        "lpips": sorted(networks.lpips),
        "dists": networks.dists is not None,
        "inception": networks.inception is not None,
    }


def _summary(part: Gathered, protocol: Protocol, seed: int) -> dict[str, Value]:
    summary = summary_of(part.columns, pixel_means(protocol, part.columns), seed)
    if part.code_counts is not None:
        unit, better = METRICS["entropy_bpp"]
        entropy = float(part.columns["bpp"].mean()) * entropy_share(part.code_counts)
        summary["entropy_bpp"] = Value(value=entropy, n=len(part.names), unit=unit, better=better)
    if part.rings is not None:
        for name, threshold in (("frc_resolution_half", 0.5), ("frc_resolution_seventh", 1 / 7)):
            at = float(part.rings.resolution(threshold))
            reached = at < float("inf")
            note = "" if reached else "not reached below 0.5 cycles per pixel"
            value = at if reached else None
            summary[name] = Value(value=value, n=len(part.names), unit="cycles/px", better="higher", note=note)
    return summary


def _row(
    name: RowName,
    subject: Subject,
    part: Gathered,
    summary: dict[str, Value],
    stamp: dict[str, Any],
    protocol: Protocol,
) -> Row:
    curves: dict[str, Any] = {}
    if part.rings is not None:
        curves["frc"] = {
            "x": part.rings.centers.tolist(),
            "x_unit": "cycles/px",
            "y": part.rings.frc.nan_to_num(0.0).tolist(),
            "power_ratio": part.rings.power_ratio.nan_to_num(0.0).tolist(),
        }
    remark = meets(protocol, len(part.names))
    device = subject.tokenizer.device if isinstance(subject, TokenizerSubject) else torch.device("cpu")
    row = Row(
        subject=name.subject,
        kind=name.kind,
        budget=name.budget,
        protocol=stamp | ({"remark": remark} if remark else {}),
        summary=summary,
        curves=curves,
        timing=_timing(part.times, device),
        facts=_facts(subject) if isinstance(subject, TokenizerSubject) and name.kind == "tokenizer" else {},
    )
    if name.depth is None or not isinstance(subject, TokenizerSubject):
        return row
    return replace(row, **describe_rounding(subject, name.depth, row.protocol))


def _timing(times: Stopwatch, device: torch.device) -> dict[str, Any]:
    on_device = peak_device_megabytes(device)
    return {
        f"{step}_seconds_per_image": times.sums[step][0] / max(times.sums[step][1], 1)
        for step in ("encode", "decode", "code")
        if step in times.sums
    } | {
        "images_per_second": times.rates(),
        "seconds": times.seconds(),
        "peak_megabytes": peak_megabytes(),
        **({} if on_device is None else {"peak_device_megabytes": on_device}),
    }


def _facts(subject: TokenizerSubject) -> dict[str, Any]:
    tokenizer = subject.tokenizer
    return {
        "weights": tokenizer.fingerprint,
        "sizes": str(tokenizer.sizes),
        "resize": str(tokenizer.resize),
        "dtype": "float32",
        "device": str(tokenizer.device),
    }
