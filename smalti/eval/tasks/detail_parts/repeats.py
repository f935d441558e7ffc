"""Shifted inputs and rounds of coding: how stable a reconstruction is."""

import torch

from smalti.eval.detail.artifacts import reencoded, shift_consistency, shifted_views
from smalti.eval.detail.charts import as_images, dead_leaves
from smalti.eval.detail.result import Curve, Part, Quantity, curve, quantity
from smalti.eval.pixel import capped
from smalti.eval.tasks.detail_parts.setup import Setup

ROUNDS = 5


def repeats(setup: Setup) -> Part:
    """Dead leaves moved by 1 px and by half a token, and coded five times over."""
    count = 4 if setup.quick else 16
    half = max((setup.stride or 16) // 2, 2)
    half = min(half, setup.size // 4)
    generator = setup.generator("repeats")
    canvas = as_images(torch.stack([dead_leaves(setup.size + half, generator) for _ in range(count)]))
    moves = {"1px": (1, 1), "half_token": (half, half)}
    first = setup.again(canvas[..., : setup.size, : setup.size])
    quantities: list[Quantity] = []
    for name, shift in moves.items():
        _, view = shifted_views(canvas, setup.size, shift)
        agreement = capped(shift_consistency(first, setup.again(view), shift))
        note = f"PSNR between reconstructions of an image and of the same moved by {shift[0]} px each way"
        quantities.append(quantity(f"shift_psnr_{name}", agreement, "dB", "higher", note=note))
    rounds = reencoded(setup.again, canvas[..., : setup.size, : setup.size].contiguous(), ROUNDS)
    original, previous = capped(rounds.original), capped(rounds.previous)
    loss = original[0] - original[-1]
    quantities.append(quantity("reencoding_loss", loss, "dB", "lower", note="PSNR of round 1 minus that of round 5"))
    return Part(quantities=tuple(quantities), curves=_curves(original, previous), images=count * (3 + ROUNDS))


def _curves(original: torch.Tensor, previous: torch.Tensor) -> tuple[Curve, ...]:
    x = [float(k + 1) for k in range(len(original))]
    return (
        curve("reencoding_original", "PSNR against the original by round", x, "round", original.T, "dB"),
        curve("reencoding_previous", "PSNR against the round before", x, "round", previous.T, "dB"),
    )
