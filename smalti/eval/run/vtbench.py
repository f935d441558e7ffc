"""VTBench's three tasks on its published splits, natively or by its own protocol; one row per tokenizer and split.

Its comparison of both images by a language model of 12 billion parameters is not reproduced.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smalti.eval.environment import environment
from smalti.eval.protocols.base import protocol as protocol_named
from smalti.eval.run.chunks import settings_digest
from smalti.eval.run.result import METRICS, EvalResult, Row, Skip, write_result
from smalti.eval.run.sources import Source
from smalti.eval.run.subjects import TokenizerSubject
from smalti.eval.run.suites import Suite
from smalti.eval.run.vtbench_data import REPOSITORY, SPLITS, Split, hub_copy, open_split
from smalti.eval.run.vtbench_text import text_against_original
from smalti.files import whole
from smalti.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    from smalti.eval.run.evaluate import Settings


def evaluate_vtbench(
    models: Sequence[Tokenizer], data: Path | None, out: Path, settings: "Settings", n: int | None = None
) -> EvalResult:
    """Every split that `data` holds (None: the dataset from the hub), its first `n` images; files as for other suites.

    Each split is a run of its own in a folder of `out`, and resumes there. Splits that are missing are listed in
    `skipped`. Errors: FileNotFoundError without dataset; ValueError if the folder holds no split.
    """
    if data is not None and not data.is_dir():
        raise FileNotFoundError(f"no folder {data}: give a copy of the dataset {REPOSITORY}, or leave --data out")
    root = data or hub_copy()
    sources = {split: open_split(root, split, n) for split in SPLITS}
    if not any(sources.values()):
        names = ", ".join(f"{s.config}/{s.split}" for s in SPLITS[:4])
        raise ValueError(f"{root} holds no split of VTBench: looked for {names}, ..., as image folders or parquet")
    parts = [(split, _part(models, split, source, out, settings)) for split, source in sources.items() if source]
    missing = [Skip(what=s.label, reason=f"not in {root.name}") for s, source in sources.items() if source is None]
    first = parts[0][1]
    result = EvalResult(
        suite="vtbench",
        data={
            "name": "VTBench",
            "images": sum(part.data["images"] for _, part in parts),
            "fingerprint": settings_digest({s.label: part.data["fingerprint"] for s, part in parts}),
            "splits": {split.label: part.data for split, part in parts},
        },
        rows=[_named(row, split) for split, part in parts for row in part.rows],
        skipped=[*_skipped(parts), *missing],
        settings=first.settings,
        environment=environment(),
        budget_curves={
            f"{name} [{split.label}]": curves for split, part in parts for name, curves in part.budget_curves.items()
        },
    )
    _join_tables(out, parts)
    write_result(out, result)
    return result


def _part(models: Sequence[Tokenizer], split: Split, source: Source, out: Path, settings: "Settings") -> EvalResult:
    from smalti.eval.run.evaluate import evaluate_tokenizers

    place = _folder(out, split)
    result = evaluate_tokenizers(models, source, Suite(baselines=settings.baselines), place, settings, split.label)
    if split.task != "text":
        return result
    rows, skipped = list(result.rows), list(result.skipped)
    for model in models:
        k = max(i for i, row in enumerate(rows) if row.subject == model.name)
        rows[k], left = _read(model, rows[k], split, source, place, settings)
        skipped += [s for s in left if s not in skipped]
    return replace(result, rows=rows, skipped=skipped)


def _read(
    model: Tokenizer, row: Row, split: Split, source: Source, place: Path, settings: "Settings"
) -> tuple[Row, list[Skip]]:
    """The row of the whole sequence with the scores of its text."""
    from smalti.eval.run.evaluate import reconstructor

    protocol = protocol_named(settings.protocol)
    if protocol.text is None or row.budget is None:
        return row, []
    subject = TokenizerSubject(model, [row.budget], protocol)
    plan = {"subject": row.key, "weights": model.fingerprint, "protocol": protocol.digest}
    values, scores, skipped = text_against_original(
        source,
        lambda i: subject.source_image(source, i),
        reconstructor(model, row.budget),
        protocol,
        script=split.script,
        engine=settings.engine,
        work=place / "work" / f"text-{settings_digest({'subject': row.key})}",
        plan=plan,
    )
    tasks = row.tasks | ({"text_to_original": scores} if scores else {})
    return replace(row, summary=row.summary | values, tasks=tasks), skipped


def _folder(out: Path, split: Split) -> Path:
    return out / split.label.replace("/", "-")


def _named(row: Row, split: Split) -> Row:
    """A row with the split in its name, and its pictures as seen from the folder of the whole run."""
    tasks, place = dict(row.tasks), split.label.replace("/", "-")
    if "pictures" in tasks:
        tasks["pictures"] = [
            p | {"file": f"{place}/{p['file']}", "title": f"{split.label}, {p['title']}"} for p in tasks["pictures"]
        ]
    facts = row.facts | {"split": split.label, "task": split.task}
    return replace(row, subject=f"{row.subject} [{split.label}]", tasks=tasks, facts=facts)


def _skipped(parts: Sequence[tuple[Split, EvalResult]]) -> list[Skip]:
    """Metrics once where splits lack them for one reason; images with the name of their split."""
    metrics = {*METRICS, "kid, precision, recall"}
    found: list[Skip] = []
    for split, part in parts:
        for skip in part.skipped:
            named = skip if skip.what in metrics else replace(skip, what=f"{split.label}: {skip.what}")
            found += [named] if named not in found else []
    return found


def _join_tables(out: Path, parts: Sequence[tuple[Split, EvalResult]]) -> None:
    """One per_image.csv of all splits, with the names that the rows have there."""
    names: dict[str, None] = {}
    for split, _ in parts:
        with _table(out, split) as reader:
            names |= dict.fromkeys(reader.fieldnames or [])
    with whole(out / "per_image.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        for split, part in parts:
            keys = {row.key: _named(row, split).key for row in part.rows}
            with _table(out, split) as reader:
                writer.writerows(line | {"subject": keys[line["subject"]]} for line in reader)


@contextmanager
def _table(out: Path, split: Split) -> Iterator["csv.DictReader[str]"]:
    with (_folder(out, split) / "per_image.csv").open(encoding="utf-8", newline="") as file:
        yield csv.DictReader(file)
