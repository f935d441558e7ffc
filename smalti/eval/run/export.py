"""A comparison as text: for a terminal's reader, a README, a paper, a spreadsheet."""

from typing import Literal

from smalti.eval.run.compare import Column, Comparison, Entry, shown
from smalti.eval.run.tables import csv_table, latex_table, markdown_table

Format = Literal["markdown", "latex", "csv"]


def exported(comparison: Comparison, kind: Format) -> str:
    """Markdown and LaTeX: all tables as they are shown; CSV: one line per row, unrounded, intervals in columns."""
    if kind == "csv":
        return _csv(comparison)
    if kind == "latex":
        return "\n".join(f"% {title}\n{latex_table(header, body)}" for title, header, body in shown(comparison))
    return "\n".join(f"### {title}\n\n{markdown_table(header, body)}" for title, header, body in shown(comparison))


def _csv(comparison: Comparison) -> str:
    columns = list(dict.fromkeys((c.metric, c.heading) for _, _, columns in comparison.tables for c in columns))
    names = [metric if _once(metric, columns) else f"{metric} {heading}" for metric, heading in columns]
    header = ["run", "subject", "tokens", "protocol", "n", "reference", *(f"{n}{s}" for n in names for s in _PARTS)]
    body = []
    for _, entries, members in comparison.tables:
        for entry in entries:
            stamp, budget = entry.stamp, entry.row.budget
            line = [entry.run, entry.row.subject, "" if budget is None else str(budget), stamp.protocol, str(stamp.n)]
            line.append(str(stamp.reference_sha256 or ""))
            body.append([*line, *(cell for column in columns for cell in _values(entry, column, members))])
    return csv_table(header, body)


_PARTS = ("", " low", " high")


def _once(metric: str, columns: list[tuple[str, str]]) -> bool:
    return sum(name == metric for name, _ in columns) == 1


def _values(entry: Entry, column: tuple[str, str], members: list[Column]) -> list[str]:
    metric, heading = column
    here = any(c.metric == metric and c.heading == heading and entry.row.key in c.members for c in members)
    value = entry.row.summary.get(metric) if here else None
    parts = (None, None, None) if value is None else (value.value, value.ci_lo, value.ci_hi)
    return ["" if part is None else repr(part) for part in parts]
