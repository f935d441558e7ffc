"""Floors (a) and (b): held-out reconstructions per budget, against a thumbnail of the same bits; codebook usage."""

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.minis.rows import Row, row
from smalti.eval.bootstrap import mean_interval
from smalti.eval.budgets import METRICS, BudgetSweep, Metric, sweep
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import Tokens

PSNR_TOLERANCE, LPIPS_TOLERANCE = 0.1, 0.005
USAGE = 0.60
TARGETS = {
    ("emoji", "psnr"): {"at_least": 22.0},
    ("emoji", "lpips"): {"at_most": 0.10},
    ("photos", "psnr"): {"at_least": 22.0},
}


def reconstruction(tokenizer: Tokenizer, heldout: Mapping[str, Tensor], lpips: Metric | None) -> list[Row]:
    """All rows of both floors; `heldout` holds images [N, 3, H, W] per source. Without `lpips` its rows are absent."""
    metrics = METRICS | ({"lpips": lpips} if lpips else {})
    sweeps = {source: sweep(tokenizer, images, metrics=metrics) for source, images in heldout.items()}
    rows = [r for source, result in sweeps.items() for r in full_budget(source, result)]
    rows += [r for source, result in sweeps.items() for r in per_budget(source, result)]
    return rows + usage([result.tokens for result in sweeps.values()])


def full_budget(source: str, result: BudgetSweep) -> list[Row]:
    """Against the thumbnail, and the targets."""
    last, rows = result.rows[-1], []
    for metric, values in last.metrics.items():
        rows.append(
            row("a", f"{source}: {metric} at {last.tokens} tokens", values.tokenizer, **_target(source, metric))
        )
        rows.append(row("a", f"{source}: {metric} of the thumbnail", values.thumbnail))
        name = f"{source}: {metric} over the thumbnail (paired)"
        bar = {"at_most": 0.0} if metric == "lpips" else {"at_least": 0.0}
        floor = {"kind": "floor", "on_interval": True, **bar} if metric != "ssim" else {}
        rows.append(row("a", name, values.difference, **floor))
    return rows


def per_budget(source: str, result: BudgetSweep) -> list[Row]:
    """Every budget's score and its gain over the one before."""
    rows = []
    for i, budget in enumerate(result.rows):
        for metric, values in result.values[i].items():
            name = f"{source}: {metric} at {budget.tokens} tokens ({budget.bits:.0f} bits)"
            rows.append(row("b", name, budget.metrics[metric].tokenizer))
            if i and metric != "ssim":
                gain = mean_interval(values - result.values[i - 1][metric])
                bar = {"at_most": LPIPS_TOLERANCE} if metric == "lpips" else {"at_least": -PSNR_TOLERANCE}
                before = result.rows[i - 1].tokens
                rows.append(row("b", f"{source}: {metric}, {before} -> {budget.tokens}", gain, kind="floor", **bar))
    return rows


def usage(tokens: list[Tokens]) -> list[Row]:
    """Share of the codebook that occurs, over all held-out images, in all scales together and in each."""
    layout = tokens[0].layout
    ids = torch.cat([t.ids for t in tokens if t.ids is not None])
    vocab = layout.segments[0].vocab or 1
    rows = [_usage("all scales", ids, vocab, kind="floor", at_least=USAGE)]
    for segment, part in zip(layout.segments, ids.split([s.count for s in layout.segments], 1), strict=True):
        rows.append(_usage("x".join(map(str, segment.shape)), part, vocab, note=f"of {part.numel()} tokens"))
    return rows


def _usage(name: str, ids: Tensor, vocab: int, **changes: object) -> Row:
    return Row(group="b", name=f"codebook usage, {name}", value=len(ids.unique()) / vocab, n=len(ids), **changes)  # type: ignore[arg-type]


def _target(source: str, metric: str) -> dict[str, object]:
    bar = TARGETS.get((source, metric))
    return {"kind": "target", **bar} if bar else {}
