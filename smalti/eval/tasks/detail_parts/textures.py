"""Dead leaves, 1/f noise and flat fields: ring correlation, power ratio, noise floor, token grid.

Shape suffixes: B batch, H W pixels, R rings.
"""

import torch
from torch import Tensor

from smalti.eval.detail.artifacts import blockiness
from smalti.eval.detail.charts import PATCHES, dead_leaves, pink_noise
from smalti.eval.detail.frc import RINGS, RingSums, ring_sums
from smalti.eval.detail.result import Curve, Part, Picture, Quantity, Skipped, curve, quantity
from smalti.eval.detail.signal import luminance
from smalti.eval.detail.texture import contrast_ratio, noise_floor
from smalti.eval.tasks.detail_parts.setup import Setup

UNIT = "cycles/pixel"


def textures(setup: Setup) -> Part:
    """Two textures and flat fields in the 24 patch colors (quick: 8 of them)."""
    count = 4 if setup.quick else 16
    generator = setup.generator("dead leaves")
    leaves = torch.stack([dead_leaves(setup.size, generator) for _ in range(count)])
    generator = setup.generator("noise")
    noise = torch.stack([pink_noise(setup.size, generator) for _ in range(count)])
    colors = torch.tensor(PATCHES[:: 3 if setup.quick else 1], dtype=torch.float64)
    flat = colors[:, :, None, None].expand(-1, -1, setup.size, setup.size)
    images, reconstructions = setup.run(torch.cat([leaves, noise[:, None].expand(-1, 3, -1, -1), flat]))
    before, after = luminance(images), luminance(reconstructions)
    quantities: list[Quantity] = []
    curves: list[Curve] = []
    for name, title, rows in (
        ("dead_leaves", "dead leaves", slice(0, count)),
        ("noise", "1/f noise", slice(count, 2 * count)),
    ):
        sums = ring_sums(before[rows], after[rows], min(RINGS, setup.size // 2))
        quantities += _agreement(name, sums)
        quantities.append(
            quantity(f"contrast_{name}", contrast_ratio(before[rows], after[rows]), "", "", note="1 is right")
        )
        x = sums.centers.tolist()
        curves.append(curve(f"frc_{name}", f"Fourier ring correlation, {title}", x, UNIT, sums.frc, "correlation"))
        curves.append(curve(f"power_{name}", f"Power kept, {title}", x, UNIT, sums.power_ratio, "ratio"))
    quantities.append(quantity("noise_floor", noise_floor(reconstructions[2 * count :]), "8-bit levels", "lower"))
    grid, skipped = _grid(setup, before[: 2 * count], after[: 2 * count])
    picture = Picture(name="dead_leaves", title="Dead leaves", original=images[0], reconstruction=reconstructions[0])
    return Part(
        quantities=(*quantities, *grid), curves=tuple(curves), pictures=(picture,), skipped=skipped, images=len(images)
    )


def _agreement(name: str, sums: RingSums) -> list[Quantity]:
    missing = "not reached: they agree up to the Nyquist frequency"
    return [
        quantity(f"{short}_{name}", sums.resolution(level), UNIT, "higher", missing=missing)
        for short, level in (("frc50", 0.5), ("frc14", 1 / 7))
    ]


def _grid(setup: Setup, before: Tensor, after: Tensor) -> tuple[list[Quantity], tuple[Skipped, ...]]:
    """Blockiness of the reconstructions over that of their charts."""
    if setup.stride is None or not 2 <= setup.stride <= setup.size // 2:
        reason = f"needs a token grid of 2 to {setup.size // 2} px, got stride={setup.stride}"
        return [], (Skipped(metric="blockiness", reason=reason),)
    ratio = blockiness(after, setup.stride) / blockiness(before, setup.stride)
    return [quantity("blockiness", ratio, "", "lower", note="1: no token borders")], ()
