"""Proves that Landolt rings are drawn, read and fitted as in the golden charts.

Every `metrics/acuity` folder below the roots of `SMALTI_GOLDENS` (default: tests/goldens) is replayed.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from smalti.eval.detail.acuity import CHANCE, decide, read_rings
from smalti.eval.detail.charts import landolt_cell, landolt_rings
from smalti.eval.detail.psychometric import fit, smallest_read
from tests.test_goldens import ROOTS

FOLDERS = [p for root in ROOTS for p in sorted(root.rglob("metrics/acuity"))]
IGNORED = {"blur_sigma_px": "how the golden reconstructions were made", "noise_sd": "the same"}


def test_there_are_goldens() -> None:
    """No folder found would pass silently."""
    assert FOLDERS


@pytest.fixture(params=FOLDERS, ids=str)
def golden(request: pytest.FixtureRequest) -> tuple[dict[str, Tensor], dict]:
    """Charts and reference values of one folder."""
    folder: Path = request.param
    return load_file(folder / "charts.safetensors"), json.loads((folder / "values.json").read_text())


def test_every_key_is_accounted_for(golden) -> None:
    """A key nobody compares would pass silently."""
    _, values = golden
    known = {"gaps_px", "cells_per_gap", "rows", "psychometric_fit", "smallest_gap_all_larger_ge_0.75"}
    assert set(values) - set(IGNORED) == known
    row = {"gap_px", "cell_px", "orientation", "decision", "accuracy", "margin_top1_minus_top2"}
    assert all(set(r) == row for r in values["rows"])
    assert set(values["psychometric_fit"]) == {"model", "threshold_log2_px", "gap_px_at_56.25%", "slope", "nll"}


def test_rings_are_drawn_and_read(golden) -> None:
    """Charts to half a gray level, cell sizes, decisions, margins to 1e-9, accuracies."""
    charts, values = golden
    assert [row["gap_px"] for row in values["rows"]] == values["gaps_px"]
    for row in values["rows"]:
        name, gap = f"g{round(row['gap_px'] * 100)}", row["gap_px"]
        assert landolt_cell(gap) == row["cell_px"]
        offsets, orientation = charts[f"{name}_offset_xy"], charts[f"{name}_orientation"]
        assert orientation.tolist() == row["orientation"]
        assert len(offsets) == values["cells_per_gap"]
        templates = landolt_rings(gap, [tuple(o.tolist()) for o in offsets])
        drawn = templates[torch.arange(len(offsets)), orientation]
        assert float((255 * drawn - charts[f"{name}_ref_u8"].double()).abs().max()) < 0.51
        found = decide(charts[f"{name}_rec_u8"].double() / 255, templates)
        assert found.choice.tolist() == row["decision"]
        margin = torch.tensor(row["margin_top1_minus_top2"], dtype=torch.float64)
        torch.testing.assert_close(found.margin, margin, rtol=0, atol=1e-9)
        assert float((found.choice == orientation).double().mean()) == row["accuracy"]
        again = read_rings(charts[f"{name}_ref_u8"].double() / 255, gap, offsets)
        assert again.choice.tolist() == orientation.tolist()


def test_psychometric_fit(golden) -> None:
    """Threshold and slope to 1e-5, likelihood to 1e-9, and the smallest gap read."""
    _, values = golden
    rows, wanted, shown = values["rows"], values["psychometric_fit"], values["cells_per_gap"]
    right = [round(row["accuracy"] * shown) for row in rows]
    found = fit(values["gaps_px"], right, [shown] * len(rows), CHANCE)
    assert found.size == pytest.approx(wanted["gap_px_at_56.25%"], rel=1e-5)
    assert torch.tensor(found.size).log2() == pytest.approx(wanted["threshold_log2_px"], abs=1e-5)
    assert found.slope == pytest.approx(wanted["slope"], rel=1e-4)
    assert found.nll == pytest.approx(wanted["nll"], abs=1e-9)
    assert found.low <= found.size <= found.high
    smallest = smallest_read(values["gaps_px"], [row["accuracy"] for row in rows])
    assert smallest == found.smallest == values["smallest_gap_all_larger_ge_0.75"]
