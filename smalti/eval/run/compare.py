"""Several runs in one table: what may share a column does, what may not is refused or gets columns of its own.

Runs over the same images by the same protocol are also compared image by image.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from smalti.eval.bootstrap import mean_interval
from smalti.eval.protocols.columns import SET_METRICS, Stamp, check_column
from smalti.eval.run.result import EvalResult, Row, read_result
from smalti.eval.run.tables import COLUMNS, GENERATION, Block, blocks, cell

SCHEMA = "smalti-compare/1"
PAIRED = ("psnr", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg", "lpips_squeeze", "dists")
"""Metrics of single images that are means over them."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run under a short name."""

    name: str
    folder: Path
    result: EvalResult


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the comparison; its subject carries the run's name where two runs have the same one."""

    run: str
    row: Row
    key: str
    """What the row is called in its own run."""
    scored_at: str
    """Size and crop of the images that were scored, in words: those of the tokenizer, the protocol or the files."""

    @property
    def stamp(self) -> Stamp:
        """How it was measured."""
        return Stamp(**{f.name: self.row.protocol[f.name] for f in fields(Stamp)})


@dataclass(frozen=True, kw_only=True)
class Column:
    """A metric of the rows that were measured alike in it."""

    metric: str
    heading: str
    digits: str
    members: frozenset[str]
    """Keys of rows."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """first - second of one metric, over the images of both."""

    first: str
    second: str
    metric: str
    value: float
    low: float
    high: float
    """95 % bootstrap interval over images."""
    n: int

    @property
    def clear(self) -> bool:
        """True if the interval holds no zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side."""

    runs: list[Run]
    entries: list[Entry]
    tables: list[tuple[str, list[Entry], list[Column]]]
    """Title, rows, columns: one table, or one per split of VTBench."""
    differences: list[Difference]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema": SCHEMA,
            "runs": [{"name": r.name, "suite": r.result.suite, "data": r.result.data} for r in self.runs],
            "rows": [{"run": e.run} | asdict(e.row) for e in self.entries],
            "columns": [
                {"table": title, "metric": c.metric, "heading": c.heading, "rows": sorted(c.members)}
                for title, _, columns in self.tables
                for c in columns
            ],
            "differences": [asdict(d) | {"clear": d.clear} for d in self.differences],
            "notes": self.notes,
        }


def compare(paths: Sequence[str | Path], *, split: bool = False, seed: int = 0) -> Comparison:
    """The runs in these folders side by side.

    `split`: results that were not measured alike get columns of their own. Errors: FileNotFoundError for a folder
    without a result; ValueError for fewer than two runs, one run twice, and, without `split`, for a column whose rows
    differ in protocol, or in reference set or number of images where these count.
    """
    runs = _runs(paths)
    entries = _entries(runs)
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(str(entry.row.facts.get("split", "")), []).append(entry)
    tables = [(title or "all", members, _columns(members, split)) for title, members in groups.items()]
    return Comparison(
        runs=runs,
        entries=entries,
        tables=tables,
        differences=list(_differences(runs, entries, seed)),
        notes=[note for title, members, _ in tables for note in _notes(title, members)],
    )


def shown(comparison: Comparison) -> list[Block]:
    """The tables with cells as text, then the differences, then detail, text and tokens of runs that had the same."""
    found = [(title, *_cells(entries, columns)) for title, entries, columns in comparison.tables]
    if comparison.differences:
        header = ["first", "second", "metric", "difference", "95 % interval", "N"]
        body = [
            [d.first, d.second, COLUMNS[d.metric][0] if d.metric in COLUMNS else d.metric, f"{d.value:+.4f}",
             f"{d.low:+.4f} to {d.high:+.4f}{'' if d.clear else ', not clear'}", str(d.n)]
            for d in comparison.differences
        ]  # fmt: skip
        found.append(("paired differences", header, body))
    for task in ("detail", "text", "tokens"):
        found += _task_blocks(comparison, task)
    return found


def merged(comparison: Comparison, runs: Sequence[str] | None = None, protocol: str | None = None) -> EvalResult:
    """Rows as one result, for plots and tables: those of some runs, those by one protocol."""
    rows = [
        e.row
        for e in comparison.entries
        if (runs is None or e.run in runs) and (protocol is None or e.row.protocol["protocol"] == protocol)
    ]
    return replace(comparison.runs[0].result, suite="compare", rows=rows)


# ---- runs and rows ---------------------------------------------------------------------------------------------------


def _runs(paths: Sequence[str | Path]) -> list[Run]:
    folders = [Path(p).resolve() for p in paths]
    folders = [p.parent if p.name == "metrics.json" else p for p in folders]
    if len(folders) < 2:
        raise ValueError(f"a comparison needs at least two runs, got {len(folders)}")
    if len(set(folders)) < len(folders):
        raise ValueError("one run is given twice")
    short = [p.name for p in folders]
    names = [p.name if short.count(p.name) == 1 else f"{p.parent.name}/{p.name}" for p in folders]
    if len(set(names)) < len(names):
        names = [str(p) for p in folders]
    results = [read_result(p) for p in folders]
    return [Run(name=n, folder=f, result=r) for n, f, r in zip(names, folders, results, strict=True)]


def _entries(runs: Sequence[Run]) -> list[Entry]:
    """All rows; codecs and thumbnails that two runs have measured alike stand once."""
    kept: list[tuple[Run, Row]] = []
    for run in runs:
        for row in run.result.rows:
            again = [r for _, r in kept if r.kind == row.kind == "baseline" and r.key == row.key]
            if not any(r.summary == row.summary and r.protocol == row.protocol for r in again):
                kept.append((run, row))
    keys = [row.key for _, row in kept]
    found = []
    for run, row in kept:
        subject = row.subject if keys.count(row.key) == 1 else f"{row.subject} ({run.name})"
        scored_at = _scored_at(row, run.result.settings["protocol"]["crop"])
        found.append(Entry(run=run.name, row=replace(row, subject=subject), key=row.key, scored_at=scored_at))
    return found


def _scored_at(row: Row, crop: str) -> str:
    if row.kind != "tokenizer":
        return "the size of the files"
    return f"{row.facts['sizes']} ({row.facts['resize']})" if crop == "tokenizer" else "the size of the protocol"


def _columns(entries: Sequence[Entry], split: bool) -> list[Column]:
    samples = {e.row.kind == "samples" for e in entries}
    known = GENERATION if samples == {True} else COLUMNS if samples == {False} else COLUMNS | GENERATION
    found = []
    for metric, (heading, digits) in known.items():
        having = [e for e in entries if metric in e.row.summary]
        stamps = {e.row.key: e.stamp for e in having}
        if not split:
            try:
                check_column(metric, stamps)
            except ValueError as error:
                raise ValueError(f"{error} (--split)") from error
        groups: dict[str, set[str]] = {}
        for key, stamp in stamps.items():
            groups.setdefault(_group(metric, stamp), set()).add(key)
        for name, members in groups.items():
            title = heading if len(groups) == 1 else f"{heading} [{name}]"
            found.append(Column(metric=metric, heading=title, digits=digits, members=frozenset(members)))
    return found


def _group(metric: str, stamp: Stamp) -> str:
    """What rows of one column have in common."""
    name = f"{stamp.protocol} {stamp.digest[:4]}"
    return f"{name}, {str(stamp.reference_sha256)[:8]}, N={stamp.n}" if metric in SET_METRICS else name


def _notes(title: str, entries: Sequence[Entry]) -> Iterator[str]:
    """Values of different images stand in one column only with a warning."""
    images: dict[str, list[str]] = {}
    for entry in entries:
        if entry.row.kind != "samples":
            images.setdefault(str(entry.row.protocol["reference_sha256"])[:12], []).append(entry.run)
    if len(images) > 1:
        listed = "; ".join(f"{digest}: {', '.join(dict.fromkeys(runs))}" for digest, runs in images.items())
        yield f"{title}: the rows are of different images ({listed}): their values are no comparison of tokenizers"
    sizes: dict[str, list[str]] = {}
    for entry in entries:
        if entry.row.kind in ("tokenizer", "pairs"):
            sizes.setdefault(entry.scored_at, []).append(entry.row.subject)
    if len(sizes) > 1:
        listed = "; ".join(f"{', '.join(dict.fromkeys(names))}: {size}" for size, names in sizes.items())
        yield f"{title}: scored at different sizes, so that there are no paired differences between them ({listed})"
    for entry in entries:
        if remark := entry.row.protocol.get("remark"):
            yield f"{entry.row.key}: {remark}"


def _cells(entries: Sequence[Entry], columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    header = ["", "tokens", *(c.heading for c in columns), "N"]
    body = []
    for entry in entries:
        row = entry.row
        cells = [cell(row.summary[c.metric], c.digits) if row.key in c.members else "-" for c in columns]
        budget = "-" if row.budget is None else str(row.budget)
        body.append([row.subject, budget, *cells, str(row.protocol["n"])])
    return header, body


def _task_blocks(comparison: Comparison, task: str) -> Iterator[Block]:
    """Tables of a task; runs with other charts, texts or images have their own."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for run in comparison.runs:
        result = run.result
        same = (result.data["fingerprint"],) if task == "tokens" else (result.suite, result.settings["seed"])
        groups.setdefault(same, []).append(run.name)
    for names in groups.values():
        for title, header, body in blocks(merged(comparison, names)):
            if title == task:
                yield title if len(groups) == 1 else f"{title}: {', '.join(names)}", header, body


# ---- image by image --------------------------------------------------------------------------------------------------


def _differences(runs: Sequence[Run], entries: Sequence[Entry], seed: int) -> Iterator[Difference]:
    """Of the whole sequences of any two subjects over the same images, at the same size, by the same protocol."""
    whole: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        at = (entry.run, entry.row.subject)
        if entry.row.kind in ("tokenizer", "pairs") and (
            at not in whole or (entry.row.budget or 0) > (whole[at].row.budget or 0)
        ):
            whole[at] = entry
    tables = {
        run.name: _per_image(run.folder / "per_image.csv", {e.key for e in whole.values() if e.run == run.name})
        for run in runs
    }
    for a, b in combinations(whole.values(), 2):
        alike = (a.stamp.digest, a.stamp.reference_sha256) == (b.stamp.digest, b.stamp.reference_sha256)
        if alike and a.scored_at == b.scored_at and a.stamp.reference_sha256 is not None:
            first, second = (tables[e.run].get(e.key, {}) for e in (a, b))
            yield from _paired(a.row.key, b.row.key, first, second, seed)


def _per_image(path: Path, keys: set[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Key of the row -> metric -> image -> value."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    if not path.is_file():
        return found
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["subject"] in keys:
                for metric in PAIRED:
                    if line.get(metric):
                        columns = found.setdefault(line["subject"], {})
                        columns.setdefault(metric, {})[line["image"]] = float(line[metric])
    return found


def _paired(
    first: str, second: str, a: dict[str, dict[str, float]], b: dict[str, dict[str, float]], seed: int
) -> Iterator[Difference]:
    for metric in PAIRED:
        images = [name for name in a.get(metric, {}) if name in b.get(metric, {})]
        if len(images) < 2:
            continue
        x, y = (torch.tensor([side[metric][name] for name in images], dtype=torch.float64) for side in (a, b))
        if metric == "psnr":
            x, y = x.clamp(max=100.0), y.clamp(max=100.0)  # as in the means; identical images are infinite
        found = mean_interval(x - y, seed=seed)
        yield Difference(
            first=first, second=second, metric=metric, value=found.value, low=found.low, high=found.high, n=found.n
        )
