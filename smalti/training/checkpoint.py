"""Checkpoints a run resumes from exactly: weights, averages, optimizer moments, step and elapsed time in one file.

Random numbers need no saving: every draw is a function of seed and step (`smalti.data.counter`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smalti.files import read_tensors, write_tensors
from smalti.training.ema import EMA

FORMAT = "smalti-checkpoint/1"
NAME = "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run stands."""

    step: int = 0
    """Optimizer steps made."""
    elapsed: float = 0.0
    """Seconds of training, over all resumes."""
    skipped: int = 0
    """Steps left out for non-finite gradients."""
    evaluated: int = 0
    """Validations made."""


def save(
    path: Path,
    *,
    module: nn.Module,
    ema: EMA,
    optimizers: Mapping[str, torch.optim.Optimizer],
    place: Place,
    recipe: Any,
) -> None:
    """Writes a whole checkpoint or leaves the one before."""
    tensors = {f"model/{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"ema/{k}": v for k, v in ema.averages.items()}
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
    header = {"format": FORMAT, "place": json.dumps(vars(place)), "recipe": json.dumps(recipe)}
    write_tensors(path, {key: value.detach().cpu() for key, value in tensors.items()}, header)


def restore(
    path: Path, *, module: nn.Module, ema: EMA, optimizers: Mapping[str, torch.optim.Optimizer], recipe: Any
) -> Place:
    """Loads a checkpoint into place and returns where it stood.

    Errors: FileNotFoundError, ValueError for a file that is no checkpoint, or one of another recipe (what differs).
    """
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is not a training checkpoint ({FORMAT})")
    _check_recipe(path, json.loads(header["recipe"]), recipe)
    _fill(module.state_dict(), _below(tensors, "model"), path)
    _fill(ema.averages, _below(tensors, "ema"), path)
    for name, optimizer in optimizers.items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, name).items():
            index, _, moment = key.partition("/")
            like = parameters[int(index)]
            if value.shape == like.shape:  # the fused optimizer needs moments laid out in memory as the weights are
                value = torch.empty_like(like).copy_(value)
            state.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Place(**json.loads(header["place"]))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{prefix}/"): value for key, value in tensors.items() if key.startswith(f"{prefix}/")}


@torch.no_grad()
def _fill(to: Mapping[str, Tensor], values: Mapping[str, Tensor], path: Path) -> None:
    wrong = sorted(to.keys() ^ values.keys()) or [k for k in to if to[k].shape != values[k].shape]
    if wrong:
        raise ValueError(f"{path} is of another model: {len(wrong)} tensors differ, such as {', '.join(wrong[:3])}")
    for key, value in to.items():
        value.copy_(values[key])


def _check_recipe(path: Path, then: Any, now: Any) -> None:
    """The model, objective and data must be what they were; budgets and rates may be changed on purpose."""
    wrong = [key for key in ("role", "family", "model", "objective", "data") if then.get(key) != now.get(key)]
    if wrong:
        raise ValueError(
            f"{path} was made by a recipe with another {', '.join(wrong)}: resume with the same recipe, "
            "or start again in another folder"
        )
