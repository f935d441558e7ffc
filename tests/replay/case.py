"""A golden case: weights, inputs and outputs made by the authors' code, and the account of what was compared."""

import json
import re
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

LEDGER: dict[tuple[str, str], tuple[int, int, int]] = {}
"""(family, case) -> tensors compared, used as input, ignored."""


class Case:
    """One folder of goldens/<family>/<case>/."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.family, self.name = folder, folder.parent.name, folder.name
        self.config = json.loads((folder / "config.json").read_text())
        self.io = load_file(folder / "io.safetensors")
        self.notes = (folder / "NOTES.md").read_text()
        self._compared: set[str] = set()
        self._used: set[str] = set()
        self._ignored: dict[str, str] = {}

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The official state dict."""
        return load_file(self.folder / "weights.safetensors")

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The state dict under a prefix."""
        return {k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)}

    def input(self, name: str) -> Tensor:
        """A stored tensor that is fed to our code."""
        self._used.add(name)
        return self.io[name]

    def matching(self, pattern: str) -> list[re.Match[str]]:
        """Matches of a full-name pattern over the stored tensors: settings stand in the names."""
        return [m for name in sorted(self.io) if (m := re.fullmatch(pattern, name))]

    def note(self, pattern: str) -> str:
        """A setting written in NOTES.md only."""
        found = re.search(pattern, self.notes)
        assert found, f"NOTES.md of {self.name} has no {pattern!r}"
        return found[1]

    def ignore(self, name: str, reason: str) -> None:
        """A stored tensor that is not compared, and why."""
        assert reason
        self._ignored[name] = reason

    def equal(self, name: str, ours: Tensor) -> None:
        """Ids must be equal."""
        self._compared.add(name)
        theirs = self.io[name]
        assert ours.shape == theirs.shape, f"{name}: {list(ours.shape)} against {list(theirs.shape)}"
        assert torch.equal(ours, theirs), f"{name}: {int((ours != theirs).sum())} of {theirs.numel()} ids differ"

    def close(self, name: str, ours: Tensor, tolerance: float = 1e-5) -> None:
        """Floats must agree to `tolerance` times the tensor's scale (its largest magnitude, at least 1)."""
        self._compared.add(name)
        theirs = self.io[name]
        ours = ours.reshape(1) if ours.ndim == 0 else ours
        assert ours.shape == theirs.shape, f"{name}: {list(ours.shape)} against {list(theirs.shape)}"
        error = (ours.float() - theirs).abs().max() / theirs.abs().max().clamp_min(1)
        assert error <= tolerance, f"{name}: differs by {error:.1e} of its scale, allowed {tolerance:.0e}"

    def close_clamped(self, name: str, images: Tensor, tolerance: float = 1e-5) -> None:
        """Decoded images must be the stored ones clamped to [0, 1], to `tolerance` times the scale before clamping."""
        theirs = self.io[name]
        error = (images - theirs.clamp(0, 1)).abs().max() / theirs.abs().max().clamp_min(1)
        assert error <= tolerance, f"{name}, clamped: differs by {error:.1e} of its scale, allowed {tolerance:.0e}"

    def settle(self) -> None:
        """Every stored tensor must have been used, compared, or ignored with a reason."""
        left = set(self.io) - self._compared - self._used - set(self._ignored)
        assert not left, f"{self.family}/{self.name}: tensors nobody looked at: {sorted(left)}"
        LEDGER[self.family, self.name] = (len(self._compared), len(self._used - self._compared), len(self._ignored))
