"""Test charts: generated, area sampled, float64, seeded; nothing is downloaded."""

from smalti.eval.detail.charts.edges import slanted_edge
from smalti.eval.detail.charts.patches import PATCHES, PatchChart, patch_charts
from smalti.eval.detail.charts.sampling import area_sample, as_images, rng
from smalti.eval.detail.charts.shapes import BarChart, landolt_cell, landolt_rings, thin_line, three_bars
from smalti.eval.detail.charts.textures import dead_leaves, pink_noise
from smalti.eval.detail.charts.waves import grating, local_frequency, siemens_frequency, siemens_star, zone_plate

__all__ = [
    "PATCHES",
    "BarChart",
    "PatchChart",
    "area_sample",
    "as_images",
    "dead_leaves",
    "grating",
    "landolt_cell",
    "landolt_rings",
    "local_frequency",
    "patch_charts",
    "pink_noise",
    "rng",
    "siemens_frequency",
    "siemens_star",
    "slanted_edge",
    "thin_line",
    "three_bars",
    "zone_plate",
]
