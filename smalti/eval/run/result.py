"""The result of an evaluation: plain data with a fixed, versioned schema."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from smalti.eval.bootstrap import mean_interval
from smalti.files import whole, write_json

SCHEMA = "smalti-eval/1"
Better = Literal["higher", "lower", ""]
METRICS: dict[str, tuple[str, Better]] = {
    "psnr": ("dB", "higher"),
    "psnr_pooled": ("dB", "higher"),
    "n_identical": ("images", ""),
    "ssim": ("", "higher"),
    "ms_ssim": ("", "higher"),
    "lpips_alex": ("", "lower"),
    "lpips_vgg": ("", "lower"),
    "lpips_squeeze": ("", "lower"),
    "dists": ("", "lower"),
    "fid": ("", "lower"),
    "sfid": ("", "lower"),
    "kid": ("", "lower"),
    "precision": ("", "higher"),
    "recall": ("", "higher"),
    "density": ("", "higher"),
    "coverage": ("", "higher"),
    "inception_score": ("", "higher"),
    "class_accuracy": ("", "higher"),
    "cer_to_original": ("", "lower"),
    "wer_to_original": ("", "lower"),
    "bpp": ("bit/px", "lower"),
    "entropy_bpp": ("bit/px", "lower"),
    "bits": ("bit", "lower"),
    "file_bpp": ("bit/px", "lower"),
    "frc_resolution_half": ("cycles/px", "higher"),
    "frc_resolution_seventh": ("cycles/px", "higher"),
}
"""Unit and direction of the metrics of images; detail and text tasks name their own."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """One number of a summary."""

    value: float | None
    """None = not measured, or not reached; `note` says which."""
    ci_lo: float | None = None
    """95 % bootstrap interval over images, or for detail charts the 10 % quantile over placements (`band`)."""
    ci_hi: float | None = None
    n: int = 0
    unit: str = ""
    better: Better = ""
    band: Literal["bootstrap", "placements", ""] = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing at one rate: a tokenizer at a budget, a codec, a folder of reconstructions."""

    subject: str
    kind: Literal["tokenizer", "baseline", "pairs", "samples"]
    protocol: dict[str, Any]
    """The stamp: what may stand in one column."""
    budget: int | None = None
    """Tokens kept; None where there are none."""
    summary: dict[str, Value] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    """Token statistics, detail, text: their own plain data."""
    timing: dict[str, Any] = field(default_factory=dict)
    """The only part that differs between two runs of one command: `images_per_second` and `seconds` in all, by what was
    done (read, encode, decode, code: a codec both ways, rounding, then each metric; precision stands for the four
    manifold scores, inception for the features); encode_, decode_, code_seconds_per_image; peak_megabytes of the
    process until then and, on a GPU, peak_device_megabytes (2^20 bytes)."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Weights, license, image size, layout."""

    @property
    def key(self) -> str:
        """Name in tables and files."""
        return self.subject if self.budget is None else f"{self.subject}@{self.budget}"


@dataclass(frozen=True, kw_only=True)
class Skip:
    """An image or a metric that is not in the result, and why."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """Everything an evaluation found."""

    suite: str
    data: dict[str, Any]
    """Name, number and fingerprint of the images."""
    rows: list[Row]
    skipped: list[Skip]
    settings: dict[str, Any]
    environment: dict[str, Any]
    budget_curves: dict[str, Any] = field(default_factory=dict)
    """By subject and metric: values over the budgets, their knee and area."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"schema": SCHEMA} | asdict(self)

    def row(self, key: str) -> Row:
        """The row of a name such as "mini/var@130"; KeyError with those there are."""
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(f"no row {key!r}; there are {[r.key for r in self.rows]}")


def read_result(path: str | Path) -> EvalResult:
    """A metrics.json, or the run folder that holds it. Errors: FileNotFoundError; ValueError for another schema."""
    import json

    file = Path(path) / "metrics.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no {file}: give the folder of a finished `smalti eval --out`")
    data = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"{file} has no schema {SCHEMA}: it was not written by this version of `smalti eval`")
    del data["schema"]
    rows = [Row(**r | {"summary": {k: Value(**v) for k, v in r["summary"].items()}}) for r in data.pop("rows")]
    return EvalResult(rows=rows, skipped=[Skip(**s) for s in data.pop("skipped")], **data)


def summary_of(columns: Mapping[str, Tensor], means: Mapping[str, float], seed: int) -> dict[str, Value]:
    """Means with bootstrap intervals of the columns [N] that are plain means over images; the rest without.

    NaN: an image whose size has no such metric; it does not count in N.
    """
    n = len(next(iter(columns.values())))
    found = {}
    for name, (unit, better) in METRICS.items():
        if name in columns:
            measured = columns[name][~columns[name].isnan()]
            column = measured.clamp(max=100.0) if name == "psnr" else measured
            ci = mean_interval(column, seed=seed)
            plain = abs(ci.value - means.get(name, ci.value)) < 1e-9
            low, high = (ci.low, ci.high) if plain else (None, None)
            value = means.get(name, ci.value)
            band: Literal["bootstrap", ""] = "bootstrap" if plain else ""
            found[name] = Value(value=value, ci_lo=low, ci_hi=high, n=len(column), unit=unit, better=better, band=band)
        elif name in means:
            found[name] = Value(value=means[name], n=n, unit=unit, better=better)
    return found


def write_csv(path: Path, rows: Sequence[tuple[str, Sequence[str], Mapping[str, Tensor]]]) -> None:
    """One line per subject and image: key, image, then every column (empty where there is no value)."""
    names = list(dict.fromkeys(name for _, _, columns in rows for name in columns))
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["subject", "image", *names])
        for key, images, columns in rows:
            for i, image in enumerate(images):
                writer.writerow([key, image, *[_cell(columns, name, i) for name in names]])


def _cell(columns: Mapping[str, Tensor], name: str, i: int) -> str:
    value = float(columns[name][i]) if name in columns else math.nan
    return "" if math.isnan(value) else repr(value)


def write_result(folder: Path, result: EvalResult) -> Path:
    """metrics.json; numbers that JSON does not know become None."""
    write_json(folder / "metrics.json", plain_data(result.to_dict()))
    return folder / "metrics.json"


def plain_data(data: Any) -> Any:
    """Plain data as JSON knows it: finite numbers or None, keys of text."""
    if isinstance(data, Mapping):
        return {str(k): plain_data(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain_data(v) for v in data]
    if isinstance(data, float):
        return data if torch.isfinite(torch.tensor(data)) else None
    return data if isinstance(data, (str, int, bool, type(None))) else str(data)
