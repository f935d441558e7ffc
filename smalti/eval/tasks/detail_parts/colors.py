"""Color patches by size: CIEDE2000."""

import torch

from smalti.eval.detail.charts import patch_charts
from smalti.eval.detail.color import patch_difference
from smalti.eval.detail.result import Part, Picture, curve, quantity
from smalti.eval.tasks.detail_parts.setup import Setup

SIZES = (4, 8, 16, 32, 64)
"""Pixels a side."""
QUICK_IMAGES = 8


def colors(setup: Setup) -> Part:
    """24 colors at each size that fits twice; `quick` leaves out sizes that need more than 8 images."""
    charts = [patch_charts(setup.size, p, setup.generator(f"patches {p}")) for p in SIZES if 2 * p <= setup.size]
    charts = [c for c in charts if not setup.quick or len(c.images) <= QUICK_IMAGES]
    images, reconstructions = setup.run(torch.cat([c.images for c in charts]))
    parts = reconstructions.split([len(c.images) for c in charts])
    values = [
        patch_difference(part, chart.label, (chart.colors * 255).round() / 255)
        for part, chart in zip(parts, charts, strict=True)
    ]
    shown = sum(len(c.images) for c in charts if c.patch < 8)  # the first chart of 8 px stands after those of 4 px
    picture = Picture(
        name="patches", title="Color patches of 8 px", original=images[shown], reconstruction=reconstructions[shown]
    )
    sizes = [c.patch for c in charts]
    table = torch.stack(values, dim=1)
    return Part(
        quantities=tuple(
            quantity(f"color_difference_{p}px", column, "CIEDE2000", "lower", note="band over 24 colors")
            for p, column in zip(sizes, table.T, strict=True)
        ),
        curves=(curve("color_difference", "Color difference of patches", sizes, "px a side", table, "CIEDE2000"),),
        pictures=(picture,),
        images=len(images),
    )
