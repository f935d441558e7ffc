"""An evaluation from end to end: subjects over a source by a protocol, with detail, text and token statistics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalti.eval.baselines import Baseline, CodecBaseline, ThumbnailBaseline
from smalti.eval.budgets import budgets_of
from smalti.eval.codec_files import FORMATS, available
from smalti.eval.environment import environment
from smalti.eval.progress import stage
from smalti.eval.protocols.base import Protocol
from smalti.eval.protocols.base import protocol as protocol_named
from smalti.eval.protocols.columns import Stamp, meets
from smalti.eval.protocols.pixels import pixel_means
from smalti.eval.run.chunks import ChunkStore, settings_digest
from smalti.eval.run.curves import budget_curve
from smalti.eval.run.features import set_distances
from smalti.eval.run.generated import generated_tasks
from smalti.eval.run.networks import networks_for
from smalti.eval.run.pictures import write_extremes
from smalti.eval.run.result import EvalResult, Row, Skip, Value, summary_of, write_csv, write_result
from smalti.eval.run.sources import Source, fingerprint
from smalti.eval.run.subjects import PairSubject, Subject, TokenizerSubject
from smalti.eval.run.suites import Suite
from smalti.eval.tasks.reconstruction import (
    Gathered,
    Networks,
    feature_batches,
    gather,
    peak_megabytes,
    run_chunks,
    token_batches,
    unmeasured,
)
from smalti.images import enlarge, to_uint8
from smalti.tokenizers.base import Tokenizer

Stage = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that changes a number."""

    protocol: str = "native"
    seed: int = 0
    chunk: int = 32
    budgets: tuple[int, ...] = ()
    """Token budgets; empty = up to 16 legal ones."""
    baselines: bool = True
    networks: bool = True
    """Use LPIPS, DISTS and Inception where their files are found."""
    weights: Mapping[str, str] = field(default_factory=dict)
    allow_unknown_weights: bool = False
    force_fid: bool = False
    engine: str = "rapidocr"
    """Text recognition."""
    fonts: Mapping[str, str] = field(default_factory=dict)
    """Font files of the text task, by script."""


def evaluate_tokenizers(
    tokenizers: Sequence[Tokenizer], source: Source, suite: Suite, out: Path, settings: Settings, name: str
) -> EvalResult:
    """Evaluates tokenizers and writes metrics.json and per_image.csv into `out`; a killed run goes on where it was.

    Errors: ValueError for an illegal budget or settings that differ from those of an unfinished run in `out`, before
    any image is read.
    """
    protocol = protocol_named(settings.protocol)
    subjects = [_subject(t, protocol, settings, suite) for t in tokenizers]
    networks, reasons, files = _networks(protocol, settings, suite)
    rows: list[Row] = []
    skipped: list[Skip] = list(unmeasured(protocol, networks, reasons)) if suite.reconstruction else []
    table: list[tuple[str, list[str], dict[str, Tensor]]] = []
    digests: list[str] = []
    for subject in subjects:
        part = _over_images(subject, source, out, protocol, networks, settings)
        more = _tasks(subject, source, suite, settings, part, out)
        rows += [_with_tasks(row, more.get(row.key, {})) for row in part.rows]
        skipped += [s for s in part.skipped if s not in skipped]
        table += part.table
        digests = part.digests
    data = {"name": source.name, "images": len(source), "fingerprint": fingerprint(digests)}
    result = EvalResult(
        suite=name,
        data=data,
        rows=rows,
        skipped=skipped,
        settings=_plain(settings) | {"networks": files, "protocol": protocol.to_dict()},
        environment=environment(),
        budget_curves=_curves(rows),
    )
    write_csv(out / "per_image.csv", table)
    write_result(out, result)
    return result


def evaluate_pairs(originals: Source, reconstructions: Source, out: Path, settings: Settings, name: str) -> EvalResult:
    """Evaluates reconstructions made elsewhere against their originals; arguments and files as above."""
    protocol = protocol_named(settings.protocol)
    networks, reasons, files = _networks(protocol, settings, Suite())
    part = _over_images(PairSubject(name, reconstructions), originals, out, protocol, networks, settings)
    data = {"name": originals.name, "images": len(originals), "fingerprint": fingerprint(part.digests)}
    result = EvalResult(
        suite="pairs",
        data=data,
        rows=part.rows,
        skipped=[*unmeasured(protocol, networks, reasons), *part.skipped],
        settings=_plain(settings) | {"networks": files, "protocol": protocol.to_dict()},
        environment=environment(),
    )
    write_csv(out / "per_image.csv", part.table)
    write_result(out, result)
    return result


# ---- parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """What the images say of one subject."""

    rows: list[Row]
    skipped: list[Skip]
    table: list[tuple[str, list[str], dict[str, Tensor]]]
    digests: list[str]
    store: ChunkStore
    count: int


def _subject(tokenizer: Tokenizer, protocol: Protocol, settings: Settings, suite: Suite) -> TokenizerSubject:
    side = protocol.size or tokenizer.sizes.value
    layout = tokenizer.layout() if protocol.size is None else tokenizer.layout(side)
    budgets = list(settings.budgets) or budgets_of(layout)
    if not suite.reconstruction:
        budgets = budgets[-1:]
    for k in budgets:
        layout.check_prefix(k)
    baselines: list[Baseline] = []
    if settings.baselines and suite.baselines and not layout.continuous and not tokenizer.frames:
        size = tokenizer.image_size(layout) or (tokenizer.sizes.value, tokenizer.sizes.value)
        bpp = layout.bits(budgets[-1]) / (size[0] * size[1])
        baselines = [*(CodecBaseline(kind, bpp) for kind in FORMATS if available(kind)), ThumbnailBaseline(bpp)]
    return TokenizerSubject(tokenizer, budgets, protocol, baselines)


def _networks(protocol: Protocol, settings: Settings, suite: Suite) -> tuple[Networks, dict[str, str], dict[str, Any]]:
    if not settings.networks or not suite.reconstruction:
        return Networks(), {"lpips": "left out on request", "dists": "left out on request", "fid": "left out"}, {}
    return networks_for(protocol, settings.weights, allow_unknown=settings.allow_unknown_weights)


def _over_images(
    subject: Subject, source: Source, out: Path, protocol: Protocol, networks: Networks, settings: Settings
) -> _Part:
    plan = _plain(settings) | {
        "subject": subject.name,
        "weights": getattr(getattr(subject, "tokenizer", None), "fingerprint", ""),
        "rows": [str(row) for row in subject.rows()],
        "images": list(source.names),
        "protocol": protocol.digest,
        "lpips": sorted(networks.lpips),
        "dists": networks.dists is not None,
        "inception": networks.inception is not None,
    }
    store = ChunkStore(out / "work" / settings_digest({"subject": subject.name}), plan)
    chunks = -(-len(source) // settings.chunk)
    with stage(f"{subject.name}: images", chunks) as advance:
        count = run_chunks(
            subject, source, store, protocol, networks, chunk=settings.chunk, on_chunk=lambda _: advance()
        )
    found, skipped, digests = gather(subject, store, count)
    if not found:
        reasons = "; ".join(f"{s.what}: {s.reason}" for s in skipped[:3])
        raise ValueError(f"none of the {len(source)} images could be evaluated ({reasons})")
    rows, table = [], []
    for name in subject.rows():
        key = name.subject if name.budget is None else f"{name.subject}@{name.budget}"
        part = found[key]
        row = _row(name.subject, name.kind, name.budget, part, protocol, fingerprint(digests), settings.seed)
        if networks.inception is not None:
            features = [feature_batches(store, count, k) for k in (key, "source")]
            distances, refused = set_distances(*features, force_fid=settings.force_fid)
            row = replace(row, summary=row.summary | distances)
            skipped += [s for s in refused if s not in skipped]
        rows.append(replace(row, facts=_facts(subject) if name.kind == "tokenizer" else {}))
        table.append((key, part.names, part.columns))
    return _Part(rows=rows, skipped=skipped, table=table, digests=digests, store=store, count=count)


def _row(
    subject: str, kind: Any, budget: int | None, part: Gathered, protocol: Protocol, reference: str, seed: int
) -> Row:
    summary = summary_of(part.columns, pixel_means(protocol, part.columns), seed)
    curves: dict[str, Any] = {}
    if part.rings is not None:
        for name, threshold in (("frc_resolution_half", 0.5), ("frc_resolution_seventh", 1 / 7)):
            at = float(part.rings.resolution(threshold))
            reached = at < float("inf")
            note = "" if reached else "not reached below 0.5 cycles per pixel"
            value = at if reached else None
            summary[name] = Value(value=value, n=len(part.names), unit="cycles/px", better="higher", note=note)
        curves["frc"] = {
            "x": part.rings.centers.tolist(),
            "x_unit": "cycles/px",
            "y": part.rings.frc.nan_to_num(0.0).tolist(),
            "power_ratio": part.rings.power_ratio.nan_to_num(0.0).tolist(),
        }
    stamp = Stamp.of(protocol, n=len(part.names), reference_sha256=reference).to_dict()
    remark = meets(protocol, len(part.names))
    return Row(
        subject=subject,
        kind=kind,
        budget=budget,
        protocol=stamp | ({"remark": remark} if remark else {}),
        summary=summary,
        curves=curves,
        timing={
            "encode_seconds_per_image": part.seconds_encode,
            "decode_seconds_per_image": part.seconds_decode,
            "peak_megabytes": peak_megabytes(),
        },
    )


def _facts(subject: Subject) -> dict[str, Any]:
    tokenizer: Tokenizer = subject.tokenizer  # type: ignore[attr-defined]
    return {
        "weights": tokenizer.fingerprint,
        "sizes": str(tokenizer.sizes),
        "resize": str(tokenizer.resize),
        "dtype": "float32",
        "device": str(tokenizer.device),
    }


def _tasks(
    subject: TokenizerSubject, source: Source, suite: Suite, settings: Settings, part: _Part, out: Path
) -> dict[str, dict[str, Any]]:
    """Plain data of detail, text and token statistics for the row of the whole sequence, and its pictures."""
    tokenizer, budget = subject.tokenizer, subject.budgets[-1]
    key, reconstruct = f"{subject.name}@{budget}", reconstructor(subject.tokenizer, budget)
    if tokenizer.frames:
        return {}
    found = generated_tasks(tokenizer, budget, suite, settings, reconstruct, out, part.store.folder)
    if suite.tokens:
        found["tokens"] = _token_statistics(part)
        found["stability"] = _stability(tokenizer, source, subject)
    if suite.reconstruction:
        (psnr,) = [columns["psnr"] for name, _, columns in part.table if name == key and "psnr" in columns] or [None]
        (names,) = [names for name, names, _ in part.table if name == key]
        if psnr is not None:
            original = {n: i for i, n in enumerate(source.names)}

            def read(name: str) -> Tensor:
                return subject.source_image(source, original[name])

            found["pictures"] += write_extremes(out, key, names, psnr, read, reconstruct)
    return {key: found}


def _token_statistics(part: _Part) -> dict[str, Any]:
    from smalti.eval.token_stats.collector import TokenStatistics

    statistics: TokenStatistics | None = None
    try:
        for tokens, size in token_batches(part.store, part.count):
            statistics = statistics or TokenStatistics(tokens.layout)
            statistics.add(tokens, size=size)
    except ValueError as error:
        return {"skipped": str(error)}
    return statistics.summary().to_dict() if statistics else {"skipped": "continuous latents have no codes"}


def _stability(tokenizer: Tokenizer, source: Source, subject: TokenizerSubject, most: int = 16) -> dict[str, Any]:
    """On the first images that have one size."""
    from smalti.eval.token_stats.stability import stability

    images: list[Tensor] = []
    for i in range(len(source)):
        try:
            image = subject.source_image(source, i)
        except (ValueError, OSError):
            continue
        if not images or image.shape == images[0].shape:
            images.append(image)
        if len(images) == most:
            break
    return stability(tokenizer, torch.cat(images)).to_dict() if images else {"skipped": "no image could be read"}


def reconstructor(tokenizer: Tokenizer, budget: int) -> Callable[[Tensor], Tensor]:
    """Images [B, 3, H, W] through the tokenizer and back at their own size, rounded to 8 bits."""

    def reconstruct(images: Tensor) -> Tensor:
        tokens = tokenizer.encode(images)
        whole = tokens if tokens.layout.ragged or tokens.layout.continuous else tokens.prefix(budget)
        decoded = enlarge(tokenizer.decode(whole).cpu(), (images.shape[-2], images.shape[-1]))
        return to_uint8(decoded).float() / 255

    return reconstruct


def _with_tasks(row: Row, tasks: Mapping[str, Any]) -> Row:
    return replace(row, tasks=dict(tasks)) if tasks else row


def _curves(rows: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for subject in dict.fromkeys(r.subject for r in rows if r.kind == "tokenizer"):
        ours = [r for r in rows if r.subject == subject and r.budget is not None and "bits" in r.summary]
        for metric in _common(ours):
            values = [r.summary[metric].value for r in ours]
            bits = [r.summary["bits"].value for r in ours]
            if len(ours) > 1 and None not in (*values, *bits):
                curve = budget_curve([r.budget for r in ours], bits, values)  # type: ignore[arg-type]
                found.setdefault(subject, {})[metric] = curve.__dict__
    return found


def _common(rows: Sequence[Row]) -> Iterator[str]:
    for metric in rows[0].summary if rows else ():
        if metric not in ("bits", "bpp", "n_identical") and all(metric in r.summary for r in rows):
            yield metric


def _plain(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}
