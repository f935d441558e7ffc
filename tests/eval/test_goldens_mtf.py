"""Proves that edges, gratings and ring correlation give the golden values, and that our charts are the golden charts.

Every `metrics/mtf` folder below the roots of `SMALTI_GOLDENS` (default: tests/goldens) is replayed.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from smalti.eval.detail.charts import grating, siemens_star, slanted_edge, zone_plate
from smalti.eval.detail.frc import ring_sums
from smalti.eval.detail.gratings import lock_in
from smalti.eval.detail.mtf import edge_response
from tests.test_goldens import ROOTS

FOLDERS = [p for root in ROOTS for p in sorted(root.rglob("metrics/mtf"))]
IGNORED = {
    "independent (Asplund algorithm)": "another estimator, which reads up to .04 high for wide blurs",
    "u-onder mtf.py": "another estimator, which failed",
    "expected_gaussian_gain": "what the blur of the chart does without its noise, not a measurement",
    "freq": "hypot(u, v)",
}


@dataclass
class Golden:
    """One folder."""

    charts: dict[str, Tensor]
    values: dict

    def gray(self, name: str) -> Tensor:
        """float64 [1, H, W] in [0, 1]."""
        return self.charts[f"{name}_u8"].double()[None] / 255


@pytest.fixture(params=FOLDERS, ids=str)
def golden(request: pytest.FixtureRequest) -> Golden:
    """Charts and reference values of one folder."""
    folder: Path = request.param
    return Golden(load_file(folder / "charts.safetensors"), json.loads((folder / "values.json").read_text()))


def test_there_are_goldens_and_every_key_is_accounted_for(golden) -> None:
    """No folder found, or a key nobody compares, would pass silently."""
    assert set(golden.values) == {"grid_cycles_per_pixel", "edges", "gratings", "frc"}
    edge = {"theta_deg", "sigma_px", "levels", "analytic_mtf", "analytic_MTF50", "analytic_MTF10", "own_esfr"}
    wave = {"u", "v", "gain", "phase_rad", "coherence2", "energy_ratio"}
    rings = {"bin_centres", "frc", "power_ratio_rec_over_ref", "counts", "f_at_frc_0.5", "f_at_frc_1/7"}
    assert golden.values["edges"] and all(set(e) - set(IGNORED) == edge for e in golden.values["edges"])
    assert golden.values["gratings"] and all(set(g) - set(IGNORED) == wave for g in golden.values["gratings"])
    assert set(golden.values["frc"]) == rings


def test_there_are_folders() -> None:
    """As above."""
    assert FOLDERS


def test_edges(golden) -> None:
    """The estimator of the specification to 1e-9, the analytic MTF to .01 and MTF50 to 2 per cent."""
    grid = torch.tensor(golden.values["grid_cycles_per_pixel"], dtype=torch.float64)
    for i, edge in enumerate(golden.values["edges"]):
        response = edge_response(golden.gray(f"edge{i}"))
        own = edge["own_esfr"]
        torch.testing.assert_close(
            response.at(grid)[0], torch.tensor(own["mtf"], dtype=torch.float64), rtol=0, atol=1e-9
        )
        assert float(response.line.angle) == pytest.approx(own["angle"], abs=1e-9)
        assert float(response.mtf(0.5)) == pytest.approx(own["MTF50"], abs=1e-9)
        assert float(response.mtf(0.1)) == pytest.approx(own["MTF10"], abs=1e-9)
        analytic = torch.tensor(edge["analytic_mtf"], dtype=torch.float64)
        assert float((response.at(grid)[0] - analytic).abs().max()) < 0.01
        assert float(response.mtf(0.5)) == pytest.approx(edge["analytic_MTF50"], rel=0.02)
        assert float(response.mtf(0.1)) == pytest.approx(edge["analytic_MTF10"], rel=0.02)


def test_gratings(golden) -> None:
    """Gain, phase, coherence and energy to 1e-9."""
    for i, wave in enumerate(golden.values["gratings"]):
        u, v = torch.tensor([wave["u"]]).double(), torch.tensor([wave["v"]]).double()
        found = lock_in(golden.gray(f"grating{i}_ref"), golden.gray(f"grating{i}_rec"), u, v)
        assert float(found.gain) == pytest.approx(wave["gain"], abs=1e-9)
        assert float(found.phase) == pytest.approx(wave["phase_rad"], abs=1e-9)
        assert float(found.coherence2) == pytest.approx(wave["coherence2"], abs=1e-9)
        assert float(found.energy) == pytest.approx(wave["energy_ratio"], abs=1e-9)


def test_ring_correlation(golden) -> None:
    """32 rings to 1e-9, and the two resolutions."""
    values = golden.values["frc"]
    sums = ring_sums(golden.gray("frc_ref"), golden.gray("frc_rec"))
    close = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(sums.centers, torch.tensor(values["bin_centres"]).double(), **close)
    torch.testing.assert_close(sums.frc[0], torch.tensor(values["frc"], dtype=torch.float64), **close)
    power = torch.tensor(values["power_ratio_rec_over_ref"], dtype=torch.float64)
    torch.testing.assert_close(sums.power_ratio[0], power, **close)
    assert sums.count.tolist() == values["counts"]
    assert float(sums.resolution(0.5)) == pytest.approx(values["f_at_frc_0.5"], abs=1e-9)
    assert float(sums.resolution(1 / 7)) == pytest.approx(values["f_at_frc_1/7"], abs=1e-9)


def test_our_charts_are_the_golden_charts(golden) -> None:
    """Edges to 1.5 gray levels (those are sampled with points, ours exactly), waves to 1, the others to rounding."""
    for i, edge in enumerate(golden.values["edges"]):
        stored = golden.charts[f"edge{i}_u8"].double()
        levels = (edge["levels"][0], edge["levels"][1])
        ours = slanted_edge(*stored.shape, angle=edge["theta_deg"], levels=levels, sigma=edge["sigma_px"])
        assert float((255 * ours - stored).abs().max()) < 1.5
    stored = golden.charts["zone_plate_u8_65px"].double()
    assert float((255 * zone_plate(65, oversample=1) - stored).abs().max()) < 0.51
    stored = golden.charts["siemens_24spokes_u8_65px"].double()
    assert float((255 * siemens_star(65, 24) - stored).abs().max()) < 0.51
    for i, wave in enumerate(golden.values["gratings"]):
        if max(abs(wave["u"]), abs(wave["v"])) < 0.49:  # at the Nyquist frequency phase and contrast are one
            assert float((255 * (_regenerated(golden, i) - golden.gray(f"grating{i}_ref"))).abs().max()) < 1


def _regenerated(golden: Golden, i: int) -> Tensor:
    """Our grating with the phase and contrast of the golden one, which is sampled at points."""
    wave, stored = golden.values["gratings"][i], golden.gray(f"grating{i}_ref")
    u, v = torch.tensor([wave["u"]]).double(), torch.tensor([wave["v"]]).double()
    contrast = 0.5 / (torch.sinc(u) * torch.sinc(v))
    found = lock_in(grating(stored.shape[-1], u, v, torch.zeros(1), contrast), stored, u, v)
    return grating(stored.shape[-1], u, v, found.phase, contrast * found.gain)
