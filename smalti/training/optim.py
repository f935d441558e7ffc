"""AdamW and Muon groups, the learning-rate schedule, and one optimizer step that leaves bad gradients out."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from smalti.training.recipe import TrainingConfig


def adamw(
    module: nn.Module, config: TrainingConfig, *, learning_rate: float | None = None, leave_out: Sequence[Tensor] = ()
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; 1-D ones and those named in `no_decay` are not decayed."""
    decayed, plain, others = [], [], {id(p) for p in leave_out}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and id(parameter) not in others:
            exempt = parameter.ndim < 2 or any(part in name for part in config.no_decay)
            (plain if exempt else decayed).append(parameter)
    rate = config.learning_rate if learning_rate is None else learning_rate
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    for group in groups:
        group["peak"] = rate
    return torch.optim.AdamW(groups, lr=rate, betas=config.betas, fused=True)


def muon_parameters(module: nn.Module, config: TrainingConfig) -> list[Tensor]:
    """The matrices that Muon trains: 2-D weights whose name contains one of `muon`."""
    named = module.named_parameters()
    return [p for n, p in named if p.requires_grad and p.ndim == 2 and any(part in n for part in config.muon)]


def muon(parameters: Sequence[Tensor], config: TrainingConfig) -> torch.optim.Optimizer:
    """Muon (momentum orthogonalized by Newton-Schulz steps), its update scaled to the size of AdamW's (2502.16982)."""
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"torch {torch.__version__} has no Muon: use torch 2.9 or later, or set training.muon=[]")
    rate = config.muon_learning_rate
    groups = [{"params": list(parameters), "peak": rate}]
    settings = {"weight_decay": config.weight_decay, "momentum": 0.95, "adjust_lr_fn": "match_rms_adamw"}
    return torch.optim.Muon(groups, lr=rate, **settings)


def rate_factor(config: TrainingConfig, step: int, progress: float) -> float:
    """Learning rate as a share of its peak after `step` steps and a share `progress` (0..1) of the budget.

    cosine: final + (1 - final) (1 + cos(pi p)) / 2; linear: 1 until `hold`, then down to final at p = 1.
    """
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    p = min(max(progress, 0.0), 1.0)
    if config.schedule == "cosine":
        decay = (1 + math.cos(math.pi * p)) / 2
    else:
        decay = 1.0 if p <= config.hold else (1 - p) / (1 - config.hold)
    return warm * (config.final + (1 - config.final) * decay)


def set_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Sets every group to its peak times `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def guarded_step(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Sequence[Tensor], clip: float
) -> tuple[Tensor, Tensor]:
    """Clips and steps; a non-finite gradient norm leaves the weights as they were.

    Returns (gradient norm before clipping, 1.0 if the step was left out), on the device: nothing waits for it. The
    fused AdamW skips by itself where `found_inf` is set, as it does for gradient scaling; others get zero gradients.
    """
    norm = nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
    bad = (~torch.isfinite(norm)).float()
    for optimizer in optimizers:
        if isinstance(optimizer, torch.optim.AdamW):
            optimizer.found_inf = bad  # type: ignore[attr-defined]
            optimizer.grad_scale = None  # type: ignore[attr-defined]
        else:
            for p in (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None):
                p.grad = torch.where(bad > 0, 0.0, p.grad)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norm, bad
