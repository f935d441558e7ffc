"""The page of a comparison: one file, no scripts, nothing loaded from anywhere."""

from html import escape
from pathlib import Path

from smalti.eval.report.eval_page import rate_plots
from smalti.eval.report.html import section, table
from smalti.eval.report.style import CSS
from smalti.eval.run.compare import Comparison, merged, shown
from smalti.files import write_text

DIFFERENCES = (
    "First minus second over the images of both, with a 95 % bootstrap interval over images. An interval that holds "
    "zero says that these images do not decide."
)
TABLE = "± is half of a 95 % bootstrap interval over images. Only values that were measured alike share a column."
TASK = "Only runs with the same charts, texts and images share a table."


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """report.html in a folder."""
    path = out / "report.html"
    write_text(path, page(comparison))
    return path


def page(comparison: Comparison) -> str:
    """The whole HTML document."""
    names = ", ".join(run.name for run in comparison.runs)
    body = [f'<header><h1>Smalti comparison</h1><p class="lead">{escape(names)}</p></header><main>']
    for i, (title, header, rows) in enumerate(shown(comparison)):
        lead = DIFFERENCES if title == "paired differences" else TASK if i >= len(comparison.tables) else TABLE
        body.append(section(f"table-{i}", title.capitalize(), lead, table(header, rows, texts=_texts(title))))
    body += [_plots(comparison), _notes(comparison), _runs(comparison), "</main>"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Smalti comparison</title><style>{CSS}</style></head><body>{''.join(body)}"
        "<footer>This page is one file.</footer></body></html>\n"
    )


def _texts(title: str) -> int:
    return 3 if title == "paired differences" else 1


def _plots(comparison: Comparison) -> str:
    """Over bits per pixel; protocols never share a plot."""
    parts = []
    for label in dict.fromkeys(e.row.protocol["protocol"] for e in comparison.entries):
        drawn = rate_plots(merged(comparison, protocol=label), Path())
        parts.append(f"<h3>{escape(label)}</h3>{drawn}" if "<figure" in drawn else "")
    return section("rates", "Over bits per pixel", "One plot per protocol.", *parts) if any(parts) else ""


def _notes(comparison: Comparison) -> str:
    notes = "".join(f"<p>{escape(note)}</p>" for note in comparison.notes)
    return section("notes", "Remarks", "What limits the comparison.", notes) if notes else ""


def _runs(comparison: Comparison) -> str:
    header = ["run", "suite", "images", "fingerprint", "protocol", "seed", "Smalti"]
    rows = []
    for run in comparison.runs:
        data, settings = run.result.data, run.result.settings
        protocol = settings["protocol"]
        rows.append(
            [
                run.name, run.result.suite, f"{data['images']} ({data['name']})", data["fingerprint"][:16],
                f"{protocol['name']}/{protocol['version']} {protocol['digest'][:8]}", str(settings["seed"]),
                run.result.environment["smalti"],
            ]
        )  # fmt: skip
    return section("runs", "Runs", "Where the numbers come from.", table(header, rows, texts=len(header)))
