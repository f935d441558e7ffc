"""Writes a demo: report.html, metrics.json, one overview, and every picture as PNG."""

import re
from pathlib import Path
from typing import Any

from smalti.eval.budgets import PROTOCOL
from smalti.eval.demo import Demo, model_facts
from smalti.eval.environment import environment
from smalti.eval.report.demo_page import demo_page
from smalti.eval.report.overview import overview
from smalti.files import whole, write_json, write_text
from smalti.images import write_image

SCHEMA = "smalti-demo/1"


def write_demo(demo: Demo, out: Path, *, command: str = "smalti demo") -> Path:
    """Writes everything into the folder `out`, and returns the path of the report."""
    made_with = environment()
    write_json(out / "metrics.json", metrics(demo, made_with))
    for row, images in zip(demo.sweep.rows, demo.sweep.reconstructions, strict=True):
        for sample, image in zip(demo.samples, images, strict=True):
            write_image(image, out / "reconstructions" / f"{sample.path.stem}-{row.tokens:04d}.png")
    for kind, group in (("class", demo.by_class), ("text", demo.by_text)):
        for made in group:
            for i, image in enumerate(made.images):
                write_image(image, out / "generated" / f"{kind}-{file_name(made.label)}-{made.seed + i}.png")
    if demo.hand_over is not None:
        pairs = zip(demo.hand_over.labels, demo.hand_over.alone, demo.hand_over.together, strict=True)
        for i, (label, alone, together) in enumerate(pairs):
            write_image(alone, out / "generated" / f"drafter-{file_name(label)}-{demo.seed + i}.png")
            write_image(together, out / "generated" / f"refined-{file_name(label)}-{demo.seed + i}.png")
    with whole(out / "overview.png") as temporary:
        overview(demo).save(temporary, format="PNG", optimize=True)
    report = out / "report.html"
    write_text(report, demo_page(demo, made_with, command))
    return report


def metrics(demo: Demo, made_with: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a demo as plain data."""
    made = demo.hand_over
    per_image = [
        {
            "file": sample.path.name,
            "title": sample.title,
            "kind": sample.kind,
            "budgets": [
                {"tokens": row.tokens, **{name: float(v[i]) for name, v in values.items()}}
                for row, values in zip(demo.sweep.rows, demo.sweep.values, strict=True)
            ],
        }
        for i, sample in enumerate(demo.samples)
    ]
    hand_over = made and {
        "drafter": made.drafter,
        "refiner": made.refiner,
        "steps": made.steps,
        "handover": made.handover,
        "images": len(made.labels),
        "seconds_alone": made.seconds_alone,
        "seconds_together": made.seconds_together,
        "mean_absolute_difference": made.difference,
    }
    return {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "image_size": list(demo.originals.shape[-2:]),
        "preprocessing": str(demo.tokenizer.resize),
        "seed": demo.seed,
        "models": model_facts(demo),
        "budgets": [row.to_dict() for row in demo.sweep.rows],
        "images": per_image,
        "generated": {
            kind: [{"label": g.label, "images": len(g.images), "seed": g.seed} for g in group]
            for kind, group in (("class", demo.by_class), ("text", demo.by_text))
        },
        "hand_over": hand_over,
        "seconds": demo.seconds,
        "environment": made_with,
    }


def file_name(label: str) -> str:
    """A label as part of a file name: lower case, at most 40 characters of a-z, 0-9 and dashes.

    >>> file_name("A red apple!")
    'a-red-apple'
    """
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40].strip("-") or "image"
