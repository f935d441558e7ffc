"""Zone plate, Siemens star and three-bar targets: contrast by local frequency, and pictures.

Shape suffixes: B batch, H W pixels.
"""

import torch
from torch import Tensor

from smalti.eval.detail.charts import local_frequency, siemens_frequency, siemens_star, three_bars, zone_plate
from smalti.eval.detail.result import Curve, Part, Picture, curve
from smalti.eval.detail.signal import by_label, luminance
from smalti.eval.tasks.detail_parts.setup import Setup

CYCLES = 0.75
"""A ring of the zone plate with fewer cycles across has no contrast to speak of."""
UNIT = "cycles/pixel"


def patterns(setup: Setup) -> Part:
    """Every pattern and its negative; bars upright and lying."""
    plate, star = zone_plate(setup.size), 0.1 + 0.8 * siemens_star(setup.size)
    upright, lying = (three_bars(setup.size, vertical=v) for v in (True, False))
    charts = [p for chart in (plate, star, upright.gray, lying.gray) for p in (chart, 1 - chart)]
    images, reconstructions = setup.run(torch.stack(charts))
    before, after = luminance(images), luminance(reconstructions)
    faithful = [
        by_label(before[pair], after[pair], chart.element, len(chart.widths))[0]
        for pair, chart in ((slice(4, 6), upright), (slice(6, 8), lying))
    ]
    frequencies = [1 / (2 * w) for w in upright.widths]
    names = {"zone_plate": "Zone plate", "siemens_star": "Siemens star", "bars": "Three-bar targets"}
    return Part(
        curves=(
            *_zone_plate(before[0:2], after[0:2]),
            *_siemens_star(before[2:4], after[2:4]),
            curve("bars", "Contrast of three-bar targets", frequencies, UNIT, torch.cat(faithful), "share"),
        ),
        pictures=tuple(
            Picture(name=name, title=title, original=images[2 * i], reconstruction=reconstructions[2 * i])
            for i, (name, title) in enumerate(names.items())
        ),
        images=len(images),
    )


def _zone_plate(before: Tensor, after: Tensor) -> list[Curve]:
    size = before.shape[-1]
    rings = _rings(size)
    first = next(k for k in range(rings) if (2 * k + 1) * (size // 2) / (4 * rings**2) >= CYCLES)
    return _by_frequency(before, after, local_frequency(size), "zone_plate", "zone plate", first)


def _siemens_star(before: Tensor, after: Tensor) -> list[Curve]:
    frequency = siemens_frequency(before.shape[-1])
    return _by_frequency(before, after, frequency, "siemens_star", "Siemens star", 0)


def _rings(size: int) -> int:
    return min(16, max(8, size // 16))


def _by_frequency(before: Tensor, after: Tensor, frequency: Tensor, name: str, title: str, first: int) -> list[Curve]:
    """Faithful contrast and energy that is not the chart's (aliasing among it) in rings of local frequency."""
    rings = _rings(before.shape[-1])
    ring = (frequency.clamp(max=1) * 2 * rings).floor().long()
    faithful, invented = by_label(before, after, torch.where((ring >= first) & (ring < rings), ring, -1), rings)
    x = [(k + 0.5) / (2 * rings) for k in range(rings)]
    return [
        curve(f"{name}_contrast", f"Faithful contrast on the {title}", x, UNIT, faithful, "share"),
        curve(f"{name}_invented", f"Hallucinated energy on the {title}", x, UNIT, invented, "share"),
    ]
