"""The page of `smalti demo`: one file, no scripts, nothing loaded from anywhere."""

from datetime import UTC, datetime
from html import escape
from typing import Any

from smalti.eval.budgets import PROTOCOL, BudgetRow
from smalti.eval.demo import Demo, Generated, HandOver, model_facts
from smalti.eval.report.html import columns, facts, figure, picture, section, table
from smalti.eval.report.mosaic import mosaics
from smalti.eval.report.plot import Series, line_plot
from smalti.eval.report.style import CSS

KINDS = {"emoji": "Emoji", "photo": "Photographs", "text": "Rendered text"}


def demo_page(demo: Demo, environment: dict[str, Any], command: str = "smalti demo") -> str:
    """The whole HTML document."""
    body = [
        _header(demo, environment),
        "<main>",
        _budgets(demo),
        _rates(demo),
        _classes(demo),
        _texts(demo) if demo.by_text else "",
        _hand_over(demo.hand_over) if demo.hand_over is not None else "",
        _provenance(demo, environment, command),
        "</main>",
        f"<footer>Smalti {escape(environment['smalti'])}. This page is one file and loads nothing.</footer>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Smalti demo</title><style>{CSS}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _header(demo: Demo, environment: dict[str, Any]) -> str:
    row = demo.sweep.rows[-1]
    psnr = row.metrics["psnr"]
    generated = sum(len(g.images) for g in (*demo.by_class, *demo.by_text))
    seconds = sum(demo.seconds.values())
    side = demo.originals.shape[-1]
    lead = (
        f"{len(demo.samples)} images that no model was trained on, written as tokens and read back at "
        f"{len(demo.sweep.rows)} budgets; {generated} images made from classes and texts. "
        f"{side} × {side} pixels, {environment['device']}, {_count(environment['threads'], 'thread')}, "
        f"{seconds:.0f} seconds."
    )
    numbers = [
        ("tokens of a whole image", str(row.tokens), f"{row.bits:,.0f} bit, {row.bpp:.2f} bit per pixel"),
        ("PSNR at that budget", f"{psnr.tokenizer.value:.1f} dB", f"95 %: {_range(psnr.tokenizer, 1)}"),
        (
            "against a thumbnail, same bits",
            f"{psnr.difference.value:+.1f} dB",
            f"95 %: {_range(psnr.difference, 1, signed=True)}",
        ),
        _speed(demo),
    ]
    cards = "".join(
        f"<div><dt>{escape(k)}</dt><dd>{escape(v)}<small>{escape(note)}</small></dd></div>" for k, v, note in numbers
    )
    return f'<header><h1>Smalti demo</h1><p class="lead">{escape(lead)}</p><dl class="numbers">{cards}</dl></header>'


def _speed(demo: Demo) -> tuple[str, str, str]:
    """Seconds for the images of one text, or of one class where the generator knows no text."""
    kind, group = ("text", demo.by_text) if demo.by_text else ("class", demo.by_class)
    stage = "texts" if demo.by_text else "classes"
    seconds = demo.seconds[stage] / len(group)
    return f"for {len(group[0].images)} images of a {kind}", f"{seconds:.2f} s", demo.generator.name


def _range(interval: Any, digits: int, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f}"


# ---- reconstruction --------------------------------------------------------------------------------------------------


def _budgets(demo: Demo) -> str:
    blocks = []
    for kind, title in KINDS.items():
        strips = [_strip(demo, i) for i, sample in enumerate(demo.samples) if sample.kind == kind]
        if strips:
            blocks.append(f"<h3>{escape(title)}</h3>{''.join(strips)}")
    lead = (
        "Each strip starts with the original, then shows what the first tokens alone decode to, from one token to all "
        "of them. Last in the strip: a bicubic thumbnail that costs as many bits as all tokens together."
    )
    return section("budgets", "From one token to all", lead, _mosaics(demo), *blocks)


def _mosaics(demo: Demo) -> str:
    """The first sample's token maps, for tokenizers whose budgets are square maps."""
    segments = demo.sweep.tokens.layout.segments
    if len(segments) != len(demo.sweep.rows) or any(len(s.shape) != 2 for s in segments):
        return ""
    shapes = [(s.shape[0], s.shape[1]) for s in segments]
    vocab = segments[0].vocab
    sentence = (
        f"<p>One tile, one token: an image becomes {len(shapes)} maps of tokens, coarse to fine, and every token is "
        f"one of {vocab:,} codes. Tiles are drawn in the mean color of what they decode to.</p>"
    )
    return sentence + mosaics([images[0] for images in demo.sweep.reconstructions], shapes)


def _strip(demo: Demo, i: int) -> str:
    sample, swept = demo.samples[i], demo.sweep
    name = f"{sample.title} ({sample.artist})" if sample.artist else sample.title
    height, width = demo.originals.shape[-2:]
    figures = [figure(demo.originals[i], name, (sample.title, f"{24 * height * width:,} bit", "original"), "source")]
    for row, images, values in zip(swept.rows, swept.reconstructions, swept.values, strict=True):
        lines = (_count(row.tokens, "token"), f"{row.bits:,.0f} bit", f"{float(values['psnr'][i]):.1f} dB")
        figures.append(figure(images[i], f"{name} from {_count(row.tokens, 'token')}", lines))
    small = swept.thumbnails[-1]
    height, width = small.sides[i].tolist()
    value = float(_psnr(demo, small.images, i))
    lines = (f"{height} × {width} px", f"{int(small.bits[i]):,} bit", f"{value:.1f} dB")
    figures.append(figure(small.images[i], f"{name} as a thumbnail", lines, "thumb"))
    return f'<div class="strip" {columns(len(figures))}>{"".join(figures)}</div>'


def _psnr(demo: Demo, images: Any, i: int) -> Any:
    from smalti.eval.pixel import psnr

    return psnr(demo.originals[i : i + 1], images[i : i + 1])[0]


def _count(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


# ---- rates -----------------------------------------------------------------------------------------------------------


def _rates(demo: Demo) -> str:
    rows = demo.sweep.rows
    plots = "".join(
        _plot(rows, name, title, digits) for name, title, digits in (("psnr", "PSNR in dB", 0), ("ssim", "SSIM", 1))
    )
    header = ["tokens", "bits", "bit/pixel", "PSNR dB", "thumbnail", "difference [95 %]"]
    header += ["SSIM", "thumbnail", "difference [95 %]", "N"]
    lead = (
        f"Mean over the {rows[0].n} samples with 95 % bootstrap intervals. The thumbnail is the best per image over "
        "all sizes and 2 to 8 bits per channel that fit into the same number of bits."
    )
    return section(
        "rates",
        "Rate and distortion",
        lead,
        f'<div class="plots">{plots}</div>',
        table(
            header,
            [_table_row(row) for row in rows],
            caption="Higher PSNR and SSIM are better; differences are the tokenizer minus the thumbnail.",
            texts=1,
        ),
    )


def _plot(rows: list[BudgetRow], name: str, title: str, digits: int) -> str:
    bpp = tuple(row.bpp for row in rows)
    ours = Series(
        label="tokens",
        style="ours",
        x=bpp,
        y=tuple(row.metrics[name].tokenizer for row in rows),
        notes=tuple(str(row.tokens) for row in rows),
    )
    small = Series(label="thumbnail", style="theirs", x=bpp, y=tuple(row.metrics[name].thumbnail for row in rows))
    return line_plot([small, ours], title=title, x_label="bits per pixel (log scale)", y_digits=digits)


def _table_row(row: BudgetRow) -> list[str]:
    cells = [str(row.tokens), f"{row.bits:,.0f}", f"{row.bpp:.4f}"]
    for name, digits in (("psnr", 2), ("ssim", 3)):
        c = row.metrics[name]
        cells += [f"{c.tokenizer.value:.{digits}f}", f"{c.thumbnail.value:.{digits}f}"]
        cells.append(
            f"{c.difference.value:+.{digits}f} [{c.difference.low:+.{digits}f}, {c.difference.high:+.{digits}f}]"
        )
    return [*cells, str(row.n)]


# ---- generation ------------------------------------------------------------------------------------------------------


def _sheet(generated: Generated) -> str:
    images = "".join(
        picture(image, f"{generated.label}, seed {generated.seed + i}") for i, image in enumerate(generated.images)
    )
    return f'<div class="sheet">{images}</div>'


def _classes(demo: Demo) -> str:
    cells = "".join(f"<div><h3>{escape(g.label)}</h3>{_sheet(g)}</div>" for g in demo.by_class)
    n, seed = len(demo.by_class[0].images), demo.seed
    lead = f"{demo.generator.name}, {n} images of each class, seeds {seed} to {seed + n - 1}; nothing was selected."
    return section("classes", "Generated by class", lead, f'<div class="grid">{cells}</div>')


def _texts(demo: Demo) -> str:
    n, seed = len(demo.by_text[0].images), demo.seed
    rows = "".join(f'<div class="row"><p>{escape(g.label)}</p>{_sheet(g)}</div>' for g in demo.by_text)
    lead = (
        f"{demo.generator.name}, {n} images of each text, seeds {seed} to {seed + n - 1}; nothing was selected. "
        'Your own: smalti demo --prompt "a red apple".'
    )
    return section("texts", "Generated from text", lead, rows)


def _hand_over(made: HandOver) -> str:
    n, ratio = len(made.labels), made.seconds_alone / made.seconds_together
    lead = (
        f"{made.drafter} makes the first {made.handover} of {made.steps} steps ({made.tokens_drafted} of {made.tokens} "
        f"tokens), {made.refiner} the rest. Both get the same texts or classes and the same seeds."
    )

    def row(title: str, note: str, images: Any) -> str:
        sheet = _sheet(Generated(label=title, images=images, seed=0))
        return f'<div class="row"><p>{escape(title)}<small>{escape(note)}</small></p>{sheet}</div>'

    millions = [f"{p / 1e6:.1f} M parameters" for p in made.parameters]
    rows = row("Drafter alone", f"{millions[0]}; {made.seconds_alone:.2f} s for {n} images", made.alone)
    note = f"refiner {millions[1]}; {made.seconds_together:.2f} s for {n} images"
    rows += row("Drafter + refiner", note, made.together)
    numbers = (
        f"<p>Time {made.seconds_alone:.2f} s against {made.seconds_together:.2f} s: {ratio:.2f} × as fast "
        f"(median of 3 runs, decoding included). Mean absolute difference of the images: {255 * made.difference:.1f} "
        "of 255 levels.</p>"
    )
    return section("hand-over", "Drafter and refiner", lead, numbers, rows)


# ---- provenance ------------------------------------------------------------------------------------------------------


def _provenance(demo: Demo, environment: dict[str, Any], command: str) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in environment["packages"].items() if v)
    settings = demo.generator.settings
    pairs = [
        ("command", command),
        ("made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("seed", str(demo.seed)),
        ("sampler", f"{settings.guidance}, {settings.sampling}"),
        ("protocol", PROTOCOL),
        ("preprocessing", str(demo.tokenizer.resize)),
        ("machine", f"{environment['platform']}, {environment['device']}, {_count(environment['threads'], 'thread')}"),
        ("versions", f"smalti {environment['smalti']}, Python {environment['python']}, {packages}"),
        ("time", ", ".join(f"{k} {v:.1f} s" for k, v in demo.seconds.items())),
    ]
    models = [
        [m["name"], m["role"], f"{m['parameters'] / 1e6:.2f} M", m["weights"][:16] or "-", m["license"] or "-"]
        for m in model_facts(demo)
    ]
    sources = [[s.title, s.license, s.attribution, s.source] for s in demo.samples]
    return section(
        "provenance",
        "Provenance",
        "Enough to make every number and picture of this page again.",
        table(["model", "role", "parameters", "weights (sha256)", "license"], models, texts=5),
        facts(pairs),
        "<details><summary>Sources and licenses of the sample images</summary>"
        + table(["image", "license", "attribution", "source"], sources, texts=4)
        + "</details>",
    )
