"""The page of an evaluation: one file, no scripts, nothing loaded from anywhere."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from smalti.eval.report.curves import Line, curves_plot
from smalti.eval.report.html import facts, figure, section, table
from smalti.eval.report.style import CSS
from smalti.eval.run.result import EvalResult, Row
from smalti.eval.run.speeds import speeds
from smalti.eval.run.tables import blocks, reasons
from smalti.files import write_text
from smalti.images import read_images

LEADS = {
    "reconstruction": (
        "How near the images that come back are to those that went in. ± is half of a 95 % bootstrap interval over "
        "images; codecs and thumbnails stand at the rate of the whole token sequence."
    ),
    "detail": (
        "Measured on generated charts with known truth: the median over placements, and in brackets the range of the "
        "middle 80 % of them. c/p: cycles per pixel."
    ),
    "text": "Known text, rendered, sent through the tokenizer and read again; dCER is what the tokenizer adds.",
    "generation": "How near the generated images are, as a set, to the reference; N images on the side of the samples.",
    "vtbench detail": "Images of patterns, reconstructed; the charts with known truth are in the other suites.",
    "vtbench text": (
        "Images of text, reconstructed. CER and WER are against what the reader makes of the original, as no known "
        "text comes with these images: an error it makes on both stays unseen."
    ),
    "tokens": "How the codes are used, over all images of this run.",
}
SHOWN = 4
"""Curves of a task that are open on the page; the others unfold."""
RATES = {"psnr": "PSNR, dB", "ssim": "SSIM", "lpips_alex": "LPIPS (lower is better)"}


def write_report(result: EvalResult, out: Path) -> Path:
    """report.html in a folder, with the pictures that the run wrote there."""
    path = out / "report.html"
    write_text(path, page(result, out))
    return path


def page(result: EvalResult, folder: Path) -> str:
    """The whole HTML document; `folder` holds the pictures."""
    body = [_header(result), "<main>"]
    for title, header, rows in blocks(result):
        extra = {"reconstruction": rate_plots, "detail": _details, "text": _texts, "generation": _samples}.get(title)
        shown = extra(result, folder) if extra else ""
        body.append(
            section(
                title,
                title.capitalize(),
                LEADS.get(f"{result.suite} {title}", LEADS[title]),
                table(header, rows),
                shown,
            )
        )
    body += [_images(result, folder), _speed(result), _provenance(result), "</main>"]
    body.append(f"<footer>Smalti {escape(result.environment['smalti'])}. This page is one file.</footer>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Smalti evaluation</title><style>{CSS}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _header(result: EvalResult) -> str:
    subjects = list(dict.fromkeys(r.subject for r in result.rows if r.kind != "baseline"))
    labels = sorted({r.protocol["protocol"] for r in result.rows})
    lead = (
        f"{', '.join(subjects)}: suite {result.suite}, {result.data['images']} images ({result.data['name']}), "
        f"protocol {', '.join(labels)}."
    )
    return f'<header><h1>Smalti evaluation</h1><p class="lead">{escape(lead)}</p></header>'


def rate_plots(result: EvalResult, folder: Path) -> str:
    """Metrics over bits per pixel, and Fourier ring correlation, of all rows."""
    plots = []
    for metric, title in RATES.items():
        rows = [r for r in result.rows if metric in r.summary and "bpp" in r.summary]
        if result.suite == "vtbench":  # one line a split: codecs of every split would hide them
            rows = [r for r in rows if r.kind != "baseline"]
        lines = []
        for subject in dict.fromkeys(_line(r) for r in rows):
            ours = [r for r in rows if _line(r) == subject]
            values = [(r.summary["bpp"], r.summary[metric]) for r in ours]
            lines.append(
                Line(
                    label=subject,
                    x=tuple(b.value or 0.0 for b, _ in values),
                    y=tuple(v.value or 0.0 for _, v in values),
                    points=True,
                )
            )
        plots.append(curves_plot(lines, title=title, x_label="bits per pixel", log_x=True))
    frc = [Line(label=r.key, x=tuple(r.curves["frc"]["x"]), y=tuple(r.curves["frc"]["y"])) for r in _with_frc(result)]
    plots.append(curves_plot(frc, title="Fourier ring correlation", x_label="cycles per pixel", floor=0.0))
    return f'<div class="plots">{"".join(plots)}</div>'


def _line(row: Row) -> str:
    """The curve a row lies on: its subject's, or that of the rounded latents of one tokenizer."""
    return f"{row.facts['latents_of']}, rounded" if "latents_of" in row.facts else row.subject


def _with_frc(result: EvalResult, most: int = 6) -> list[Row]:
    rows = [r for r in result.rows if "frc" in r.curves and r.kind != "baseline"]
    kept = rows[:: max(1, -(-len(rows) // most))]
    return kept if not rows or kept[-1] is rows[-1] else [*kept[: most - 1], rows[-1]]


def _task_plots(result: EvalResult, task: str) -> str:
    rows = [r for r in result.rows if task in r.tasks]
    names = dict.fromkeys(name for r in rows for name in r.tasks[task]["curves"])
    plots = []
    for name in names:
        found = [(r.subject, r.tasks[task]["curves"][name]) for r in rows if name in r.tasks[task]["curves"]]
        lines = [
            Line(label=label, x=tuple(c["x"]), y=tuple(c["y"]), low=tuple(c["low"]), high=tuple(c["high"]))
            for label, c in found
        ]
        first = found[0][1]
        log = len(first["x"]) > 2 and min(first["x"]) > 0 and max(first["x"]) / min(first["x"]) > 20
        units = {"x_label": first["x_unit"], "y_label": first["y_unit"]}
        plots.append(curves_plot(lines, title=first["title"], log_x=log, **units))
    shown = f'<div class="plots">{"".join(plots[:SHOWN])}</div>'
    if len(plots) <= SHOWN:
        return shown
    more = f'<div class="plots">{"".join(plots[SHOWN:])}</div>'
    return f"{shown}<details><summary>{len(plots) - SHOWN} more curves</summary>{more}</details>"


def _details(result: EvalResult, folder: Path) -> str:
    return _task_plots(result, "detail") + _pictures(result, folder, "detail")


def _texts(result: EvalResult, folder: Path) -> str:
    pairs = dict.fromkeys(p for row in result.rows for p in _instruments(row))
    return (facts(list(pairs)) if pairs else "") + _task_plots(result, "text") + _pictures(result, folder, "text")


def _instruments(row: Row) -> Iterator[tuple[str, str]]:
    """What text was read with and set in."""
    for task in ("text", "text_to_original"):
        if engine := row.tasks.get(task, {}).get("engine"):
            yield "recognizer", engine
    told = row.tasks.get("text", {}).get("facts", {})
    for part, value in (told.get("recognizer") or {}).items():
        if isinstance(value, dict):
            yield f"{part} model", f"{value['file']}, sha256 {value['sha256'][:16]}"
    for script, font in told.get("fonts", {}).items():
        yield f"font, {script}", f"{font['family']} {font['style']}, {font['file']}, sha256 {font['sha256'][:16]}"


def _samples(result: EvalResult, folder: Path) -> str:
    """A sheet of every row's samples, and some of them beside their nearest reference images."""
    found = []
    for row in result.rows:
        pictures = [p for p in row.tasks.get("pictures", []) if (folder / p["file"]).is_file()]
        found += [
            f"<h3>{escape(row.subject)}: {escape(p['title'])}</h3>"
            + figure(read_images(folder / p["file"])[0], p["title"])
            for p in pictures
            if p["task"] == "samples"
        ]
        beside = [p for p in pictures if p["task"] == "neighbors"]
        if beside:
            near = row.tasks["neighbors"]
            lead = (
                "Each sample and the reference images nearest to it in Inception's pooled features, with the distance "
                "of the first; the last ones are the samples that come closest of all. Median over all samples "
                f"{near['samples']:.1f}; from a reference image to its nearest other {near['reference']:.1f}."
            )
            figures = "".join(figure(read_images(folder / p["file"])[0], p["title"], (p["title"],)) for p in beside)
            found.append(f'<h3>Nearest reference images</h3><p class="lead">{escape(lead)}</p>')
            found.append(f'<div class="charts">{figures}</div>')
    return "".join(found)


def _pictures(result: EvalResult, folder: Path, task: str) -> str:
    groups = []
    for row in result.rows:
        shown = [p for p in row.tasks.get("pictures", []) if p["task"] == task and (folder / p["file"]).is_file()]
        if shown:
            figures = "".join(figure(read_images(folder / p["file"])[0], p["title"], (p["title"],)) for p in shown)
            groups.append(f'<h3>{escape(row.key)}: original, reconstruction</h3><div class="charts">{figures}</div>')
    return "".join(groups)


def _images(result: EvalResult, folder: Path) -> str:
    shown = _pictures(result, folder, "images")
    lead = "Worst, median and best image by PSNR at the whole sequence: original, reconstruction, ten times the error."
    return section("images", "Images", lead, shown) if shown else ""


def _speed(result: EvalResult) -> str:
    found = speeds(result)
    if found is None:
        return ""
    title, header, rows = found
    threads = result.environment.get("threads")
    lead = (
        f"Images per second on {result.environment['device']}{f', {threads} threads' if threads else ''}: reading, "
        "encoding and decoding by tokenizer, codecs both ways with their search for the rate, then each metric over "
        "all rows. Memory is the most that the process has held, in units of 2^20 bytes."
    )
    return section(title, title.capitalize(), lead, table(header, rows))


def _provenance(result: EvalResult) -> str:
    pairs = list(_facts(result))
    skipped = [(", ".join(names), reason) for reason, names in reasons(result.skipped).items()][:200]
    left_out = f"<h3>Not measured</h3>{facts(skipped)}" if skipped else ""
    return section("provenance", "Provenance", "What these numbers depend on.", facts(pairs), left_out)


def _facts(result: EvalResult) -> Iterator[tuple[str, str]]:
    protocol: dict[str, Any] = result.settings["protocol"]
    yield "protocol", f"{protocol['name']}/{protocol['version']} {protocol['digest'][:12]}: {protocol['title']}"
    if protocol["faults"]:
        yield "known faults", "; ".join(protocol["faults"])
    yield "images", f"{result.data['images']}, fingerprint {result.data['fingerprint'][:16]}"
    for subject in _first_rows(result.rows):
        if "latents" in subject.protocol:
            yield subject.subject, subject.protocol["latents"]
        elif subject.facts:
            yield subject.subject, "; ".join(f"{k} {_plain(v)}" for k, v in subject.facts.items() if v is not None)
    for name, file in result.settings.get("networks", {}).items():
        yield name, f"sha256 {str(file.get('sha256', ''))[:16]}, published: {file.get('published')}"
    for subject, curves in result.budget_curves.items():
        knees = [f"{m}: knee {c['knee']}, area {c['area']:.3f}" for m, c in curves.items() if c["knee"]]
        yield f"{subject} over budgets", "; ".join(knees) or "no knee"
    yield "seed", str(result.settings["seed"])
    yield "environment", f"{result.environment['device']}, torch {result.environment['packages']['torch']}"
    yield "reading of images", "no language model reads the images: VTBench's comparison by one is not reproduced"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None) + ")"
    return str(value)


def _first_rows(rows: Sequence[Row]) -> list[Row]:
    return [next(r for r in rows if r.subject == s) for s in dict.fromkeys(r.subject for r in rows)]
