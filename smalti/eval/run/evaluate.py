"""An evaluation from end to end: subjects over a source by a protocol, with detail, text and token statistics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smalti.eval.environment import environment
from smalti.eval.protocols.base import Protocol
from smalti.eval.protocols.base import protocol as protocol_named
from smalti.eval.run.curves import budget_curve
from smalti.eval.run.generated import generated_tasks
from smalti.eval.run.networks import networks_for
from smalti.eval.run.over_images import Part, over_images
from smalti.eval.run.pictures import write_extremes
from smalti.eval.run.rates import subjects_of
from smalti.eval.run.result import METRICS, EvalResult, Row, Skip, Value, write_csv, write_result
from smalti.eval.run.sources import Source, fingerprint
from smalti.eval.run.subjects import PairSubject, TokenizerSubject, cut
from smalti.eval.run.suites import Suite
from smalti.eval.tasks.gathering import token_batches
from smalti.eval.tasks.reconstruction import Networks, unmeasured
from smalti.images import enlarge, to_uint8
from smalti.tokenizers.base import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that changes a number."""

    protocol: str = "native"
    seed: int = 0
    chunk: int = 32
    budgets: tuple[int, ...] = ()
    """Token budgets; empty = up to 16 legal ones."""
    baselines: bool = True
    latent_bits: tuple[int, ...] | None = None
    """Bits per value that continuous latents are rounded to, one row each; None = those of the suite."""
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
    subjects = subjects_of(tokenizers, source, protocol, settings, suite)
    networks, reasons, files = _networks(protocol, settings, suite)
    rows: list[Row] = []
    skipped: list[Skip] = list(unmeasured(protocol, networks, reasons)) if suite.reconstruction else []
    table: list[tuple[str, list[str], dict[str, Tensor]]] = []
    digests: list[str] = []
    for subject in subjects:
        part = over_images(subject, source, out, protocol, networks, settings)
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
    part = over_images(PairSubject(name, reconstructions), originals, out, protocol, networks, settings)
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


def _networks(protocol: Protocol, settings: Settings, suite: Suite) -> tuple[Networks, dict[str, str], dict[str, Any]]:
    if not settings.networks or not suite.reconstruction:
        return Networks(), {"lpips": "left out on request", "dists": "left out on request", "fid": "left out"}, {}
    return networks_for(protocol, settings.weights, allow_unknown=settings.allow_unknown_weights)


def _tasks(
    subject: TokenizerSubject, source: Source, suite: Suite, settings: Settings, part: Part, out: Path
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


def _token_statistics(part: Part) -> dict[str, Any]:
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
        kept = cut(tokens, budget, tokenizer.layout().length)
        decoded = enlarge(tokenizer.decode(kept).cpu(), (images.shape[-2], images.shape[-1]))
        return to_uint8(decoded).float() / 255

    return reconstruct


def _with_tasks(row: Row, tasks: Mapping[str, Any]) -> Row:
    """The row with its tasks, and among its rates the entropy of its tokens where they were counted."""
    if not tasks:
        return row
    summary, tokens = dict(row.summary), tasks.get("tokens", {})
    if "entropy_bpp" in tokens and "bpp" in summary:
        unit, better = METRICS["entropy_bpp"]
        summary["entropy_bpp"] = Value(value=tokens["entropy_bpp"], n=tokens["images"], unit=unit, better=better)
    return replace(row, summary=summary, tasks=dict(tasks))


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
        if metric not in ("bits", "bpp", "entropy_bpp", "n_identical") and all(metric in r.summary for r in rows):
            yield metric


def _plain(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}
