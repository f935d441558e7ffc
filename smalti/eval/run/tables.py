"""Results as tables: terminal, Markdown, LaTeX."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from smalti.eval.run.result import EvalResult, Row, Skip, Value

COLUMNS: dict[str, tuple[str, str]] = {
    "bpp": ("bit/px", ".4f"),
    "entropy_bpp": ("entropy bit/px", ".4f"),
    "psnr": ("PSNR", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "ms_ssim": ("MS-SSIM", ".3f"),
    "lpips_alex": ("LPIPS", ".3f"),
    "lpips_vgg": ("LPIPS-vgg", ".3f"),
    "dists": ("DISTS", ".3f"),
    "fid": ("rFID", ".2f"),
    "kid": ("KID", ".4f"),
    "frc_resolution_half": ("FRC.5 c/p", ".3f"),
    "cer_to_original": ("CER to orig.", ".3f"),
    "wer_to_original": ("WER to orig.", ".3f"),
}
"""Metric -> heading and digits, in the order of the table."""
GENERATION: dict[str, tuple[str, str]] = {
    "fid": ("FID", ".2f"),
    "sfid": ("sFID", ".2f"),
    "kid": ("KID", ".4f"),
    "inception_score": ("IS", ".2f"),
    "precision": ("precision", ".3f"),
    "recall": ("recall", ".3f"),
    "density": ("density", ".3f"),
    "coverage": ("coverage", ".3f"),
    "class_accuracy": ("classes right", ".3f"),
}
"""The same for generated images."""
Block = tuple[str, list[str], list[list[str]]]
"""Title, header, cells."""


def columns_of(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Heading and digits of the metrics that some row has; of generated images where all rows are."""
    known = GENERATION if rows and all(row.kind == "samples" for row in rows) else COLUMNS
    return {name: shown for name, shown in known.items() if any(name in row.summary for row in rows)}


def cell(value: Value | None, digits: str) -> str:
    """A number with half its interval; "-" where there is none."""
    if value is None or value.value is None:
        return "-"
    shown = f"{value.value:{digits}}"
    if value.ci_lo is None or value.ci_hi is None:
        return shown
    return f"{shown} ±{(value.ci_hi - value.ci_lo) / 2:{digits}}"


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells: name, tokens where they are counted, then every metric that was measured."""
    names = columns_of(rows)
    counted = any(row.budget is not None for row in rows)
    header = ["", *(["tokens"] if counted else []), *(heading for heading, _ in names.values()), "N"]
    body = []
    for row in rows:
        n = max((v.n for v in row.summary.values()), default=0)
        cells = [cell(row.summary.get(name), digits) for name, (_, digits) in names.items()]
        tokens = ["-" if row.budget is None else str(row.budget)] if counted else []
        body.append([row.subject, *tokens, *cells, str(n)])
    return header, body


def blocks(result: EvalResult) -> list[Block]:
    """The tables of a run: VTBench's three tasks by their names, then the tokens."""
    found: list[Block] = []
    if result.suite == "gen":
        return [("generation", *table(result.rows))]
    if result.suite == "vtbench":
        tasks = {
            task: [r for r in result.rows if r.facts["task"] == task] for task in ("reconstruction", "detail", "text")
        }
        return [(task, *table(rows)) for task, rows in tasks.items() if rows]
    if result.suite != "tokens":
        found.append(("reconstruction", *table(result.rows)))
    for task in ("detail", "text"):
        rows = [row for row in result.rows if task in row.tasks]
        if rows:
            found.append((task, *_quantities(rows, task)))
    rows = [row for row in result.rows if "codebooks" in row.tasks.get("tokens", {})]
    if rows:
        found.append(("tokens", *_codebooks(rows)))
    return found


def _quantities(rows: Sequence[Row], task: str) -> tuple[list[str], list[list[str]]]:
    """One line per quantity, one column per subject: median and the band over placements, or mean and interval."""
    names = list(dict.fromkeys(n for row in rows for n in row.tasks[task]["quantities"]))
    header = ["", "unit", *(row.subject for row in rows)]
    body = []
    for name in names:
        found = [row.tasks[task]["quantities"].get(name) for row in rows]
        unit = next(q["unit"] for q in found if q is not None)
        body.append([name.replace("_", " "), unit or "-", *(_banded(q) for q in found)])
    return header, body


def _banded(quantity: dict[str, Any] | None) -> str:
    if quantity is None:
        return "-"
    if quantity["value"] is None:
        return quantity["note"].split(":")[0].split(";")[0] or "-"  # the JSON has the whole note
    if quantity["low"] is None or quantity["high"] is None or quantity["low"] == quantity["high"]:
        return f"{quantity['value']:.3g}"
    return f"{quantity['value']:.3g} [{quantity['low']:.3g}, {quantity['high']:.3g}]"


def _codebooks(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["", "codes", "tokens seen", "usage", "perplexity", "entropy", "of nominal", "Huffman bits", "Zipf slope"]
    body = []
    for row in rows:
        for book in row.tasks["tokens"]["codebooks"]:
            zipf = book["zipf"]["slope"] if book["zipf"] else None
            body.append(
                [
                    row.subject, f"{book['vocab']:,}", f"{book['tokens']:,}", f"{book['usage']:.1%}",
                    f"{book['perplexity']:.0f}", f"{book['entropy_bits']:.2f}", f"{book['normalized_entropy']:.2f}",
                    f"{book['huffman']['bits_per_token']:.2f}", "-" if zipf is None else f"{zipf:.2f}",
                ]
            )  # fmt: skip
    return header, body


def reasons(skipped: Sequence[Skip]) -> dict[str, list[str]]:
    """Reason -> everything that was left out for it."""
    found: dict[str, list[str]] = {}
    for skip in skipped:
        found.setdefault(skip.reason, []).append(skip.what)
    return found


def markdown(result: EvalResult) -> str:
    """The first table of a run as GitHub's Markdown."""
    return markdown_table(*table(result.rows))


def latex(result: EvalResult) -> str:
    """The first table of a run as LaTeX."""
    return latex_table(*table(result.rows))


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of GitHub's Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in body]) + "\n"


def latex_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A tabular of LaTeX, with \\pm and escaped names."""
    shown = [[_escaped(c) for c in row] for row in [header, *body]]
    lines = [" & ".join(row) + r" \\" for row in shown]
    return (
        "\n".join(
            [r"\begin{tabular}{l" + "r" * (len(header) - 1) + "}", lines[0], r"\hline", *lines[1:], r"\end{tabular}"]
        )
        + "\n"
    )


def csv_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Comma-separated values."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *body])
    return text.getvalue()


def _escaped(text: str) -> str:
    for plain, written in (("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#"), ("±", r"$\pm$")):
        text = text.replace(plain, written)
    return text
